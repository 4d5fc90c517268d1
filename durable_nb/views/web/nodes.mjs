// What stands in a node of the graph, by its kind: words are pure, faces make elements.

import { h } from "./dom.mjs";
import { sign, stateOf } from "./states.mjs";
import { counted, duration } from "./words.mjs";

const ORDER = ["completed", "failed", "cancelled", "cancelling", "parked", "waiting", "running", "queued"];
const OVER = new Set(["completed", "failed", "cancelled"]);

/** The time at the right end of a run's node. */
export function timeOf(item, now) {
  if (item.ready !== null && item.ready !== undefined) {
    const left = item.ready - now;
    return `attempt ${item.retry + 1} ${left > 0 ? `in ${duration(left)}` : "next"}`;
  }
  if (item.from === null || item.from === undefined) return item.state === "queued" ? "queued" : stateOf(item.state).word;
  const took = duration(Math.max(0, (item.to ?? now) - item.from));
  if (item.state === "running" && item.progress !== null && item.progress !== undefined) return `${Math.round(item.progress * 100)} % · ${took}`;
  return item.state === "parked" ? "parked" : took;
}

/** What a group's children are, in words: "111 of 118 completed, 3 failed, 4 running". */
export function groupWords(item) {
  const parts = ORDER.filter((state) => item.counts[state]).map((state) => `${item.counts[state].toLocaleString("en")} ${stateOf(state).word}`);
  return `${item.task}: ${counted(item.total, "run")}, ${parts.join(", ")}`;
}

/** How many of a group's children have ended. */
export function endedOf(item) {
  return [...OVER].reduce((sum, state) => sum + (item.counts[state] ?? 0), 0);
}

/** A wait's conditions in words and when it is due: groups are joined by "and", the conditions of one by "or". */
export function waitWords(item) {
  if (item.question !== null && item.question !== undefined) return [["text", `“${item.question}”`]];
  const groups = [];
  for (const condition of item.conditions) (groups[condition.group] ??= []).push(condition);
  const words = [["text", "waits for "]];
  groups.filter(Boolean).forEach((group, number) => {
    if (number) words.push(["text", " and "]);
    group.forEach((condition, place) => {
      if (place) words.push(["text", " or "]);
      if (condition.kind === "sleep") words.push(["text", condition.due === null ? "a while" : duration(condition.due - item.at)]);
      else words.push(["key", condition.key ?? condition.name]);
      if (condition.scope !== null && condition.scope !== undefined) words.push(["text", ` in ${condition.scope}`]);
      if (condition.if) words.push(["text", ` if ${condition.if}`]);
    });
  });
  return words;
}

/** How long a wait still has, in words; "" where it has for ever. */
export function leftOf(item, now) {
  const dues = item.conditions.map((condition) => condition.due).filter((due) => due !== null && due !== undefined);
  if (!dues.length) return "";
  const left = Math.min(...dues) - now;
  return left > 0 ? `${duration(left)} left` : "due";
}

/** A node in words, for those who hear it. */
export function spoken(one, now) {
  const { item } = one;
  switch (one.kind) {
    case "group":
      return groupWords(item);
    case "wait":
      return [waitWords(item).map(([, text]) => text).join(""), leftOf(item, now)].filter(Boolean).join(", ");
    case "past":
      return item.total ? `${counted(item.total, "wait")} before` : `${item.ask}, ${stateOf(item.state).word}`;
    case "pager":
      return `children ${range(item)}`;
    case "dag":
      return `graph of ${counted(one.tasks.length, "task")}`;
    case "task":
      return `${one.name}, ${one.item ? `${stateOf(one.item.state).word}, ${timeOf(one.item, now)}` : one.passed ? one.passed.join(": ") : "not asked for yet"}`;
    default:
      return [`${item.task}${item.key ? ` ${item.key}` : ""}`, stateOf(item.state).word, timeOf(item, now), item.note].filter(Boolean).join(", ");
  }
}

/** "13–24 of 118" */
export function range(item) {
  const first = item.page * item.size + 1;
  return `${first}–${Math.min(item.total, first + item.size - 1)} of ${item.total.toLocaleString("en")}`;
}

/** The theme's colour of a node's border, or "". */
export function toneOf(one) {
  if (one.kind === "run" || (one.kind === "task" && one.item)) {
    const tone = { failed: "bad", waiting: "wait", parked: "wait", running: "run" }[one.item.state];
    return tone ?? "";
  }
  return one.kind === "group" && one.item.counts.failed ? "some-bad" : "";
}

/** Whether a node's words change with time alone. */
export function isTicking(one) {
  if (one.kind === "wait") return true;
  return Boolean(one.item) && (one.kind === "run" || one.kind === "task") && !OVER.has(one.item.state);
}

function chevron(one, act) {
  const { item } = one;
  const isOpen = one.kind === "group" ? item.page !== null : item.open;
  const label = one.kind === "group" ? (isOpen ? "fold" : "unfold") : isOpen ? "hide its children" : `show its ${counted(item.kids, "child", "children")}`;
  const click = (event) => {
    event.stopPropagation();
    act.toggle(one);
  };
  const text = one.kind === "run" && !isOpen && item.kids ? item.kids.toLocaleString("en") : "";
  return h("button", { class: "dnb-chevron", type: "button", tabindex: "-1", "aria-label": label, title: label, "aria-expanded": String(Boolean(isOpen)), click }, text, h("span", { class: "dnb-graph-arrow", "aria-hidden": "true" }));
}

/** Whether a node can be opened further. */
export function opens(one, isRoot) {
  if (one.kind === "group") return true;
  return (one.kind === "run" || one.kind === "task") && !isRoot && Boolean(one.item) && (one.item.kids > 0 || (one.item.kind === "durable_task" && one.item.open));
}

/** Make what a node holds. `act` is `{ toggle(node), page(node, number) }`. */
export function face(one, now, act, isRoot) {
  const { item } = one;
  switch (one.kind) {
    case "group":
      return [
        h("div", { class: "dnb-graph-row" }, h("span", { class: "dnb-name" }, item.task, h("span", { class: "dnb-num" }, ` × ${item.total.toLocaleString("en")}`)), failedMark(item), h("span", { class: "dnb-num dnb-right" }, `${endedOf(item).toLocaleString("en")} / ${item.total.toLocaleString("en")}`), chevron(one, act)),
        bar(item),
      ];
    case "wait":
      return [h("div", { class: "dnb-graph-row" }, sign("waiting"), h("span", { class: "dnb-name" }, waitWords(item).map(([kind, text]) => (kind === "key" ? h("code", {}, text) : text))), h("span", { class: "dnb-num dnb-right" }, leftOf(item, now)))];
    case "past":
      return [h("div", { class: "dnb-graph-row" }, sign(item.state), h("span", { class: "dnb-name dnb-num" }, item.total ? `${counted(item.total, "wait")} before` : item.ask), h("span", { class: "dnb-num dnb-right" }, item.to ? `after ${duration(item.to - item.at)}` : ""))];
    case "pager":
      return [
        h("div", { class: "dnb-graph-row" }, h("span", { class: "dnb-num dnb-name" }, range(item)), turn("‹", "earlier children", item.page > 0, () => act.page(one, item.page - 1)), turn("›", "later children", item.page + 1 < item.pages, () => act.page(one, item.page + 1))),
      ];
    case "dag":
      return [h("div", { class: "dnb-num dnb-dag-title" }, `graph of ${counted(one.tasks.length, "task")}`)];
    case "task":
      return [
        h("div", { class: "dnb-graph-row" }, one.item ? sign(one.item.state) : sign(one.passed ? "cancelled" : "queued"), h("span", { class: one.item ? "dnb-name" : "dnb-name dnb-num" }, one.name, one.after ? h("span", { class: "dnb-num" }, ` after ${one.after}`) : null), h("span", { class: "dnb-num dnb-right" }, one.item ? timeOf(one.item, now) : (one.passed?.[0] ?? "")), opens(one, false) ? chevron(one, act) : null),
      ];
    default:
      return [
        h("div", { class: "dnb-graph-row" }, sign(item.state), h("span", { class: "dnb-name" }, item.task, item.key ? h("span", { class: "dnb-num" }, ` ${item.key}`) : null), h("span", { class: "dnb-num dnb-right" }, timeOf(item, now)), opens(one, isRoot) ? chevron(one, act) : null),
        item.state === "running" && item.progress !== null && item.progress !== undefined ? progress(item) : null,
      ];
  }
}

function failedMark(item) {
  if (!item.counts.failed) return null;
  return h("span", { class: "dnb-failed-mark dnb-right" }, sign("failed"), item.counts.failed.toLocaleString("en"));
}

function turn(text, label, works, click) {
  return h("button", { type: "button", tabindex: "-1", "aria-label": label, title: label, disabled: !works, class: "dnb-turn", click: (event) => (event.stopPropagation(), click()) }, text);
}

function bar(item) {
  const element = h("div", { class: "dnb-counts", "aria-hidden": "true", title: groupWords(item) });
  for (const state of ORDER) {
    if (!item.counts[state] || state === "queued") continue;
    const part = h("span", { class: `dnb-fill dnb-${stateOf(state).colour} dnb-is-${state}` });
    part.style.width = `${(100 * item.counts[state]) / item.total}%`;
    element.append(part);
  }
  return element;
}

function progress(item) {
  const part = h("span", { class: "dnb-fill dnb-run" });
  part.style.width = `${100 * Math.min(1, Math.max(0, item.progress))}%`;
  return h("div", { class: "dnb-graph-progress", "aria-hidden": "true" }, part);
}
