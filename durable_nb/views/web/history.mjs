// The logic of the replay tab, without a page: positions, words, marks, the tree of branches, rows side by side.

import { counted } from "./words.mjs";

/** A checkpoint as the kernel sends it, by name. */
export function checkpoint([node, kind, ask, line, state, asked, recorded]) {
  return { node, kind, ask, line, state, asked, recorded };
}

/** Ordered numbers as ranges: [1, 2, 3, 7] gives [[1, 3], [7, 7]]. */
export function ranges(nodes) {
  const found = [];
  for (const node of nodes) {
    const last = found.at(-1);
    if (last && last[1] === node - 1) last[1] = node;
    else found.push([node, node]);
  }
  return found;
}

const MOST_RANGES = 3;

/** Ranges in words: "2–119", "1, 3, 5", "1, 3, … 97". */
export function rangeWords(found) {
  const words = found.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  if (words.length <= MOST_RANGES) return words.join(", ");
  return `${words.slice(0, MOST_RANGES - 1).join(", ")}, … ${words.at(-1)}`;
}

/** The nodes on each line: a Map from line to ordered nodes. */
export function linesOf(checkpoints) {
  const lines = new Map();
  for (const { node, line } of checkpoints) {
    if (line === null) continue;
    if (!lines.has(line)) lines.set(line, []);
    lines.get(line).push(node);
  }
  return lines;
}

/** The marks of a line at a position (a place in the order of checkpoints): what is behind, here and ahead, as `[kind, words, first node]`. */
export function marks(nodes, at) {
  const parts = [
    ["past", nodes.filter((node) => node < at)],
    ["here", nodes.filter((node) => node === at)],
    ["ahead", nodes.filter((node) => node > at)],
  ];
  const sides = { past: (list) => list.at(-1), here: (list) => list[0], ahead: (list) => list[0] };
  return parts.filter(([, list]) => list.length).map(([kind, list]) => [kind, rangeWords(ranges(list)), sides[kind](list)]);
}

/** The stop that shows a node, of stops ordered by their first node; undefined where it is not there yet. */
export function stopAt(stops, node) {
  let [low, high] = [0, stops.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (stops[middle].last < node) low = middle + 1;
    else high = middle;
  }
  return low < stops.length && stops[low].first <= node ? stops[low] : undefined;
}

/** Stops with others put in, in order, each part of a stop once. */
export function withStops(stops, more) {
  const found = new Map(stops.map((stop) => [stop.first, stop]));
  for (const stop of more) found.set(stop.first, stop);
  const ordered = [...found.values()].sort((one, other) => one.first - other.first);
  return ordered.filter((stop, place) => place === 0 || stop.first > ordered[place - 1].last);
}

const ENDS = {
  returned: "the function returned",
  raised: "the function raised",
  cancelled: "it was cancelled",
  waits: "now: it waits",
  stopped: "the replay stopped here",
};

/** What a position's end is called. */
export function endWords(state) {
  return ENDS[state] ?? "the end";
}

/** A position in words: "checkpoint 3 of 12, sleep 5 s, line 9". */
export function positionWords(checkpoints, place, end) {
  if (place >= checkpoints.length) return checkpoints.length ? `after the last of ${counted(checkpoints.length, "checkpoint")}, ${endWords(end)}` : endWords(end);
  const { node, ask, line, state } = checkpoints[place];
  const where = line === null ? "" : `, line ${line}`;
  return `checkpoint ${node} of ${checkpoints.at(-1).node}, ${ask}${where}${state === "recorded" ? "" : `, ${state}`}`;
}

/** Dots for a rail: at most one each `gap` pixels, each `{ x, first, last, state }` by places; of several the worst state. */
export function dots(checkpoints, width, gap = 9) {
  const count = checkpoints.length;
  const most = Math.max(1, Math.floor(width / gap));
  const worst = ["recorded", "given up", "open", "failed"];
  const size = Math.max(1, Math.ceil((count + 1) / most));
  const found = [];
  for (let first = 0; first < count; first += size) {
    const last = Math.min(count, first + size) - 1;
    let state = 0;
    for (let place = first; place <= last; place += 1) state = Math.max(state, worst.indexOf(checkpoints[place].state));
    found.push({ x: railX((first + last) / 2, count, width), first, last, state: worst[state] ?? "recorded" });
  }
  return found;
}

/** Where a place stands on a rail: 0 at the left end, and the end of the history at the right. */
export function railX(place, count, width) {
  return count ? (Math.max(0, Math.min(place, count)) / count) * width : 0;
}

/** The place of a point on a rail. */
export function railPlace(x, count, width) {
  return width > 0 ? Math.max(0, Math.min(count, Math.round((x / width) * count))) : 0;
}

/** The next place for playing: the end of what shows the same counts as one step. */
export function nextPlace(checkpoints, stops, place) {
  if (place >= checkpoints.length) return place;
  const stop = stopAt(stops, checkpoints[place].node);
  let next = place + 1;
  while (stop && next < checkpoints.length && checkpoints[next].node <= stop.last) next += 1;
  return next;
}

/** The place that a key leads to, or null for a key that leads nowhere. */
export function keyPlace(key, place, count) {
  const page = Math.max(1, Math.round(count / 10));
  const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page, PageDown: -page };
  if (key === "Home") return 0;
  if (key === "End") return count;
  return key in moves ? Math.max(0, Math.min(count, place + moves[key])) : null;
}

/**
 * The lanes of a run's tree: its origin, its branches and its forks, each below the one that it leaves, as
 * `{ key, label, note, run, branch, cut, last, depth, isShown }`.
 */
export function lanes(run, branch, family) {
  const found = [];
  if (family.origin) {
    const { id, number, node, state } = family.origin;
    found.push({ key: `o${id}`, label: `origin #${number}`, note: `forked here at ${node}`, run: id, branch: family.origin.branch, cut: 0, last: family.origin.last, depth: 0, isShown: false, state });
  }
  const base = family.origin ? 1 : 0;
  const add = (one, depth) => {
    const isNew = one.parent === 0 && one.branch !== 1;
    const at = isNew ? one.reason : one.branch === 1 ? "" : `${one.reason} at ${one.cut}`;
    found.push({ key: `b${one.branch}`, label: `branch ${one.branch}`, note: at, run: run.id, branch: one.branch, cut: isNew || one.branch === 1 ? 0 : one.cut, last: one.last, depth, isShown: one.branch === branch, isCurrent: one.branch === run.branch });
    for (const child of family.branches) if (child.branch !== 1 && child.parent === one.branch && child.branch !== one.branch) add(child, depth + 1);
    for (const fork of family.forks) {
      if (fork.branch !== one.branch) continue;
      found.push({ key: `f${fork.id}`, label: `fork #${fork.number}`, note: `at ${fork.node}, ${fork.state}`, run: fork.id, branch: null, cut: fork.node, last: fork.last, depth: depth + 1, isShown: false, state: fork.state });
    }
  };
  for (const one of family.branches) if (one.branch === 1 || one.parent === 0) add(one, base);
  return found;
}

const KINDS = ["same", "asks", "outcomes", "first", "second"];

/** A row of a comparison, by name. */
export function row([node, kind, first, second, changes]) {
  const side = (item) => item && { ask: item[0], line: item[1], state: item[2], gave: item[3] };
  return { node, kind: KINDS[kind], first: side(first), second: side(kind === 0 ? first : second), changes };
}

/** Rows with every stretch of equal ones longer than `most` folded into `{ kind: "folded", first, last }`, but for those in `opened`. */
export function folded(rows, opened = new Set(), most = 3) {
  const found = [];
  let start = 0;
  while (start < rows.length) {
    let end = start;
    while (end < rows.length && rows[end].kind === "same") end += 1;
    if (end - start > most && !opened.has(rows[start].node)) found.push({ kind: "folded", node: rows[start].node, last: rows[end - 1].node, count: end - start });
    else found.push(...rows.slice(start, end));
    if (end < rows.length) found.push(rows[end]);
    start = end + 1;
  }
  return found;
}

/** How a comparison came out, in words. */
export function compareWords(rows) {
  const first = rows.find((one) => one.kind !== "same");
  if (!first) return `${counted(rows.length, "checkpoint")}, all the same`;
  const count = rows.filter((one) => one.kind !== "same").length;
  return `first difference at checkpoint ${first.node}; ${count} of ${counted(rows.length, "checkpoint")} ${count === 1 ? "differs" : "differ"}`;
}

/** The rows of a list that are seen: `{ first, last }` places for a scroll position. */
export function seen(count, scroll, height, size, spare = 6) {
  const first = Math.max(0, Math.floor(scroll / size) - spare);
  return { first, last: Math.min(count, Math.ceil((scroll + height) / size) + spare) };
}

/** The frames of a position that belong to the asking task last, and which of them is shown first: the innermost of the asker. */
export function frameShown(position, chosen) {
  const { frames, asker } = position;
  if (!frames.length) return -1;
  const same = chosen ? frames.findIndex((one) => one.function === chosen.function && one.task === chosen.task) : -1;
  if (same >= 0) return same;
  const own = frames.findLastIndex((one) => one.task === asker);
  return own >= 0 ? own : frames.length - 1;
}

/** Locals in the order in which they are read: what has changed first, then the newest. */
export function localsOrder(locals) {
  const newest = [...locals].reverse();
  return [...newest.filter((one) => one[4]), ...newest.filter((one) => !one[4])];
}
