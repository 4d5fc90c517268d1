// The states of a run: each by shape, word and colour, so that none of the three is needed to read the others.

import { s } from "./dom.mjs";

/** By name as the kernel sends it: the word, the theme's colour, and the shape in a box of 14 by 14. */
export const STATES = {
  queued: { word: "queued", colour: "off", shape: "M3 7h.01M7 7h.01M11 7h.01" },
  running: { word: "running", colour: "run", shape: "M7 2a5 5 0 1 1-4.6 3" },
  waiting: { word: "waiting", colour: "wait", shape: "M3 2h8L3 12h8z" },
  parked: { word: "parked", colour: "wait", shape: "M5 3v8M9 3v8" },
  completed: { word: "completed", colour: "ok", shape: "M2.5 7.5l3 3.5 6-8" },
  failed: { word: "failed", colour: "bad", shape: "M3 3l8 8m0-8l-8 8" },
  cancelling: { word: "cleans up, being cancelled", colour: "off", shape: "M7 2a5 5 0 1 1 0 10M4 10l6-6" },
  cancelled: { word: "cancelled", colour: "off", shape: "M7 2a5 5 0 1 1-.01 0M3.5 10.5l7-7" },
};

/** The state of a name; one that this code does not know is shown by its name. */
export function stateOf(name) {
  return STATES[name] ?? { word: String(name), colour: "off", shape: "M3 7h8" };
}

/** The sign of a state, drawn. It is decoration beside its word, so screen readers skip it unless it stands alone. */
export function sign(name, { alone = false, ...place } = {}) {
  const state = stateOf(name);
  const labels = alone ? { role: "img", "aria-label": state.word } : { "aria-hidden": "true" };
  return s(
    "svg",
    { class: `dnb-sign dnb-${state.colour}`, viewBox: "0 0 14 14", width: 14, height: 14, ...place, ...labels },
    s("path", { d: state.shape }),
  );
}
