// Numbers for people. An unknown number is a dash, never 0.

const DASH = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A count: 1,234,567; beyond a million 1.23 M. */
export function count(value) {
  if (value == null) return DASH;
  if (Math.abs(value) >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  return whole.format(value);
}

/** A rate or a mean: three digits that matter, 0 as 0. */
export function rate(value) {
  if (value == null) return DASH;
  if (value < 0.005) return "0";
  if (value < 10) return value.toFixed(value < 1 ? 2 : 1);
  return count(value);
}

/** A latency: 840 µs, 19 ms, 3.2 s, 4 min. */
export function seconds(value) {
  if (value == null) return DASH;
  if (value < 0.0005) return value === 0 ? "0 ms" : `${Math.max(1, Math.round(value * 1e6))} µs`;
  if (value < 0.0095) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1e3)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  return span(value);
}

/** A length of time: 12 s, 4 min 10 s, 3 h 5 min, 2 d 4 h. */
export function span(value) {
  if (value == null) return DASH;
  const s = Math.max(0, Math.round(value));
  if (s < 60) return `${s} s`;
  if (s < 600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Bytes: 8.2 MB. */
export function bytes(value) {
  if (value == null) return DASH;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** A share as per cent. */
export function share(value) {
  return value == null ? DASH : `${Math.round(value * 100)} %`;
}

/** A share as per cent, with a digit behind the point below ten. */
export function percent(value) {
  return value == null ? DASH : `${(value * 100).toFixed(value < 0.0995 && value > 0 ? 1 : 0)} %`;
}

/** Processor time: per cent of one core. */
export function cores(value) {
  return value == null ? DASH : `${percent(value)} of a core`;
}

/** The time of day of seconds since 1970, in the reader's zone. */
export function clock(at) {
  return at == null ? DASH : new Date(at * 1000).toLocaleTimeString("en-GB");
}

/** The day too, where it is not today's. */
export function when(at) {
  const date = new Date(at * 1000);
  if (date.toDateString() === new Date().toDateString()) return clock(at);
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock(at)}`;
}

/** A text as it is. */
export function text(value) {
  return value == null || value === "" ? DASH : String(value);
}

/** A count whose absence means 0. */
export function count0(value) {
  return count(value ?? 0);
}
