// Feeds bodies to the real client of AG-UI, and tells what it makes of each.
//
// Reads lines of JSON, { id, body, replay? }, and writes one line for each. `replay` is read after the body, in a second run.
import { HttpAgent } from "@ag-ui/client";

const warnings = [];
for (const name of ["warn", "error"]) console[name] = (...words) => warnings.push(words.join(" "));

async function read({ body, replay }) {
  warnings.length = 0;
  const seen = { customs: [] };
  const bodies = replay === undefined ? [body] : [body, replay];
  const headers = { "content-type": "text/event-stream" };
  const agent = new HttpAgent({ url: "http://localhost/run", threadId: "thread-1", fetch: async () => new Response(bodies.shift(), { headers }) });
  agent.messages = [{ id: "question", role: "user", content: "Hi" }];
  const subscriber = {
    onRunFinishedEvent: ({ event, outcome, pendingToolCallIds }) => void Object.assign(seen, { finished: event, outcome, pending: pendingToolCallIds }),
    onRunErrorEvent: ({ event }) => void (seen.failed = event),
    onCustomEvent: ({ event }) => void seen.customs.push([event.name, event.value]),
  };
  let raised;
  while (bodies.length > 0) {
    try {
      await agent.runAgent({ runId: "run-1" }, subscriber);
    } catch (error) {
      raised = error.message;
    }
  }
  return { ...seen, raised, messages: agent.messages, warnings: [...warnings] };
}
