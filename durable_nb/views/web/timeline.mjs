// The timeline of a run: work, checkpoints, children and waits over time, idle time collapsed.
//
// A lane is drawn as a few paths, one for each look, whatever it holds; which mark is under the pointer is found in the data. The whole is one stop
// of the tab key: arrows move from mark to mark, and what a mark says stands below, where screen readers hear it.

import { h, replace, s } from "./dom.mjs";
import { lanesOf } from "./lanes.mjs";
import { packed, scaleOf, ticks } from "./scale.mjs";
import { duration, moment } from "./words.mjs";

const MATTERS = /^(run$|n\/|g\/|d\/|t\/|journey$)/;
const [ROW, LANE_GAP, TOP, LABELS, NARROW] = [15, 10, 26, 168, 560];
const MOST_ROWS = 4;
const COURSE = 30;

/** The exact times of a mark, in words. */
export function markWords(mark) {
  const times = mark.shape === "tick" && !mark.isOpen && mark.to - mark.from < 0.001 ? moment(mark.from, { exact: true }) : `${moment(mark.from, { exact: true })} to ${mark.isOpen ? "now" : moment(mark.to, { exact: true }).slice(mark.to - mark.from < 40000 ? 11 : 0)}, ${duration(mark.to - mark.from)}`;
  return { head: mark.label, times, note: [mark.note, mark.line ? `line ${mark.line}` : ""].filter(Boolean).join(", ") };
}

/** The words of a tick: seconds only where the step is that small. */
export function tickWords(at, step) {
  const text = moment(at, { exact: true });
  if (step >= 86400) return text.slice(0, 10);
  if (step < 1) return text.slice(14, step < 0.1 ? 23 : 21);
  return step >= 60 ? text.slice(11, 16) : text.slice(11, 19);
}

/** Put lanes on a scale: `{ rows: [{ lane, y, height, labelY, places: [{ mark, x0, x1, y, height }] }], height }`. */
export function arranged(lanes, scale, left, isNarrow) {
  let y = TOP;
  const rows = lanes.map((lane) => {
    if (isNarrow) y += 14;
    const x = (time) => left + scale.x(time);
    const rank = lane.course ? lane.marks.map(() => 0) : packed(lane.marks, x, lane.rows ?? MOST_ROWS);
    const height = lane.course ? COURSE : (Math.max(0, ...rank) + 1) * ROW;
    const most = lane.course ? Math.max(1, ...lane.course.n) : 1;
    const places = lane.marks.map((mark, index) => {
      const [x0, x1] = [x(mark.from), Math.max(x(mark.to), x(mark.from) + (mark.shape === "tick" ? 2 : 3))];
      if (mark.shape === "course") return { mark, x0, x1, y: y + COURSE - (COURSE * mark.n) / most, height: (COURSE * mark.n) / most };
      const [down, tall] = { thin: [5, 2], away: [4, 4], tick: [1, 10], wait: [1, 11] }[mark.shape] ?? [1, 11];
      return { mark, x0, x1, y: y + rank[index] * ROW + down, height: tall };
    });
    const row = { lane, y, height, labelY: isNarrow ? y - 4 : y + (lane.course ? 12 : ROW / 2 + 3), places };
    y += height + LANE_GAP;
    return row;
  });
  return { rows, height: y + 2 };
}

/** The place nearest to a point, within a few pixels of it; undefined where there is none. */
export function placeAt(rows, x, y) {
  const row = rows.find((one) => y >= one.y - LANE_GAP / 2 && y < one.y + one.height + LANE_GAP / 2);
  const distance = (place) => Math.max(place.x0 - x, x - place.x1, 0) + 2 * Math.max(place.y - y, y - place.y - place.height, 0);
  return row?.places.reduce((best, place) => (distance(place) < (best ? distance(best) : 18) ? place : best), undefined);
}

function make(host) {
  const picture = s("svg", { class: "dnb-time", "aria-hidden": "true" });
  const words = h("p", { class: "dnb-readout", role: "status" });
  const frame = h("div", { class: "dnb-time-frame", role: "group", tabindex: "0", "aria-label": "Timeline. Arrow keys move from mark to mark.", keydown: keyed, focus: () => pick(chosen ?? [0, 0]), blur: () => point(null), pointermove: hover, pointerleave: () => (pointed = null) ?? point(null) }, picture);
  const element = h("div", {}, frame, words);
  let rows = [];
  let scale = null;
  let left = 0;
  let chosen = null;
  let pointed = null; // where the mouse is
  let width = 0;
  let frameDue = null;
  const pointer = s("g", { class: "dnb-pointer" });

  function draw() {
    frameDue = null;
    width = frame.clientWidth;
    if (!width) return;
    const { lanes, busy } = lanesOf(host.items, host.now());
    if (!lanes.length) {
      replace(picture);
      picture.setAttribute("height", "0");
      replace(words, host.items.has("run") ? "The run has not started." : "");
      return;
    }
    const isNarrow = width < NARROW;
    left = isNarrow ? 12 : LABELS;
    scale = scaleOf(busy, width - left - 16);
    const laid = arranged(lanes, scale, left, isNarrow);
    rows = laid.rows;
    picture.setAttribute("viewBox", `0 0 ${width} ${laid.height}`);
    picture.setAttribute("width", String(width));
    picture.setAttribute("height", String(laid.height));
    replace(picture, axis(laid.height), rows.map(laneOf), pointer);
    if (pointed) point(placeAt(rows, ...pointed) ?? null, Math.max(left, pointed[0]));
    else if (document.activeElement === frame && chosen) pick(chosen);
    else hint();
  }

  function hint() {
    const idle = scale.segments.filter((part) => part.idle).reduce((sum, part) => sum + part.to - part.from, 0);
    replace(words, h("span", { class: "dnb-num" }, `${moment(scale.from)}, ${duration(scale.to - scale.from)} in all${idle ? `, ${duration(idle)} of them idle` : ""}. Point at a mark, or use the arrow keys, for its exact times.`));
  }

  function axis(height) {
    const parts = [];
    for (const tick of ticks(scale)) {
      const x = left + tick.x;
      parts.push(s("line", { class: "dnb-grid", x1: x, x2: x, y1: TOP - 8, y2: height }));
      if (x < width - 62) parts.push(s("text", { class: "dnb-tick", x: x + 4, y: 14 }, tickWords(tick.at, tick.step)));
    }
    for (const part of scale.segments) {
      if (!part.idle) continue;
      const [x0, x1] = [left + part.x0, left + part.x1];
      parts.push(s("rect", { class: "dnb-idle", x: x0, y: 0, width: x1 - x0, height }));
      parts.push(zigzag(x0, height), zigzag(x1, height));
      parts.push(s("text", { class: "dnb-tick dnb-idle-words", x: (x0 + x1) / 2, y: 14, "text-anchor": "middle" }, duration(part.to - part.from)));
    }
    return parts;
  }

  function zigzag(x, height) {
    let path = `M${x} 0`;
    for (let y = 0, side = 3; y < height; y += 6, side = -side) path += `L${x + side} ${y + 3}`;
    return s("path", { class: "dnb-zigzag", d: path });
  }

  function laneOf(row) {
    const looks = new Map();
    const texts = [];
    const written = new Map(); // by height, up to where: marks beyond the last row share it, their words do not
    for (const place of row.places) {
      const look = `${place.mark.shape} dnb-${place.mark.tone}`;
      const [w, r] = [place.x1 - place.x0, place.mark.shape === "wait" ? 5.5 : place.mark.shape === "bar" ? 2.5 : 0];
      const path = place.mark.shape === "away" || place.mark.shape === "thin" ? `M${place.x0} ${place.y + place.height / 2}H${place.x1}` : box(place.x0, place.y, w, place.height, r);
      looks.set(look, (looks.get(look) ?? "") + path);
      if (place.mark.isFailed && w > 12) looks.set("cross", `${looks.get("cross") ?? ""}M${place.x0 + 4} ${place.y + 3}l5 5m0-5l-5 5`);
      if (place.mark.shape === "wait" && w > 60 && place.x0 >= (written.get(place.y) ?? -Infinity)) {
        written.set(place.y, place.x1);
        texts.push(s("text", { class: place.mark.isOpen ? "dnb-on-wait" : "dnb-on-wait dnb-is-past", x: place.x0 + 8, y: place.y + 9 }, fitted(place.mark.text, w - 14)));
      }
    }
    const label = s("text", { class: "dnb-lane-label", x: 12, y: row.labelY }, fitted(row.lane.label, (left < 20 ? width : LABELS) - 22, 6.6));
    label.append(s("title", {}, row.lane.label));
    const most = row.lane.course ? s("text", { class: "dnb-tick", x: 12, y: row.y + 26 }, left < 20 ? "" : `${Math.max(...row.lane.course.n)} at once`) : null;
    return s("g", {}, label, most, [...looks].map(([look, path]) => s("path", { class: `dnb-timeline-mark dnb-shape-${look}`, d: path })), texts);
  }

  function point(place, x = null) {
    if (!place && x === null) {
      replace(pointer);
      if (scale) hint();
      return;
    }
    const at = x ?? place.x0;
    const parts = [s("line", { class: "dnb-hair", x1: at, x2: at, y1: 18, y2: picture.viewBox.baseVal.height })];
    if (place) parts.push(s("rect", { class: "dnb-timeline-chosen", x: place.x0 - 2, y: place.y - 2, width: place.x1 - place.x0 + 4, height: place.height + 4, rx: 4 }));
    replace(pointer, parts);
    if (!place) {
      replace(words, h("span", { class: "dnb-num" }, moment(scale.time(at - left), { exact: true })));
      return;
    }
    const said = markWords(place.mark);
    replace(words, h("b", {}, said.head), " ", h("span", {}, said.times), said.note ? h("span", { class: "dnb-num" }, ` · ${said.note}`) : null);
  }

  function hover(event) {
    if (!scale) return;
    const bounds = picture.getBoundingClientRect();
    const [x, y] = (pointed = [event.clientX - bounds.left, event.clientY - bounds.top]);
    point(placeAt(rows, x, y) ?? null, Math.max(left, x));
  }

  function pick([lane, index]) {
    if (!rows.length) return;
    const row = Math.min(rows.length - 1, Math.max(0, lane));
    const place = Math.min(rows[row].places.length - 1, Math.max(0, index));
    chosen = [row, place];
    point(rows[row].places[place]);
  }

  function keyed(event) {
    if (!rows.length || event.altKey || event.ctrlKey || event.metaKey) return;
    const [lane, index] = chosen ?? [0, 0];
    const beside = (row) => {
      const to = rows[Math.min(rows.length - 1, Math.max(0, row))];
      const x = rows[lane].places[index].x0;
      const near = to.places.reduce((best, place, at) => (Math.abs(place.x0 - x) < Math.abs(to.places[best].x0 - x) ? at : best), 0);
      return [rows.indexOf(to), near];
    };
    const next = { ArrowRight: () => [lane, index + 1], ArrowLeft: () => [lane, index - 1], ArrowDown: () => beside(lane + 1), ArrowUp: () => beside(lane - 1), Home: () => [lane, 0], End: () => [lane, Infinity] }[event.key];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    pick(next());
  }

  const later = () => (frameDue ??= requestAnimationFrame(draw));
  const stop = host.tick(() => {
    if (host.items.get("run")?.to === null) later();
  });
  const sized = new ResizeObserver(() => {
    if (frame.clientWidth !== width) later();
  });
  sized.observe(frame);
  return {
    element,
    update(_, keys) {
      if ([...keys].some((key) => MATTERS.test(key))) later();
    },
    close() {
      stop();
      sized.disconnect();
      if (frameDue !== null) cancelAnimationFrame(frameDue);
    },
  };
}

function box(x, y, w, tall, r) {
  const round = Math.min(r, w / 2, tall / 2);
  if (!round) return `M${x} ${y}h${w}v${tall}h${-w}z`;
  const [across, down] = [w - 2 * round, tall - 2 * round];
  const turn = (dx, dy) => `a${round} ${round} 0 0 1 ${dx} ${dy}`;
  return `M${x + round} ${y}h${across}${turn(round, round)}v${down}${turn(-round, round)}h${-across}${turn(-round, -round)}v${-down}${turn(round, -round)}z`;
}

/** A text cut to a width, by about how wide a letter is. */
export function fitted(text, width, letter = 5.6) {
  const most = Math.max(1, Math.floor(width / letter));
  const letters = [...text];
  return letters.length <= most ? text : `${letters.slice(0, most - 1).join("")}…`;
}

export const timelineTab = { name: "timeline", label: "Timeline", make };
