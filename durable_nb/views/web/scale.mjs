// A scale of time whose idle stretches are collapsed, and what stands on it. Pure.
//
// Invariants: a later time is never left of an earlier one; time in which something happened is to one scale; an idle stretch is collapsed
// where it is longer than `SHARE` of all the time that is not, and then always `GAP` wide, however long it was.

export const GAP = 72;
const SHARE = 0.25;
const LEAST_IDLE = 1; // seconds
const MOST_GAPS = 6;

/** Join intervals that touch: `[[from, to], …]` in order. */
export function merged(intervals) {
  const sorted = intervals.filter(([from, to]) => to >= from).sort((one, other) => one[0] - other[0]);
  const found = [];
  for (const [from, to] of sorted) {
    const last = found.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}

/**
 * Make a scale of `width` pixels for these busy intervals. Gives `{ segments: [{ from, to, x0, x1, idle }], x(time), time(x), from, to }`. Of
 * many idle stretches the longest are collapsed.
 */
export function scaleOf(busy, width) {
  const spans = merged(busy);
  if (!spans.length) return { segments: [], x: () => 0, time: () => 0, from: 0, to: 0 };
  const [from, to] = [spans[0][0], Math.max(spans.at(-1)[1], spans[0][0] + 1e-3)];
  const between = spans.slice(1).map(([start], index) => [spans[index][1], start]);
  const room = Math.max(1, Math.min(MOST_GAPS, Math.floor(width / (3 * GAP))));
  const idle = [];
  let rest = to - from;
  for (const gap of [...between].sort((one, other) => other[1] - other[0] - (one[1] - one[0])).slice(0, room)) {
    const length = gap[1] - gap[0];
    if (length < LEAST_IDLE || length < SHARE * (rest - length)) break;
    idle.push(gap);
    rest -= length;
  }
  idle.sort((one, other) => one[0] - other[0]);
  const perSecond = Math.max(1, width - GAP * idle.length) / Math.max(rest, 1e-6);
  const segments = [];
  let [at, x] = [from, 0];
  const add = (until, collapsed) => {
    const wide = collapsed ? GAP : (until - at) * perSecond;
    segments.push({ from: at, to: until, x0: x, x1: x + wide, idle: collapsed });
    [at, x] = [until, x + wide];
  };
  for (const [start, end] of idle) {
    add(start, false);
    add(end, true);
  }
  add(to, false);
  const within = (value, low, high, start, end) => (high === low ? start : start + ((value - low) / (high - low)) * (end - start));
  return {
    segments,
    from,
    to,
    x(time) {
      const clipped = Math.min(to, Math.max(from, time));
      const part = segments.find((one) => clipped <= one.to) ?? segments.at(-1);
      return within(clipped, part.from, part.to, part.x0, part.x1);
    },
    time(place) {
      const clipped = Math.min(segments.at(-1).x1, Math.max(0, place));
      const part = segments.find((one) => clipped <= one.x1) ?? segments.at(-1);
      return within(clipped, part.x0, part.x1, part.from, part.to);
    },
  };
}

const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** The times at which a scale is marked: round ones, about `apart` pixels from one another, none in an idle stretch. */
export function ticks(scale, apart = 110) {
  const found = [];
  for (const part of scale.segments) {
    if (part.idle || part.x1 - part.x0 < 12) continue;
    const perPixel = (part.to - part.from) / (part.x1 - part.x0);
    const step = STEPS.find((one) => one >= perPixel * apart) ?? 86400 * Math.ceil((perPixel * apart) / 86400);
    for (let at = Math.ceil(part.from / step) * step; at <= part.to; at += step) {
      const x = scale.x(at);
      if (!found.length || x - found.at(-1).x >= apart * 0.6) found.push({ at, x, step });
    }
  }
  return found;
}

/** Put marks into rows so that those of one row do not overlap; more than `most` rows share the last. Gives the row of each. */
export function packed(marks, x, most, gap = 2) {
  const free = [];
  return marks.map((mark) => {
    const [start, end] = [x(mark.from), Math.max(x(mark.to), x(mark.from) + 3)];
    let row = free.findIndex((until) => until <= start);
    if (row < 0) row = free.length < most ? free.length : most - 1;
    free[row] = Math.max(free[row] ?? -Infinity, end + gap);
    return row;
  });
}
