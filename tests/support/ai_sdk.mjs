// Feeds bodies to the real `useChat` machinery of the AI SDK, and tells what it makes of each.
//
// Reads lines of JSON, { id, body | url, output?, replay?, resume? }, and writes one line for each. The
// client resumes if it is told to, or if there is a `replay` for the answer.
import { AbstractChat, DefaultChatTransport } from "ai";

class State {
  constructor(messages) {
    this.messages = messages;
    this.status = "ready";
    this.error = undefined;
  }
  pushMessage = (message) => (this.messages = [...this.messages, structuredClone(message)]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, structuredClone(message)));
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor(init) {
    super({ ...init, state: new State([]) });
  }
}

async function read({ body, url, output, replay, resume }) {
  const calls = [];
  const finishes = [];
  let posted;
  const answer = async (_, { method, body: request }) => {
    if (method === "POST") posted = JSON.parse(request);
    return new Response(method === "POST" ? body : replay, { headers: { "content-type": "text/event-stream" } });
  };
  const transport = url
    ? new DefaultChatTransport({ api: url })
    : new DefaultChatTransport({ api: "http://localhost/chat", fetch: answer });
  const chat = new Chat({
    transport,
    onToolCall: ({ toolCall }) => calls.push([toolCall.toolName, toolCall.input]),
    onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
      finishes.push({ isAbort, isDisconnect, isError, finishReason }),
  });
  await chat.sendMessage({ text: "Hi" });
  if (replay !== undefined || resume) await chat.resumeStream();
  if (output !== undefined) {
    const { toolCallId, type } = chat.messages.at(-1).parts.find((part) => part.toolCallId);
    await chat.addToolResult({ tool: type.slice("tool-".length), toolCallId, output });
    await chat.sendMessage();
  }
  return { posted, status: chat.status, error: chat.error?.message, messages: chat.messages, calls, finish: finishes.at(-1) };
}
