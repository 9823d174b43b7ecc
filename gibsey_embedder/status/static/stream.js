// The stream as boxes with edges between them.

import { at, byId, draw, put } from "./dom.js";
import * as format from "./format.js";

const STATES = {
  idle: "idle",
  working: "working",
  slowest: "slowest",
  waiting: "waiting",
  held: "held up",
  faults: "received",
  none: "none",
};

const fields = [...document.querySelectorAll("[data-field]")];
const pairs = [...document.querySelectorAll("[data-pair]")];
const boxes = [...document.querySelectorAll("[data-stage]")];

/** Show every box, and every other element that names its field. */
export function showStream(data) {
  for (const element of fields) {
    const how = format[element.dataset.as ?? "text"];
    const shown = how(at(data, element.dataset.field));
    put(element, shown);
    if (how === format.text) element.title = shown; // it may be cut short
  }
  for (const element of pairs) {
    const { p50_s: p50, p95_s: p95 } = at(data, element.dataset.pair);
    put(element, p50 == null ? "–" : `${format.seconds(p50)} · ${format.seconds(p95)}`);
  }
  for (const box of boxes) {
    const { state } = data.stages[box.dataset.stage];
    box.dataset.state = state;
    put(box.querySelector("[data-badge]"), STATES[state] ?? state);
  }
  showDetails(data.stages);
  colourEdges(data.stages);
}

function showDetails({ kafka, embedder, dead_letters: deadLetters }) {
  const all = kafka.topic_partitions;
  const own = kafka.partitions.length;
  put(byId("kafka-partitions"), all == null ? "not known" : all === own ? `${all}` : `${own} of ${all}`);
  const flying = embedder.endpoints.reduce((sum, endpoint) => sum + endpoint.in_flight, 0);
  put(byId("embed-flight"), `${flying} of ${embedder.slots}`);
  const { hit = 0, miss = 0 } = embedder.cache;
  put(byId("embed-cache"), hit + miss ? format.share(hit / (hit + miss)) : "–");
  const reasons = Object.entries(deadLetters.by_reason).filter(([, n]) => n);
  put(
    byId("reasons"),
    reasons.length
      ? `${reasons.map(([reason, n]) => `${format.count(n)} ${reason}`).join(" · ")}, in ${deadLetters.topic}`
      : `Events that can never be processed go to ${deadLetters.topic || "the dead-letter topic"}.`,
  );
}

// --- edges ---

const EDGES = [
  ["kafka", "filter", "main"],
  ["filter", "window", "main"],
  ["window", "embedder", "main"],
  ["embedder", "store", "main"],
  ["embedder", "rag", "main"],
  ["filter", "dead-letters", "dead-letters"],
  ["embedder", "dead-letters", "dead-letters"],
  ["rag", "dead-letters", "dead-letters"],
];
const drawing = byId("edges");
const drawn = EDGES.map(([from, to, kind]) => {
  const path = draw("path", { class: `edge ${kind}`, fill: "none" });
  drawing.append(path);
  return { from: byId(`box-${from}`), to: byId(`box-${to}`), kind, path };
});

/** An edge is live while rows pass through it. */
function colourEdges(stages) {
  for (const { to, kind, path } of drawn) {
    const stage = stages[to.dataset.stage];
    const blocked = stage.state === "waiting";
    path.classList.toggle("live", !blocked && stage.rate_per_s > 0);
    path.classList.toggle("blocked", kind === "main" && blocked);
  }
}

function layEdges() {
  const frame = drawing.parentElement.getBoundingClientRect();
  drawing.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  for (const { from, to, kind, path } of drawn) {
    const a = from.getBoundingClientRect();
    const b = to.getBoundingClientRect();
    path.setAttribute("d", route(a, b, frame, kind));
  }
}

/** A curve from one box to the next: to the right where that is where it is, else down. */
function route(a, b, frame, kind) {
  if (kind === "dead-letters") {
    if (b.top < a.bottom) return "";
    const x = Math.min(Math.max(a.left + a.width / 2, b.left + 12), b.right - 12) - frame.left;
    const straight = a.left < b.right && b.left < a.right;
    return straight ? `M${x} ${a.bottom - frame.top}V${b.top - frame.top}` : "";
  }
  if (b.left >= a.right) {
    const [x1, y1] = [a.right - frame.left, middle(a) - frame.top];
    const [x2, y2] = [b.left - frame.left, middle(b) - frame.top];
    const bend = (x2 - x1) / 2;
    return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  const [x1, y1] = [a.left + a.width / 2 - frame.left, a.bottom - frame.top];
  const [x2, y2] = [b.left + b.width / 2 - frame.left, b.top - frame.top];
  const bend = (y2 - y1) / 2;
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
}

const middle = (box) => box.top + box.height / 2;

new ResizeObserver(layEdges).observe(drawing.parentElement);
document.fonts?.ready.then(layEdges);

