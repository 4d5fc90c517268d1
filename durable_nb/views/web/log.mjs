// What a run's task printed and logged, as it comes.

import { h, replace } from "./dom.mjs";
import { counted, moment } from "./words.mjs";

const LOUD = { WARNING: "wait", ERROR: "bad", CRITICAL: "bad" };

/** The keys of lines, in the order in which they were said. */
export function lineKeys(keys) {
  return [...keys].filter((key) => key.startsWith("l/")).sort((one, other) => Number(one.slice(2)) - Number(other.slice(2)));
}

function make(host) {
  const list = h("div", { class: "dnb-lines", role: "log", "aria-label": "Log of the run", tabindex: "0" });
  const note = h("p", { class: "dnb-num dnb-log-note", hidden: true });
  const empty = h("p", { class: "dnb-num dnb-empty" }, "The run has said nothing. What its task prints or logs stands here.");
  const element = h("div", {}, note, list, empty);
  const drawn = new Map();

  function line([at, attempt, level, number, text]) {
    const loud = LOUD[level];
    return h(
      "div",
      { class: "dnb-log-said" },
      h("time", { title: moment(at, { exact: true }) }, moment(at).slice(11)),
      h("span", { class: "dnb-num dnb-lineno" }, number === null ? "" : `line ${number}`),
      h("span", { class: "dnb-what" }, level === "INFO" ? null : h("b", { class: loud ? `dnb-text-${loud}` : "dnb-num" }, `${level.toLowerCase()} `), attempt > 1 ? `(attempt ${attempt}) ` : "", text),
    );
  }

  function update(items, keys) {
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    for (const key of keys) {
      if (key.startsWith("l/") && !items.has(key)) {
        drawn.get(key)?.remove();
        drawn.delete(key);
      }
    }
    for (const key of lineKeys(keys)) {
      if (!items.has(key) || drawn.has(key)) continue;
      drawn.set(key, line(items.get(key)));
      list.append(drawn.get(key));
    }
    const all = items.get("run")?.lines ?? drawn.size;
    empty.hidden = drawn.size > 0;
    list.hidden = drawn.size === 0;
    note.hidden = all <= drawn.size;
    replace(note, `The last ${counted(drawn.size, "line")} of ${all.toLocaleString("en")}; all with %durable log.`);
    if (follows) list.scrollTop = list.scrollHeight;
  }
  return { element, update, close: () => {} };
}

export const logTab = { name: "log", label: "Log", make };
