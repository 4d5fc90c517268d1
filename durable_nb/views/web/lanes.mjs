// What happened in a run, as lanes of marks on a line of time. Pure.
//
// A mark is `{ from, to, tone, shape, label, note }`; its shape is "bar" (work), "thin" (waiting in memory), "away" (evicted), "wait" (a condition) or
// "tick" (a moment).

import { stateOf } from "./states.mjs";
import { counted } from "./words.mjs";

const WAITS = new Set(["sleep", "event", "wait", "ask", "take"]);
const WORKS = new Set(["memo", "step"]);
const EDGE = 0.02; // seconds about a moment that count as busy
const OVER = new Set(["completed", "failed", "cancelled"]);

/** The checkpoints that items hold: `{ node, kind, ask, line, asked, recorded, state }`, in order. */
export function checkpointsOf(items) {
  const chunks = [...items].filter(([key]) => key.startsWith("t/")).sort((one, other) => Number(one[0].slice(2)) - Number(other[0].slice(2)));
  return chunks.flatMap(([, rows]) => rows).map(([node, kind, ask, line, asked, recorded, state]) => ({ node, kind, ask, line, asked, recorded, state }));
}

/** When a run was entered and out of memory: `[{ from, to, isAway, how }]`, in order. */
export function stretches(journey, end) {
  const found = [];
  let open = null;
  const close = (at) => {
    if (open) found.push({ ...open, to: at });
    open = null;
  };
  for (const [at, kind] of journey) {
    close(at);
    if (kind === "entered") open = { from: at, isAway: false, how: "in memory" };
    else if (kind === "evicted" || kind === "released" || kind === "blocked" || kind === "retried") {
      open = { from: at, isAway: true, how: { evicted: "evicted", released: "given back", blocked: "parked", retried: "waits for its next attempt" }[kind] };
    } else if (kind !== "finished") open = { from: at, isAway: true, how: "queued" };
  }
  close(end);
  return found;
}

/** When a run's own code worked: where no wait of it was all there was to do. Children count as waits of their parent. */
function work(run, checkpoints, spans, end) {
  const moments = new Set([run.from, run.to ?? end]);
  for (const one of checkpoints) {
    moments.add(one.asked);
    if (one.recorded !== null) moments.add(one.recorded);
  }
  for (const span of spans) {
    moments.add(span.from);
    moments.add(span.to);
  }
  const times = [...moments].filter((at) => at !== null && at >= run.from && at <= (run.to ?? end)).sort((one, other) => one - other);
  const waits = [...checkpoints.filter((one) => WAITS.has(one.kind)).map((one) => [one.asked, one.recorded ?? end]), ...spans.map((one) => [one.from, one.to])];
  const changes = waits.flatMap(([from, to]) => [[from, 1], [to, -1]]).sort((one, other) => one[0] - other[0]);
  const [working, waiting] = [[], []];
  let [open, next] = [0, 0];
  for (let index = 0; index + 1 < times.length; index += 1) {
    while (next < changes.length && changes[next][0] <= times[index]) open += changes[next++][1];
    const into = open > 0 ? waiting : working;
    const last = into.at(-1);
    if (last && last[1] === times[index]) last[1] = times[index + 1];
    else into.push([times[index], times[index + 1]]);
  }
  return { working, waiting };
}

/**
 * Give the lanes and the busy intervals: `{ lanes: [{ id, label, note, marks, course }], busy }`. `course` is a folded fan-out's: `{ at, n, open }`.
 */
export function lanesOf(items, now) {
  const run = items.get("run");
  if (!run || run.from === null) return { lanes: [], busy: [] };
  const end = run.to ?? now;
  const checkpoints = checkpointsOf(items);
  const busy = [[run.from - EDGE, run.from + EDGE], [end - EDGE, end]];
  const tasks = new Map();
  const spans = [];
  for (const [key, item] of items) {
    if (!key.startsWith("n/") || item.parent !== run.number || item.group) continue;
    const lane = tasks.get(item.task) ?? { id: `c/${item.task}`, label: item.task, at: item.at, marks: [] };
    tasks.set(item.task, lane);
    const from = item.from ?? item.at;
    const to = item.to ?? end;
    const tone = stateOf(item.state).colour;
    lane.marks.push({ from, to, tone, shape: item.from === null ? "thin" : "bar", label: [item.task, item.key].filter(Boolean).join(" "), note: stateOf(item.state).word, isOpen: !OVER.has(item.state), isFailed: item.state === "failed" });
    spans.push({ from, to });
    if (item.from !== null && item.state !== "waiting") busy.push([from, to]);
    else busy.push([from - EDGE, from + EDGE], [to - EDGE, to]);
  }
  const folded = [];
  for (const [key, course] of items) {
    if (!key.startsWith("d/") || !course.at.length) continue;
    const group = items.get(`g/${key.slice(2)}`);
    if (!group) continue;
    folded.push({ id: key, label: `${group.task} × ${group.total.toLocaleString("en")}`, at: group.at, marks: courseMarks(course, end), course });
    for (const mark of folded.at(-1).marks) if (mark.n) busy.push([mark.from, mark.to]);
    spans.push({ from: course.at[0], to: course.open ? end : course.at.at(-1) });
  }
  const isTask = run.kind === "task";
  const { working, waiting } = isTask ? { working: [[run.from, end]], waiting: [] } : work(run, checkpoints, spans, end);
  const away = stretches(items.get("journey") ?? [], end).filter((one) => one.isAway);
  const own = { id: "run", label: run.task, at: -Infinity, rows: 1, marks: [] };
  for (const [from, to] of waiting) for (const mark of around(from, to, away)) own.marks.push(mark);
  for (const [from, to] of working) {
    own.marks.push({ from, to, tone: "run", shape: "bar", label: run.task, note: "worked" });
    busy.push([from, to]);
  }
  const ticks = { id: "checkpoints", label: "checkpoints", at: -1e300, rows: 1, marks: [] };
  const conditions = { id: "waits", label: "waits", at: Infinity, rows: 8, marks: [] };
  for (const one of checkpoints) {
    busy.push([one.asked - EDGE, one.asked + EDGE]);
    if (one.recorded !== null) busy.push([one.recorded - EDGE, one.recorded + EDGE]);
    const words = one.ask.startsWith(one.kind) ? one.ask : `${one.kind} ${one.ask}`;
    const tone = stateOf(one.state).colour;
    const note = one.recorded === null ? stateOf(one.state).word : one.state === "completed" ? "recorded" : stateOf(one.state).word;
    const mark = { from: one.asked, to: one.recorded ?? end, tone, label: `${one.node} ${words}`, text: words, note, line: one.line, isOpen: one.recorded === null, isFailed: one.state === "failed" };
    if (WAITS.has(one.kind)) conditions.marks.push({ ...mark, shape: "wait" });
    else ticks.marks.push({ ...mark, shape: WORKS.has(one.kind) && mark.to - mark.from > 0.05 ? "bar" : "tick" });
    if (WORKS.has(one.kind)) busy.push([mark.from, mark.to]);
  }
  const children = [...tasks.values(), ...folded].sort((one, other) => one.at - other.at);
  const lanes = [own, ticks, ...children, conditions].filter((lane) => lane.marks.length);
  for (const lane of lanes) lane.marks.sort((one, other) => one.from - other.from || one.to - other.to);
  return { lanes, busy: busy.map(([from, to]) => [Math.max(from, run.from), Math.min(Math.max(to, run.from), end)]) };
}

/** A stretch of waiting, cut where the run was out of memory. */
function around(from, to, away) {
  const found = [];
  let at = from;
  const thin = (until) => {
    if (until > at) found.push({ from: at, to: until, tone: "off", shape: "thin", label: "waited", note: "in memory" });
  };
  for (const one of away) {
    if (one.to <= at || one.from >= to) continue;
    thin(Math.max(at, one.from));
    found.push({ from: Math.max(at, one.from), to: Math.min(to, one.to), tone: "off", shape: "away", label: "waited", note: one.how });
    at = Math.min(to, one.to);
  }
  thin(to);
  return found;
}

function courseMarks({ at, n, open }, end) {
  return at.slice(0, open ? undefined : -1).map((from, index) => {
    const to = at[index + 1] ?? end;
    return { from, to, n: n[index], tone: "run", shape: "course", label: `${counted(n[index], "run")} at once`, note: "" };
  }).filter((mark) => mark.to > mark.from || mark.n);
}
