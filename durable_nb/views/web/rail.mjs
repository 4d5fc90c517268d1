// The slider of a history: a dot for each checkpoint, and below it the lanes of the branches and forks, on the same scale.

import { h, replace, s } from "./dom.mjs";
import { dots, keyPlace, railPlace, railX } from "./history.mjs";
import { sign } from "./states.mjs";

const PAD = 9;
const SHAPES = { failed: "M-3.6 0L0-3.6L3.6 0L0 3.6Z", "given up": "M-3.5 0H3.5" };

/** Make the rail. `moved(place)` when a person moves it, `toggled()` at the space bar, `chosen(lane)` when a lane is picked. */
export function rail({ moved, toggled, chosen }) {
  const svg = s("svg", { class: "dnb-rail", height: 28, "aria-hidden": "true" });
  const slider = h("div", { class: "dnb-slider", role: "slider", tabindex: "0", "aria-label": "Position in the history", "aria-orientation": "horizontal", "aria-valuemin": "0", keydown, pointerdown }, svg);
  const label = h("span", { class: "dnb-lane-label" });
  const tree = h("div", { class: "dnb-lanes", role: "group", "aria-label": "Branches and forks" });
  const element = h("div", { class: "dnb-rails" }, label, slider, tree);
  let state = { checkpoints: [], place: 0, words: "", lanes: [] };
  let width = 0;
  let marks = [];

  const observer = new ResizeObserver(() => {
    const now = Math.max(0, slider.clientWidth - 2 * PAD);
    if (now === width || !now) return;
    width = now;
    drawRail();
    drawLanes();
  });
  observer.observe(slider);

  function keydown(event) {
    if (event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      toggled();
      return;
    }
    const next = keyPlace(event.key, state.place, state.checkpoints.length);
    if (next === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    moved(next);
  }
  function pointerdown(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    slider.focus();
    slider.setPointerCapture(event.pointerId);
    const follow = ({ clientX }) => {
      const next = railPlace(clientX - slider.getBoundingClientRect().left - PAD, state.checkpoints.length, width);
      if (next !== state.place) moved(next);
    };
    const left = () => {
      slider.removeEventListener("pointermove", follow);
      slider.removeEventListener("pointerup", left);
      slider.removeEventListener("pointercancel", left);
    };
    slider.addEventListener("pointermove", follow);
    slider.addEventListener("pointerup", left);
    slider.addEventListener("pointercancel", left);
    follow(event);
  }

  function dot({ x, state: kind, first, last }) {
    const wide = last > first;
    const element = SHAPES[kind] ? s("path", { d: SHAPES[kind], transform: `translate(${x + PAD} 14)` }) : s("circle", { cx: x + PAD, cy: 14, r: kind === "open" ? 3.6 : wide ? 3 : 3.6 });
    return { first, last, kind, element };
  }

  function drawRail() {
    svg.setAttribute("width", width + 2 * PAD);
    svg.setAttribute("viewBox", `0 0 ${width + 2 * PAD} 28`);
    marks = dots(state.checkpoints, width).map(dot);
    const end = s("path", { class: "dnb-rail-end", d: `M${width + PAD} 8v12` });
    replace(
      svg,
      s("path", { class: "dnb-rail-line", d: `M${PAD} 14H${width + PAD}` }),
      s("path", { class: "dnb-rail-past" }),
      end,
      marks.map((mark) => mark.element),
      s("circle", { class: "dnb-thumb", cy: 14, r: 7 }),
    );
    drawPlace();
  }

  function drawPlace() {
    if (!width) return;
    const x = railX(state.place, state.checkpoints.length, width) + PAD;
    svg.querySelector(".dnb-thumb")?.setAttribute("cx", x);
    svg.querySelector(".dnb-rail-past")?.setAttribute("d", `M${PAD} 14H${x}`);
    for (const mark of marks) {
      const side = mark.first < state.place ? "past" : "ahead";
      const kind = mark.kind.replace(" ", "-");
      mark.element.setAttribute("class", `dnb-dot dnb-dot-${kind} dnb-${side}`);
    }
  }

  function drawLanes() {
    const others = state.lanes.filter((one) => !one.isShown);
    tree.hidden = others.length === 0;
    if (tree.hidden || !width) {
      replace(tree);
      return;
    }
    replace(tree, others.map(lane));
  }

  function lane(one) {
    const count = state.lastNode || 1;
    const from = railX(Math.max(0, one.cut - 1), count, width) + PAD;
    const to = Math.max(from + 10, railX(Math.max(one.last, one.cut), count, width) + PAD);
    const isBeyond = one.last > count;
    const picture = s(
      "svg",
      { class: "dnb-lane-line", width: width + 2 * PAD, height: 18, viewBox: `0 0 ${width + 2 * PAD} 18`, "aria-hidden": "true" },
      one.cut > 0 ? s("path", { d: `M${from} 0C${from} 7 ${from + 3} 9 ${from + 8} 9` }) : null,
      s("path", { d: `M${one.cut > 0 ? from + 8 : from} 9H${to}${isBeyond ? "l-4 -3m4 3l-4 3" : ""}` }),
      one.isCurrent ? s("circle", { cx: to, cy: 9, r: 3 }) : null,
    );
    const words = [one.label, one.note, one.isCurrent ? "present" : ""].filter(Boolean);
    return h(
      "button",
      { type: "button", class: "dnb-lane", "aria-label": words.join(", "), title: words.join(", "), click: () => chosen(one) },
      h("span", { class: `dnb-lane-name dnb-depth-${Math.min(one.depth, 4)}` }, one.state ? sign(one.state) : null, h("b", {}, one.label), h("span", { class: "dnb-num" }, [one.note, one.isCurrent ? "present" : ""].filter(Boolean).join(", "))),
      picture,
    );
  }

  return {
    element,
    focus: () => slider.focus(),
    close: () => observer.disconnect(),
    /** Show another history: its checkpoints (by name) and lanes. */
    load(checkpoints, found, name) {
      state = { ...state, checkpoints, lanes: found, lastNode: checkpoints.at(-1)?.node ?? 0 };
      replace(label, h("b", {}, name[0]), h("span", { class: "dnb-num" }, name[1]));
      label.setAttribute("title", name.join(" "));
      slider.setAttribute("aria-valuemax", String(checkpoints.length));
      drawRail();
      drawLanes();
    },
    /** Show a place. */
    move(place, words) {
      state.place = place;
      slider.setAttribute("aria-valuenow", String(place));
      slider.setAttribute("aria-valuetext", words);
      drawPlace();
    },
  };
}
