// The panels below the stream: freshness, lag, tasks, what happened, settings.

import { byId, draw, make, put, putWords } from "./dom.js";
import * as format from "./format.js";

const FRESH_S = 2;
const LATE_S = 5;
const SCALE = [0.01, 1000]; // seconds at the ends of the freshness scale

/** Show all of them. */
export function showPanels(data) {
  showFreshness(data.freshness);
  showLags(data.lag.partitions);
  showTasks(data.tasks);
  showRecent(data.recent);
  showSettings(data.settings);
}

// --- freshness ---

const SINCE = { kafka: "since the event", write: "since the database write" };
const scales = Object.fromEntries(Object.keys(SINCE).map((since) => [since, makeScale(since)]));

function makeScale(since) {
  const figure = make("figure", "scale");
  const caption = make("figcaption", "", SINCE[since]);
  const values = make("span", "values", "–");
  caption.append(values);
  const picture = draw("svg", { viewBox: "0 0 400 34", preserveAspectRatio: "none", "aria-hidden": "true" });
  const zone = (from, to, name) =>
    draw("rect", { x: place(from), width: place(to) - place(from), y: 12, height: 10, class: name });
  picture.append(
    zone(SCALE[0], FRESH_S, "zone good"),
    zone(FRESH_S, LATE_S, "zone warn"),
    zone(LATE_S, SCALE[1], "zone bad"),
  );
  const range = draw("rect", { y: 10, height: 14, rx: 3, class: "range", width: 0, x: 0 });
  picture.append(range);
  const ticks = make("div", "ticks");
  for (const [at, name] of [[0.01, "10 ms"], [0.1, "100 ms"], [FRESH_S, "2 s"], [LATE_S, "5 s"], [60, "1 min"], [1000, "17 min"]]) {
    const tick = make("span", at === FRESH_S || at === LATE_S ? "mark" : "", name);
    tick.style.left = `${place(at) / 4}%`;
    ticks.append(tick);
  }
  figure.append(caption, picture, ticks);
  byId("freshness").append(figure);
  return { range, values };
}

/** The position of a number of seconds on the scale, 0 to 400. */
function place(value) {
  const [low, high] = SCALE.map(Math.log10);
  const share = (Math.log10(Math.min(Math.max(value, SCALE[0]), SCALE[1])) - low) / (high - low);
  return 400 * share;
}

function showFreshness(freshness) {
  for (const [since, { range, values }] of Object.entries(scales)) {
    const { p50_s: p50, p95_s: p95 } = freshness[since];
    if (p50 == null) {
      range.setAttribute("width", 0);
      const isMute = since === "write" && freshness.kafka.count > 0;
      put(values, isMute ? "the events have no write time" : "no page in the last minute");
      continue;
    }
    const [from, to] = [place(p50), place(p95)];
    range.setAttribute("x", from - 2);
    range.setAttribute("width", Math.max(to - from, 0) + 4);
    put(values, `p50 ${format.seconds(p50)} · p95 ${format.seconds(p95)}`);
  }
  const p95 = freshness.kafka.p95_s;
  const mood = p95 == null ? "none" : p95 <= FRESH_S ? "good" : p95 <= LATE_S ? "warn" : "bad";
  byId("fresh-figure").dataset.mood = mood;
  put(byId("fresh-words"), moodText(mood));
}

function moodText(mood) {
  return {
    none: "The bar shows p50 to p95; the marks are at 2 s and 5 s.",
    good: "Fresh: 95 of 100 pages are in their outputs within 2 s.",
    warn: "Slower than 2 s, but within 5 s.",
    bad: "Late: more than 5 of 100 pages take longer than 5 s.",
  }[mood];
}

// --- lag ---

const lagRows = new Map();

function showLags(partitions) {
  const most = Math.max(1, ...partitions.map(({ lag }) => lag ?? 0));
  const body = byId("lags");
  for (const one of partitions) {
    const row = lagRows.get(one.partition) ?? addLagRow(body, one.partition);
    row.bar.setAttribute("width", (100 * (one.lag ?? 0)) / most);
    put(row.lag, format.count(one.lag));
    put(row.open, format.count(one.open));
    put(row.worker, one.worker == null ? "–" : `${one.worker}`);
  }
  byId("no-lags").hidden = partitions.length > 0;
  const present = new Set(partitions.map(({ partition }) => partition));
  for (const [number, { row }] of lagRows) {
    if (present.has(number)) continue;
    row.remove();
    lagRows.delete(number);
  }
}

function addLagRow(body, number) {
  const row = make("tr");
  const head = make("th", "", `${number}`);
  head.scope = "row";
  const cells = ["wide", "", "", ""].map((name) => make("td", name));
  const picture = draw("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const bar = draw("rect", { height: 8, width: 0, class: "bar" });
  picture.append(draw("rect", { height: 8, width: 100, class: "track" }), bar);
  cells[0].append(picture);
  row.append(head, ...cells);
  const next = [...lagRows].find(([other]) => other > number)?.[1].row ?? null;
  body.insertBefore(row, next);
  const [, lag, open, worker] = cells;
  const entry = { row, bar, lag, open, worker };
  lagRows.set(number, entry);
  return entry;
}

// --- tasks ---

function showTasks(tasks) {
  const { workers, workers_seen: seen, process, processes } = tasks;
  put(byId("workers"), seen < workers ? `${seen} of ${workers} running` : `${workers} running`);
  byId("process-of").hidden = processes < 2;
  put(byId("process-text"), `${process + 1} of ${processes}`);
}

// --- what happened ---

let newestShown = null;

function showRecent(recent) {
  const newest = recent.length ? `${recent[0].at}:${recent[0].number}` : "";
  if (newest === newestShown) return;
  newestShown = newest;
  const list = byId("recent");
  if (!recent.length) {
    list.replaceChildren(make("li", "none", "Nothing to report since the start."));
    return;
  }
  list.replaceChildren(...recent.map(happening));
}

const KINDS = { warning: "warning", error: "error", "dead-letter": "dead letter" };

function happening({ at, since, times, level, source, text, facts }) {
  const item = make("li", level);
  const time = make("time", "", format.when(at));
  time.dateTime = new Date(at * 1000).toISOString();
  const tag = make("p", "tag");
  tag.append(make("b", "", `${KINDS[level] ?? level} `), make("span", "", source));
  const words = make("div", "words");
  const line = make("p", "", text);
  if (times > 1) line.append(make("span", "times", `× ${format.count(times)} since ${format.when(since)}`));
  words.append(line);
  const { remedy, ...others } = facts;
  if (remedy) {
    const what = make("p", "remedy");
    putWords(what, `What to do: ${remedy}`);
    words.append(what);
  }
  if (Object.keys(others).length) words.append(factList(Object.entries(others)));
  item.append(time, tag, words);
  return item;
}

function factList(facts) {
  const list = make("p", "facts-line");
  for (const [name, value] of facts) {
    const fact = make("span");
    fact.append(make("i", "", `${name} `), document.createTextNode(value));
    list.append(fact, " ");
  }
  return list;
}

// --- settings ---

let settingsShown = "";

function showSettings(settings) {
  const now = JSON.stringify(settings);
  if (now === settingsShown) return;
  settingsShown = now;
  const rows = Object.entries(settings).map(([name, value]) => {
    const row = make("div", value === "" ? "unset" : "");
    row.append(make("dt", "", name), make("dd", "", value === "" ? "not set" : value));
    return row;
  });
  byId("settings").replaceChildren(...rows);
}
