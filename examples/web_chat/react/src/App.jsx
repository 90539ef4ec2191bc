import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useEffect, useRef, useState } from "react";
import { Message, textOf } from "./Message.jsx";

const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

// The history is on the server, so that a request has only the last message.
const transport = new DefaultChatTransport({
  api: "/api/chat",
  prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
});

async function history(chat) {
  const response = await fetch(`/api/chat/${chat}`);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** Loads the history, and shows the chat. A reply whose connection was lost is picked up as after a reload. */
export function App() {
  const [chat, setChat] = useState(() => (localStorage.chat ??= newId()));
  const [found, setFound] = useState(null);
  const [failure, setFailure] = useState(null);
  const [text, setText] = useState(""); // of the next message
  const show = (loaded) => setFound({ ...loaded, key: newId() });
  useEffect(() => {
    history(chat).then(show, () => setFailure("The server cannot be reached. Load the page again."));
  }, [chat]);

  /** Shows the history anew, as soon as the server can be reached, if the question has got there. */
  async function pickUp(question) {
    for (const wait of [500, 1000, 2000, 4000, 8000]) {
      await new Promise((done) => setTimeout(done, wait));
      try {
        const loaded = await history(chat);
        if (loaded.messages.some((message) => message.id === question.id)) show(loaded);
        return;
      } catch {
        // not yet
      }
    }
  }

  const startAnew = () => {
    setFound(null);
    setChat((localStorage.chat = newId()));
  };
  if (failure) return <p role="alert" className="notice">{failure}</p>;
  if (!found) return null;
  const composer = (isRunning, onSend, onStop) =>
    <Composer text={text} setText={setText} isRunning={isRunning} onSend={onSend} onStop={onStop} />;
  return <Chat key={found.key} {...{ chat, found, pickUp, composer }} onNew={startAnew} />;
}

function Chat({ chat, found, pickUp, composer, onNew }) {
  const [isLost, setIsLost] = useState(false);
  const [told, setTold] = useState(""); // what a screen reader reads out: whole replies, as words would be noise
  const { messages, sendMessage, regenerate, status, error, clearError } = useChat({
    id: chat,
    messages: found.messages,
    resume: found.running,
    transport,
    generateId: newId,
    throttle: 50, // milliseconds between two renderings
    onFinish: async ({ message, messages, isDisconnect, isError }) => {
      setTold(textOf(message).replace(/[*_`#|]/g, ""));
      if (message.metadata?.status || (isError && !isDisconnect)) return; // over, or refused
      setIsLost(true);
      clearError();
      await pickUp(messages.findLast((one) => one.role === "user"));
      setIsLost(false);
    },
  });
  const isRunning = status === "submitted" || status === "streaming" || isLost;

  const stop = () => fetch(`/api/chat/${chat}/stop`, { method: "POST" });
  useEffect(() => {
    const onKey = (event) => event.key === "Escape" && isRunning && stop();
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  });

  const last = messages.at(-1);
  const isUnanswered = last?.role === "user";
  const replies = isUnanswered ? [...messages, { id: "waiting", role: "assistant", parts: [] }] : messages;
  return (
    <>
      <header>
        <h1>Chat</h1>
        <button type="button" className="quiet" onClick={onNew} disabled={isRunning}>New chat</button>
      </header>
      <main className={isRunning ? "busy" : undefined}>
        <Log>
          {replies.map((message, number) => (
            <Message
              key={message.id}
              message={message}
              isRunning={isRunning && number === replies.length - 1}
              {...(number === replies.length - 1 && !isRunning && { error, onRetry: () => regenerate() })}
            />
          ))}
        </Log>
        {composer(isRunning, (text) => sendMessage({ text }), stop)}
        <div className="unseen" aria-live="polite">{told}</div>
      </main>
    </>
  );
}

/** The conversation, which follows the text as long as the reader is at its end. */
function Log({ children }) {
  const log = useRef(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current) log.current.scrollTop = log.current.scrollHeight;
  });
  const onScroll = ({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
    atEnd.current = scrollHeight - scrollTop - clientHeight < 60;
  };
  return (
    <div id="log" role="log" aria-live="off" aria-label="Conversation" tabIndex={0} ref={log} onScroll={onScroll}>
      {children}
    </div>
  );
}

function Composer({ text, setText, isRunning, onSend, onStop }) {
  const onSubmit = (event) => {
    event.preventDefault();
    if (isRunning) return onStop();
    if (!text.trim()) return;
    setText("");
    onSend(text.trim());
  };
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    if (isRunning) event.preventDefault();
    else onSubmit(event);
  };
  return (
    <form onSubmit={onSubmit}>
      <label htmlFor="text" className="unseen">Message</label>
      <textarea
        id="text" rows={1} maxLength={20_000} placeholder="Ask anything" enterKeyHint="send" autoFocus
        value={text} onChange={(event) => setText(event.target.value)} onKeyDown={onKeyDown}
      />
      <button id="action" aria-label={isRunning ? "Stop" : "Send"} disabled={!isRunning && !text.trim()}>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path className="send" d="M12 19V5M5.5 11.5 12 5l6.5 6.5" />
          <rect className="stop" x="5.5" y="5.5" width="13" height="13" rx="2.5" />
        </svg>
      </button>
    </form>
  );
}
