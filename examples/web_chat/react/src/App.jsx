import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useEffect, useRef, useState } from "react";
import { Message } from "./Message.jsx";

const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

// The history is on the server, so that a request has only the last message.
const transport = new DefaultChatTransport({
  api: "/api/chat",
  prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
});

const isOver = (message) => message?.role !== "assistant" || message.metadata?.status !== undefined;

async function history(chat) {
  const response = await fetch(`/api/chat/${chat}`);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** Loads the history, and shows the chat. */
export function App() {
  const [chat, setChat] = useState(() => (localStorage.chat ??= newId()));
  const [found, setFound] = useState(null);
  const [failure, setFailure] = useState(null);
  useEffect(() => {
    history(chat).then(setFound, () => setFailure("The server cannot be reached. Load the page again."));
  }, [chat]);
  const startAnew = () => {
    setFound(null);
    setChat((localStorage.chat = newId()));
  };
  if (failure) return <p role="alert">{failure}</p>;
  return found && <Chat key={chat} chat={chat} found={found} onNew={startAnew} />;
}

function Chat({ chat, found, onNew }) {
  const { messages, setMessages, sendMessage, regenerate, resumeStream, status, error } = useChat({
    id: chat,
    messages: found.messages,
    resume: found.running,
    transport,
    generateId: newId,
    throttle: 50, // milliseconds between two renderings
    onFinish: ({ message, isDisconnect }) => {
      if (isDisconnect || !isOver(message)) pickUp();
    },
  });
  const [isLost, setIsLost] = useState(false); // being picked up
  const isRunning = status === "submitted" || status === "streaming" || isLost;

  /** Resumes a reply whose connection was lost. It arrives from its beginning, so its half is taken away first. */
  async function pickUp() {
    setIsLost(true);
    for (const wait of [500, 1000, 2000, 4000, 8000]) {
      await new Promise((done) => setTimeout(done, wait));
      try {
        const { messages, running } = await history(chat);
        setMessages(messages);
        setIsLost(false);
        return running ? await resumeStream() : undefined;
      } catch {
        // the server cannot be reached yet
      }
    }
    setIsLost(false);
  }

  const stop = () => fetch(`/api/chat/${chat}/stop`, { method: "POST" });
  useEffect(() => {
    const onKey = (event) => event.key === "Escape" && isRunning && stop();
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  });

  const last = messages.at(-1);
  const isWaiting = isRunning && last?.role === "user";
  return (
    <>
      <header>
        <h1>Chat</h1>
        <button type="button" className="quiet" onClick={onNew} disabled={isRunning}>New chat</button>
      </header>
      <main className={isRunning ? "busy" : undefined}>
        <Log>
          {messages.map((message) => (
            <Message
              key={message.id}
              message={message}
              isRunning={isRunning && message === last}
              onRetry={message === last && !isRunning ? () => regenerate() : undefined}
            />
          ))}
          {last?.role === "user" && (
            <Message
              message={{ role: "assistant", parts: [], metadata: { errorText: error?.message } }}
              isRunning={isWaiting}
              onRetry={isWaiting ? undefined : () => regenerate()}
            />
          )}
        </Log>
        <Composer isRunning={isRunning} onSend={(text) => sendMessage({ text })} onStop={stop} />
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

function Composer({ isRunning, onSend, onStop }) {
  const [text, setText] = useState("");
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
