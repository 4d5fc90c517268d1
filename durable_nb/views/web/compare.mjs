// Two histories side by side: a list of checkpoints in which equal stretches are folded, and the differences of the one that is picked.

import { h, replace, uniqueId } from "./dom.mjs";
import { compareWords, folded, row, seen } from "./history.mjs";
import { counted } from "./words.mjs";

const HEIGHT = 44;
const MOST = 352;
const SIGNS = { same: "=", asks: "≠", outcomes: "≠", first: "−", second: "+" };
const WORDS = {
  same: "the same",
  asks: "another thing was asked",
  outcomes: "another outcome was recorded",
  first: "only on the left",
  second: "only on the right",
};

/** Make the comparison. `picked(node)` when a row's checkpoint is wanted at the left, `closed()` when it is put away. */
export function comparison({ picked, closed }) {
  const words = h("span", { class: "dnb-compare-words", role: "status" });
  const left = h("span", { class: "dnb-side-name" });
  const right = h("span", { class: "dnb-side-name" });
  const rowsIn = h("div", { class: "dnb-rows-in" });
  const list = h("div", { class: "dnb-rows", role: "listbox", tabindex: "0", "aria-label": "Checkpoints of both histories", scroll: () => draw(), keydown });
  const detail = h("div", { class: "dnb-differences", role: "region", "aria-label": "Differences", hidden: true });
  const element = h(
    "section",
    { class: "dnb-compare", "aria-label": "Comparison", hidden: true },
    h("div", { class: "dnb-pane-head" }, words, h("span", { class: "dnb-space" }), h("button", { type: "button", click: () => jump() }, "First difference"), h("button", { type: "button", click: () => closed() }, "Close")),
    h("div", { class: "dnb-replay-row dnb-row-head", "aria-hidden": "true" }, h("span", {}), h("span", {}), left, right),
    list,
    detail,
  );
  list.append(rowsIn);
  let all = [];
  let shown = [];
  let opened = new Set();
  let at = -1;

  function keydown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Enter") open(at);
    else select(Math.max(0, Math.min(shown.length - 1, at + step)));
  }

  function open(place) {
    const one = shown[place];
    if (!one) return;
    if (one.kind === "folded") {
      opened.add(one.node);
      fold();
      select(place);
    } else if (one.first) picked(one.node);
  }

  function select(place) {
    at = place;
    const top = place * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    draw();
    differences(shown[place]);
  }

  function jump() {
    const place = shown.findIndex((one) => one.kind !== "same" && one.kind !== "folded");
    if (place < 0) return;
    select(place);
    list.scrollTop = Math.max(0, place * HEIGHT - HEIGHT);
    list.focus();
  }

  function fold() {
    shown = folded(all, opened);
    rowsIn.style.height = `${shown.length * HEIGHT}px`;
    list.style.height = `${Math.min(MOST, shown.length * HEIGHT)}px`;
  }

  function side(item, kind) {
    if (!item) return h("span", { class: "dnb-side-cell dnb-none" }, "—");
    return h(
      "span",
      { class: "dnb-side-cell" },
      h("span", { class: kind === "asks" ? "dnb-differs" : "" }, item.ask, item.line === null ? "" : h("span", { class: "dnb-num" }, ` line ${item.line}`)),
      h("span", { class: `dnb-gave${kind === "outcomes" || item.state === "failed" ? " dnb-differs" : ""}` }, item.gave || item.state),
    );
  }

  function line(one, place) {
    const set = { role: "option", id: `${id}-${place}`, "aria-selected": String(place === at), click: () => (place === at || one.kind === "folded" ? open(place) : select(place)) };
    const kind = `dnb-replay-row dnb-row-${one.kind}${place === at ? " dnb-row-at" : ""}`;
    const element =
      one.kind === "folded"
        ? h("div", { ...set, class: kind, "aria-label": `${counted(one.count, "checkpoint")} the same, open with Enter` }, h("span", {}, "⋯"), h("span", { class: "dnb-num" }, ""), h("span", { class: "dnb-num" }, `${one.node}–${one.last}: ${counted(one.count, "checkpoint")} the same`))
        : h("div", { ...set, class: kind, "aria-label": `checkpoint ${one.node}: ${WORDS[one.kind]}` }, h("span", { class: "dnb-sign-cell", title: WORDS[one.kind] }, SIGNS[one.kind]), h("span", { class: "dnb-num" }, String(one.node)), side(one.first, one.kind), side(one.second, one.kind));
    element.style.top = `${place * HEIGHT}px`;
    return element;
  }

  const id = uniqueId();
  function draw() {
    const { first, last } = seen(shown.length, list.scrollTop, list.clientHeight || MOST, HEIGHT);
    replace(rowsIn, shown.slice(first, last).map((one, place) => line(one, first + place)));
    if (at >= first && at < last) list.setAttribute("aria-activedescendant", `${id}-${at}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function differences(one) {
    detail.hidden = !one || one.kind === "folded" || one.kind === "same";
    if (detail.hidden) return;
    const rows = one.changes.map(([path, was, is]) => h("tr", {}, h("th", { scope: "row" }, path), h("td", { class: "dnb-was" }, was || "—"), h("td", { class: "dnb-is" }, is || "—")));
    replace(
      detail,
      h("h4", {}, `Checkpoint ${one.node}: ${WORDS[one.kind]}`),
      rows.length ? h("table", { class: "dnb-changes" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "where"), h("th", { scope: "col" }, "left"), h("th", { scope: "col" }, "right"))), h("tbody", {}, rows)) : null,
      rows.length === 20 ? h("p", { class: "dnb-num" }, "and perhaps more") : null,
    );
  }

  return {
    element,
    show({ rows }, [leftName, rightName]) {
      all = rows.map(row);
      opened = new Set();
      at = -1;
      element.hidden = false;
      replace(words, compareWords(all));
      replace(left, leftName);
      replace(right, rightName);
      list.scrollTop = 0;
      fold();
      draw();
      const place = shown.findIndex((one) => one.kind !== "same" && one.kind !== "folded");
      if (place >= 0) select(place);
      else differences(null);
    },
    hide: () => (element.hidden = true),
    get isOpen() {
      return !element.hidden;
    },
  };
}
