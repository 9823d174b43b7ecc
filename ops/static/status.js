// The status page: asks /status.json each second while it is seen, and shows what came.

import { byId, put } from "./dom.js";
import * as format from "./format.js";
import { Charts } from "./charts.js";
import { showPanels } from "./panels.js";
import { showStream } from "./stream.js";
import { initTheme } from "./theme-button.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 4000;
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
};

const charts = new Charts(byId("charts"));
let latest = null;
let failedSince = null;
let restartedAt = null;
let historyAskedAt = -Infinity;
let timer = 0;

/** Ask once, show it, and come again. */
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

/** Ask for the status, and for what is new in the history where it is due. */
async function ask() {
  const now = performance.now();
  const withHistory = now - historyAskedAt >= HISTORY_EVERY_MS - 50;
  const address = withHistory ? `/status.json?history_since=${charts.newest}` : "/status.json";
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const answer = await fetch(address, { cache: "no-store", signal });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const data = await answer.json();
  if (withHistory) historyAskedAt = now;
  return data;
}

function show(data) {
  if (latest && latest.started_at !== data.started_at) restartedAt = Date.now();
  latest = data;
  failedSince = null;
  data.uptime_s = data.now - data.started_at;
  showVerdict(data);
  showStream(data);
  showPanels(data);
  if (data.history) charts.add(data.history, data.now);
  put(byId("clock"), format.clock(data.now));
}

function showVerdict(data) {
  const { level, text, to_go_s: toGo } = data.state;
  const [name, mood] = LEVELS[level] ?? [level, "neutral"];
  const stall = data.stalls[0];
  put(byId("level"), stall ? `${name} · ${format.span(stall.for_s)}` : name);
  put(byId("sentence"), text);
  put(byId("remedy"), stall?.remedy ? `What to do: ${stall.remedy}` : "");
  put(byId("to-go"), toGo == null ? "–" : toGo < 1 ? "now" : format.span(toGo));
  put(byId("to-go-unit"), toGo == null ? "not moving" : toGo ? "at this rate" : "no backlog");
  if (document.body.dataset.level !== level) {
    document.body.dataset.level = level;
    document.body.dataset.mood = mood;
    put(byId("announce"), `${name}. ${text}`);
    byId("icon").href = `/static/icons/${mood}.svg`;
    document.title = `${name} – gibsey-embedder`;
  }
}

/** Say that the worker is away, or that it came back as another process. */
function showNotice() {
  const notice = byId("notice");
  const away = failedSince !== null;
  document.body.classList.toggle("offline", away);
  if (away) {
    const forS = (Date.now() - failedSince) / 1000;
    const stale = latest ? ` The figures are those of ${format.clock(latest.now)}.` : "";
    put(notice, `The worker has not answered for ${format.span(forS)}; asking each second.${stale}`);
    document.title = "Offline – gibsey-embedder";
    document.body.dataset.level = "offline"; // so that the next answer sets everything again
  } else if (restartedAt && Date.now() - restartedAt < RESTART_SHOWN_MS) {
    put(notice, `The worker was restarted at ${format.clock(latest.started_at)}; its counts began anew.`);
  }
  notice.classList.toggle("restarted", !away);
  notice.hidden = !away && !(restartedAt && Date.now() - restartedAt < RESTART_SHOWN_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !timer) poll();
});
initTheme(byId("theme"), byId("theme-name"), () => charts.redraw());
poll();
