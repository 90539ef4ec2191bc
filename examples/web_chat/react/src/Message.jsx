import { memo } from "react";
import Markdown from "react-markdown";
import remarkGfm from "remark-gfm";
import { statusText } from "../../page/reply.js";

// Without `rehype-raw`, HTML in a reply stays text. Links other than these get no address.
const safeUrl = (url) => (/^https?:\/\//i.test(url) ? url : undefined);
const components = {
  h1: "h3", h2: "h4", h3: "h5", h4: "h6", h5: "h6", // below the headings of the page
  a: ({ href, children }) =>
    href ? <a href={href} target="_blank" rel="noopener noreferrer">{children}</a> : children,
  img: ({ alt }) => alt, // nothing is loaded from elsewhere
  pre: ({ children }) => <pre tabIndex={0} role="region" aria-label="Code">{children}</pre>,
  table: ({ children }) => (
    <div className="table" tabIndex={0} role="region" aria-label="Table"><table>{children}</table></div>
  ),
};

const Text = memo(({ text }) => (
  <Markdown remarkPlugins={[remarkGfm]} urlTransform={safeUrl} components={components}>{text}</Markdown>
));

export const textOf = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("\n\n");

/** A message, and below a reply how it ended. */
export function Message({ message, isRunning, error, onRetry }) {
  const { role, metadata = {} } = message;
  const text = textOf(message);
  if (role === "user") {
    return <article className="user"><h2 className="unseen">You</h2><div className="body">{text}</div></article>;
  }
  const isFailed = !isRunning && metadata.status !== "complete" && metadata.status !== "interrupted";
  const status = isRunning ? "writing …" : statusText({ errorText: error?.message, ...metadata });
  return (
    <article className={`assistant ${isRunning ? "running" : ""}`} aria-busy={isRunning}>
      <h2 className="unseen">Reply</h2>
      <div className="body"><Text text={text} /></div>
      <footer className={isFailed ? "failed" : ""}>
        {status}
        {onRetry && (isFailed || metadata.status === "interrupted") && (
          <button type="button" className="quiet" onClick={onRetry}>Try again</button>
        )}
      </footer>
    </article>
  );
}
