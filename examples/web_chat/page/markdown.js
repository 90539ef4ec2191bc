// Markdown as DOM nodes. All text goes through text nodes, so that HTML in it stays text.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const QUOTE = /^ {0,3}> ?/;
const DELIMITERS = /^\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?$/;
const DEEPEST = 20; // quotes and lists in each other
// The parts of a line of text. The limits keep the time for text with many open marks linear.
const INLINE = new RegExp(
  [
    /\\(?<escaped>[!-/:-@[-`{-~])/,
    /(?<!`)(?<ticks>`{1,9})(?!`)(?<code>[^]{1,2000}?)(?<!`)\k<ticks>(?!`)/,
    /(?<url>https?:\/\/[^\s<>"'`]{1,2000}[^\s<>"'`.,:;!?)\]*_|])/,
    /!?\[(?<label>(?:[^[\]\\]|\\.){0,1000})\]\((?<href>[^\s()]{1,2000}(?:\([^\s()]*\)[^\s()]*)?)(?:\s+"[^"]{0,500}")?\)/,
    /(?<!\w)(?<strongMark>\*\*|__)(?=\S)(?<strong>[^]{1,2000}?)(?<=\S)\k<strongMark>(?!\w)|\*\*(?=\S)(?<strong2>[^]{1,2000}?)(?<=\S)\*\*/,
    /(?<!\w)_(?=\S)(?<em>[^_]{1,2000}?)(?<=\S)_(?!\w)|\*(?=[^\s*])(?<em2>[^*]{1,2000}?)(?<=\S)\*(?!\*)/,
    /~~(?=\S)(?<del>[^]{1,2000}?)(?<=\S)~~/,
  ].map((one) => one.source).join("|"),
  "g",
);

/** Shows Markdown in an element. Blocks that have not changed since the last call keep their nodes. */
export function render(element, text) {
  const found = blocks(text.split(/\r?\n/));
  const old = element.markdown ?? [];
  const same = found.findIndex((block, number) => JSON.stringify(block) !== old[number]);
  if (same < 0 && old.length === found.length) return;
  const from = same < 0 ? found.length : same;
  while (element.children.length > from) element.lastChild.remove();
  element.append(...found.slice(from).map(toNode));
  element.markdown = found.map((block) => JSON.stringify(block));
}

const isOther = (line) => [FENCE, HEADING, RULE].some((mark) => mark.test(line));

/** Splits lines into blocks. Beyond a depth, marks of quotes and lists are text. */
function blocks(lines, depth = 0) {
  const [isQuote, isItem] = [QUOTE, ITEM].map((mark) => (line) => depth < DEEPEST && mark.test(line));
  const found = [];
  let at = 0;
  const take = (test) => {
    const start = at;
    while (at < lines.length && test(lines[at])) at += 1;
    return lines.slice(start, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const [, fence, language] = FENCE.exec(line) ?? [];
    const heading = HEADING.exec(line);
    if (!line.trim()) {
      at += 1;
    } else if (fence) {
      at += 1;
      const body = take((one) => !(one.trim().startsWith(fence) && !one.trim().slice(fence.length).trim(fence[0])));
      at += 1;
      found.push({ type: "code", language, text: body.join("\n") });
    } else if (heading) {
      at += 1;
      found.push({ type: "heading", level: heading[1].length, text: heading[2] });
    } else if (RULE.test(line)) {
      at += 1;
      found.push({ type: "rule" });
    } else if (isQuote(line)) {
      const quoted = take(isQuote).map((one) => one.replace(QUOTE, ""));
      found.push({ type: "quote", blocks: blocks(quoted, depth + 1) });
    } else if (isItem(line)) {
      found.push(list(line, take, depth + 1));
    } else if (line.includes("|") && DELIMITERS.test(lines[at + 1] ?? "")) {
      found.push({ type: "table", rows: take((one) => one.includes("|")).map(cells) });
    } else {
      at += 1;
      const isText = (one) => one.trim() && !isQuote(one) && !isItem(one) && !isOther(one);
      found.push({ type: "text", text: [line, ...take(isText)].join("\n").trim() });
    }
  }
  return found;
}

/** Takes a list: lines that begin an item of the same kind, and those that are indented below it. */
function list(line, take, depth) {
  const isOrdered = /\d/.test(ITEM.exec(line)[2]);
  const items = [];
  let blank = false;
  take((one) => {
    const [mark, , bullet] = ITEM.exec(one) ?? [];
    const item = items.at(-1);
    if (bullet && /\d/.test(bullet) === isOrdered && !(item && one.search(/\S/) >= item.indent)) {
      const indent = Math.min(mark.length, one.search(/\S/) + bullet.length + 1);
      items.push({ indent, lines: [one.slice(mark.length)] });
    } else if (one.trim() && one.search(/\S/) < item.indent && (blank || bullet || isOther(one))) {
      return false;
    } else {
      item.lines.push(one.slice(Math.min(item.indent, Math.max(one.search(/\S/), 0))));
    }
    blank = !one.trim();
    return true;
  });
  const start = isOrdered ? parseInt(line, 10) : null;
  return { type: "list", start, items: items.map((item) => blocks(item.lines, depth)) };
}

const cells = (row) =>
  row.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function make(tag, children = [], properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function toNode(block) {
  if (block.type === "code") {
    const label = `Code${block.language ? `, ${block.language}` : ""}`;
    return make("pre", [make("code", [block.text])], { tabIndex: 0, role: "region", ariaLabel: label });
  }
  if (block.type === "heading") return make(`h${Math.min(block.level + 2, 6)}`, inline(block.text));
  if (block.type === "rule") return make("hr");
  if (block.type === "quote") return make("blockquote", block.blocks.map(toNode));
  if (block.type === "table") return table(block.rows);
  if (block.type === "text") return make("p", inline(block.text));
  const items = block.items.map(([first, ...others]) => {
    const start = first?.type === "text" ? inline(first.text) : first ? [toNode(first)] : [];
    return make("li", [...start, ...others.map(toNode)]);
  });
  return block.start === null ? make("ul", items) : make("ol", items, { start: block.start });
}

function table([head, delimiters, ...rows]) {
  const row = (tag, texts) => make("tr", head.map((_, column) => {
    const cell = make(tag, inline(texts[column] ?? ""));
    if (/-:$/.test(delimiters[column] ?? "")) cell.className = "right";
    return cell;
  }));
  const made = make("table", [make("thead", [row("th", head)]), make("tbody", rows.map((texts) => row("td", texts)))]);
  return make("div", [made], { className: "table", tabIndex: 0, role: "region", ariaLabel: "Table" });
}

/** Returns the nodes of a line of text. */
function inline(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    const { escaped, code, url, label, href, strong, strong2, em, em2, del } = match.groups;
    if (match.index > at) nodes.push(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (escaped) nodes.push(escaped);
    else if (code) nodes.push(make("code", [code.replace(/^ (.*[^ ].*) $/s, "$1").replaceAll("\n", " ")]));
    else if (url || href) nodes.push(...link(url ?? href, label === undefined ? [url] : inline(label), match[0]));
    else if (strong || strong2) nodes.push(make("strong", inline(strong ?? strong2)));
    else if (em || em2) nodes.push(make("em", inline(em ?? em2)));
    else nodes.push(make("del", inline(del)));
  }
  return [...nodes, text.slice(at)];
}

/** Returns a link of http or https. Any other stays as it was written. */
function link(href, children, source) {
  if (!/^https?:\/\//i.test(href) || !URL.canParse(href)) return [source];
  return [make("a", children.length ? children : [href], { href, target: "_blank", rel: "noopener noreferrer" })];
}
