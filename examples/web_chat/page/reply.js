// Reads a reply of the server: the AI SDK's UI message stream, resumed wherever the connection is lost.

const SILENCE = 45_000; // milliseconds without a byte, at a ping each 15 s, after which a connection counts as lost
const WAITS = [200, 500, 1000, 2000, 3000, 4000, 5000]; // milliseconds before each attempt to resume

/** An answer that ends the matter. Its message is a sentence for the user. */
export class Refused extends Error {}

/** Returns a response with status 2xx. Throws `Refused` for an answer, another error where trying again may help. */
export async function request(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  if (response.status >= 502) throw new Error(`status ${response.status}`);
  const isText = response.headers.get("content-type")?.startsWith("text/plain");
  throw new Refused(isText ? await response.text() : "The server cannot answer this request.");
}

/** Posts JSON. */
export const post = (path, body, options) =>
  request(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), ...options,
  });

/** Yields the chunks of a reply, and `{type: "reconnecting"}` while its connection is lost. Ends where nothing is left
 * to resume: only a reply whose metadata has a status is whole. `open` makes the first request. */
export async function* follow(resumePath, open) {
  let lastId = "";
  let losses = 0;
  const resume = (options) => request(resumePath, { ...options, headers: { "last-event-id": lastId } });
  for (let connect = open ?? resume; losses <= WAITS.length; connect = resume) {
    const controller = new AbortController();
    try {
      const response = await connect({ signal: controller.signal });
      if (response.status === 204) return;
      for await (const frame of frames(response, controller)) {
        if (frame.data === "[DONE]") return;
        losses = 0;
        lastId = frame.id ?? lastId;
        yield JSON.parse(frame.data);
      }
    } catch (error) {
      if (error instanceof Refused) throw error;
    } finally {
      controller.abort();
    }
    yield { type: "reconnecting" };
    await new Promise((done) => setTimeout(done, WAITS[losses]));
    losses += 1;
  }
}

/** Yields the server-sent events of a response that have data. */
async function* frames(response, controller) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const timer = setTimeout(() => controller.abort(), SILENCE);
    const { value, done } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data) yield fields;
    }
  }
}

/** Applies a chunk to a message. */
export function apply(message, chunk) {
  if (chunk.type === "start") {
    Object.assign(message, { id: chunk.messageId, parts: [], metadata: {} });
  } else if (chunk.type === "text-start") {
    message.parts.push({ type: "text", text: "" });
  } else if (chunk.type === "text-delta") {
    message.parts.at(-1).text += chunk.delta;
  } else if (chunk.type === "error") {
    message.metadata.errorText = chunk.errorText;
  }
  Object.assign(message.metadata, chunk.messageMetadata);
}

/** Returns how a reply ended, in words. */
export function statusText({ status, stopReason, errorText, usage, usageFinal }) {
  const reasons = {
    max_tokens: "cut off by the token limit",
    model_context_window_exceeded: "cut off: the conversation is too long",
    refusal: "declined by the model",
  };
  const words = { complete: reasons[stopReason] ?? "complete", interrupted: "stopped" };
  const how = errorText ?? words[status] ?? "Connection lost: this reply is not complete.";
  if (!usage?.outputTokens) return how;
  const read = usage.inputTokens + (usage.cacheReadInputTokens ?? 0) + (usage.cacheCreationInputTokens ?? 0);
  const wrote = `${usageFinal ? "" : "at least "}${usage.outputTokens.toLocaleString("en")}`;
  return `${how} · ${read.toLocaleString("en")} in, ${wrote} out tokens`;
}
