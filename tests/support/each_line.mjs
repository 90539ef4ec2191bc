// Appended to the script of a client: calls its `read` for each line of the input, and writes what it returns.
import { readFileSync } from "node:fs";

// Node exits silently, with code 13, if only an idle connection is open. The timer keeps it alive.
const late = setTimeout(() => {
  process.stderr.write("a minute without an answer\n");
  process.exit(1);
}, 60_000);
for (const line of readFileSync(0, "utf-8").split("\n")) {
  const request = JSON.parse(line);
  console.log(JSON.stringify({ id: request.id, ...(await read(request)) }));
  late.refresh();
}
clearTimeout(late);
