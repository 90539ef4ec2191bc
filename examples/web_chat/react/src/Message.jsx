import { memo } from "react";
import Markdown from "react-markdown";
import remarkGfm from "remark-gfm";
import { statusText } from "../../page/reply.js";

// Without `rehype-raw`, HTML in a reply stays text. Links other than these get no address.
const safeUrl = (url) => (/^https?:\/\//i.test(url) ? url : undefined);
const components = {
  a: ({ href, children }) => (href ? <a href={href} target="_blank" rel="noopener noreferrer">{children}</a> : children),
  img: ({ alt }) => alt, // nothing is loaded from elsewhere
  pre: ({ children }) => <pre tabIndex={0} role="region" aria-label="Code">{children}</pre>,
  table: ({ children }) => (
    <div className="table" tabIndex={0} role="region" aria-label="Table"><table>{children}</table></div>
  ),
};

const Text = memo(({ text }) => (
  <Markdown remarkPlugins={[remarkGfm]} urlTransform={safeUrl} components={components}>{text}</Markdown>
));

/** A message, and below a reply how it ended. */
export function Message({ message, isRunning, onRetry }) {
  const { role, parts, metadata = {} } = message;
  const text = parts.filter((part) => part.type === "text").map((part) => part.text).join("\n\n");
  if (role === "user") {
    return <article className="user"><h2 className="unseen">You</h2><div className="body">{text}</div></article>;
  }
  const isFailed = !isRunning && metadata.status !== "complete" && metadata.status !== "interrupted";
  const status = isRunning ? "writing …" : statusText(metadata);
  return (
    <article className={`assistant ${isRunning ? "running" : ""}`} aria-busy={isRunning}>
      <h2 className="unseen">Reply</h2>
      <div className="body"><Text text={text} /></div>
      <footer className={isFailed ? "failed" : ""}>
        <span role="status">{status}</span>
        {onRetry && (isFailed || metadata.status === "interrupted") && (
          <button type="button" className="quiet" onClick={onRetry}>Try again</button>
        )}
      </footer>
    </article>
  );
}
