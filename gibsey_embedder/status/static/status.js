// The status page: polls /status.json every second while it is visible, and shows the response.

import { byId, put, putWords } from "./dom.js";
import * as format from "./format.js";
import { Charts } from "./charts.js";
import { showPanels } from "./panels.js";
import { showStream } from "./stream.js";
import { initTheme } from "./theme-button.js";

const EVERY_MS = 1000;
const TIMEOUT_MS = 4000;
const HISTORY_EVERY_MS = 2000;
const RESTART_SHOWN_MS = 15000;

const LEVELS = {
  idle: ["Idle", "good"],
  busy: ["Keeping up", "good"],
  behind: ["Behind", "warn"],
  fallback: ["Fallback at work", "warn"],
  starting: ["Starting", "neutral"],
  stopping: ["Stopping", "neutral"],
  waiting: ["Waiting", "bad"],
  stuck: ["Stuck", "bad"],
  offline: ["No response", "bad"],
};

const ICON_COLOURS = { good: "#1a9c5b", warn: "#d98613", bad: "#d8404b", neutral: "#7b8698" };

const charts = new Charts(byId("charts"));
let latest = null;
let failedSince = null;
let restartedAt = null;
let historyAskedAt = -Infinity;
let timer = 0;

/** Poll once, show the response, and schedule the next poll. */
async function poll() {
  timer = 0;
  if (document.hidden) return;
  const begun = performance.now();
  try {
    show(await ask());
  } catch {
    failedSince ??= Date.now();
  }
  showNotice();
  if (!document.hidden && !timer) {
    timer = setTimeout(poll, Math.max(100, EVERY_MS - (performance.now() - begun)));
  }
}

/** Request the status, with the new part of the history if it is due. */
async function ask() {
  const now = performance.now();
  const withHistory = now - historyAskedAt >= HISTORY_EVERY_MS - 50;
  const address = withHistory ? `/status.json?history_since=${charts.newest}` : "/status.json";
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(address, { cache: "no-store", signal });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  const data = await response.json();
  if (withHistory) historyAskedAt = now;
  return data;
}

function show(data) {
  if (latest && latest.started_at !== data.started_at) restartedAt = Date.now();
  latest = data;
  failedSince = null;
  data.uptime_s = data.now - data.started_at;
  [data.store] = data.outputs; // one box shows the store, whichever it is
  data.stages.store = data.stages[data.store.stage];
  showSummary(data);
  showStream(data);
  showPanels(data);
  if (data.history) charts.add(data.history, data.now);
  put(byId("clock"), format.clock(data.now));
}

function showSummary(data) {
  const { level, text, to_go_s: toGo } = data.state;
  const stall = data.stalls[0];
  say(level, stall ? ` · ${format.span(stall.for_s)}` : "", text, stall?.remedy);
  const isBlind = data.stalls.some(({ service }) => service === "kafka"); // the number of new events is unknown
  showBacklog(toGo, isBlind || data.lag.total === null);
  put(byId("lag-unit"), isBlind ? "last known" : "events");
}

/** The time until the backlog is processed; null: it does not move. */
function showBacklog(toGo, isUnknown) {
  const [figure, unit] =
    toGo == null ? ["–", isUnknown ? "not known" : "not moving"]
    : toGo === 0 ? ["none", "nothing waits"]
    : [toGo < 1 ? "< 1 s" : format.span(toGo), "at this rate"];
  put(byId("to-go"), figure);
  put(byId("to-go-unit"), unit);
}

/** Show the state where a person looks first. */
function say(level, since, text, remedy = "") {
  const [name, mood] = LEVELS[level] ?? [level, "neutral"];
  put(byId("level"), name + since);
  put(byId("sentence"), text);
  putWords(byId("remedy"), remedy ? `What to do: ${remedy}` : "");
  if (document.body.dataset.level === level) return;
  document.body.dataset.level = level;
  document.body.dataset.mood = mood;
  put(byId("announce"), `${name}. ${text}`);
  byId("icon").href = icon(ICON_COLOURS[mood]);
  document.title = `${name} – gibsey-embedder`;
}

/** The tab's icon, drawn here because a request for one would fail while the worker is down. */
function icon(colour) {
  const drawing =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="${colour}"/>` +
    '<path d="M6 10h7c5 0 4 6 9 6h4M6 22h7c5 0 4-6 9-6" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>';
  return `data:image/svg+xml,${encodeURIComponent(drawing)}`;
}

/** Show that the worker does not respond, or that it was restarted. */
function showNotice() {
  const away = failedSince !== null;
  document.body.classList.toggle("offline", away);
  if (away) showAway((Date.now() - failedSince) / 1000);
  const isBack = !away && restartedAt && Date.now() - restartedAt < RESTART_SHOWN_MS;
  const notice = byId("notice");
  if (isBack) {
    put(notice, `The worker was restarted at ${format.clock(latest.started_at)}; its counts start at 0.`);
  }
  notice.hidden = !isBack;
}

function showAway(forS) {
  const figures = latest ? `the figures are from ${format.clock(latest.now)}` : "there are no figures yet";
  say(
    "offline",
    ` · ${format.span(forS)}`,
    `The worker does not respond; ${figures}. This page tries again every second.`,
    "check whether the worker runs, and read its last log lines. Changes wait in Kafka.",
  );
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !timer) poll();
});
initTheme(byId("theme"), byId("theme-name"), () => charts.redraw());
poll();
