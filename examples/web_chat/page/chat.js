// The page: the conversation, the composer, and what a screen reader is told.

import { render } from "./markdown.js";
import { apply, follow, post, Refused, request, statusText } from "./reply.js";

const [log, composer, text, action, newChat, announcer] =
  ["log", "composer", "text", "action", "new", "announcer"].map((id) => document.getElementById(id));
const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-"); // `randomUUID` needs HTTPS

let chat = (localStorage.chat ??= newId()); // the chat that a reload shows again
let running = null; // the reply that is being received
let isLoaded = false; // the request for the history is over: a message sent earlier would be shown twice
let isAtEnd = true; // the page follows the text, unless the reader has scrolled up
const views = [];

/** A message on the page. */
class View {
  constructor(message, isLive = false) {
    this.message = message;
    this.isLive = isLive; // arrives now, so that a screen reader reads it out
    const isReply = message.role === "assistant";
    this.element = document.createElement("article");
    this.element.className = message.role;
    this.body = document.createElement("div");
    this.body.className = "body";
    this.status = document.createElement("footer");
    const heading = document.createElement("h2");
    heading.className = "unseen";
    heading.textContent = isReply ? "Reply" : "You";
    this.element.append(heading, this.body, ...(isReply ? [this.status] : []));
    this.announced = 0;
    log.append(this.element);
    views.push(this);
  }

  draw() {
    const content = this.message.parts.map((part) => part.text ?? "").join("\n\n");
    if (this.message.role === "user") {
      this.body.textContent = content;
    } else {
      render(this.body, content);
      this.drawStatus(running === this);
    }
    scrollToEnd();
  }

  drawStatus(isRunning) {
    const { metadata } = this.message;
    const failed = !isRunning && !(metadata.status === "complete" || metadata.status === "interrupted");
    this.element.ariaBusy = String(isRunning);
    this.element.classList.toggle("running", isRunning);
    this.status.classList.toggle("failed", failed);
    this.status.textContent = isRunning ? (this.progress ?? "writing …") : statusText(metadata);
    if (!isRunning && views.at(-1) === this && (failed || metadata.status === "interrupted")) {
      const again = document.createElement("button");
      again.type = "button";
      again.className = "quiet";
      again.textContent = "Try again";
      again.addEventListener("click", () => tryAgain(this));
      this.status.append(" ", again);
    }
    // A block is read out once the next one has begun: reading each word out would be noise.
    const blocks = [...this.body.children].slice(this.announced, isRunning ? -1 : undefined);
    this.announced += blocks.length;
    if (this.isLive) blocks.forEach((block) => announce(block.innerText));
  }
}

function scrollToEnd() {
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

/** Lets a screen reader read a text out. */
function announce(words) {
  const line = document.createElement("p");
  line.textContent = words;
  announcer.append(line);
  if (announcer.children.length > 20) announcer.firstChild.remove();
}

/** Shows a reply that arrives, until it is over. Without `open`, the one that is running on the server. */
async function receive(open) {
  const view = new View({ id: "", role: "assistant", parts: [], metadata: {} }, true);
  setRunning(view);
  view.draw();
  let frame = 0;
  try {
    for await (const chunk of follow(`/api/chat/${chat}/stream`, open)) {
      view.progress = chunk.type === "reconnecting" ? "connection lost, connecting again …" : undefined;
      apply(view.message, chunk);
      frame ||= requestAnimationFrame(() => { frame = 0; view.draw(); });
    }
    if (!view.message.metadata.status) await settle(view.message);
  } catch (error) {
    const isRefusal = error instanceof Refused;
    if (!isRefusal) console.error(error);
    view.message.metadata = { status: "failed", errorText: isRefusal ? error.message : undefined };
  }
  cancelAnimationFrame(frame);
  setRunning(null);
  view.draw();
  announce(statusText(view.message.metadata));
}

/** Looks for the end of a reply in the history, as there is nothing left to resume. */
async function settle(message) {
  const { messages } = await history();
  const saved = messages.find((one) => one.id === message.id);
  if (saved?.metadata.status) Object.assign(message, saved);
}

const history = async () => (await request(`/api/chat/${chat}`)).json();

async function ask(message) {
  await receive((options) => post("/api/chat", { id: chat, message }, options));
}

async function tryAgain(view) {
  views.pop();
  view.element.remove();
  action.focus(); // the button that had the focus is gone
  await ask(views.at(-1).message);
}

async function stop() {
  running.progress = "stopping …";
  running.draw();
  try {
    await post(`/api/chat/${chat}/stop`);
  } catch {
    if (running) running.progress = "could not be stopped: the server cannot be reached";
  }
}

function setRunning(view) {
  running = view;
  document.body.classList.toggle("busy", view !== null);
  action.ariaLabel = view ? "Stop" : "Send";
  resize();
}

function resize() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  action.disabled = !isLoaded || (!running && !text.value.trim());
  newChat.disabled = !isLoaded || running !== null;
}

function send() {
  const words = text.value.trim();
  if (!isLoaded || running || !words) return;
  text.value = "";
  const message = { id: newId(), role: "user", parts: [{ type: "text", text: words }] };
  new View(message);
  views.forEach((view) => view.draw()); // only the last reply can be tried again
  isAtEnd = true;
  scrollToEnd();
  ask(message);
}

/** Shows the history, and the reply that is running on the server. */
async function load() {
  let found;
  try {
    found = await history();
  } catch (error) {
    announcer.before(Object.assign(document.createElement("p"), {
      className: "notice", role: "alert",
      textContent: error instanceof Refused ? error.message : "The server cannot be reached. Load the page again.",
    }));
    return;
  } finally {
    isLoaded = true;
    resize();
  }
  found.messages.forEach((message) => new View({ metadata: {}, ...message }));
  if (!found.running && views.at(-1)?.message.role === "user") {
    new View({ id: "", role: "assistant", parts: [], metadata: {} }); // its reply was lost
  }
  views.forEach((view) => view.draw());
  if (found.running) await receive();
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) stop();
  else send();
});
log.addEventListener("scroll", () => {
  isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
});
new ResizeObserver(scrollToEnd).observe(log); // a keyboard on the screen takes half of it
text.addEventListener("input", resize);
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) stop();
});
newChat.addEventListener("click", () => {
  chat = localStorage.chat = newId();
  views.length = 0;
  log.replaceChildren();
  text.focus();
});

resize();
load();
