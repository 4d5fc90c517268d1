import assert from "node:assert/strict";
import { test } from "node:test";

import { checkpointsOf, lanesOf, stretches } from "../../durable_nb/views/web/lanes.mjs";
import { GAP, merged, packed, scaleOf, ticks } from "../../durable_nb/views/web/scale.mjs";
import { arranged, fitted, placeAt } from "../../durable_nb/views/web/timeline.mjs";

const DAY = 86400;

test("three days with four seconds of work: idle time is collapsed, work is to one scale, and time never goes back", () => {
  const busy = [[0, 1], [1, 2], [DAY, DAY + 1], [3 * DAY, 3 * DAY + 1]];
  const scale = scaleOf(busy, 800);
  assert.deepEqual(scale.segments.map((part) => part.idle), [false, true, false, true, false]);
  for (const part of scale.segments.filter((one) => one.idle)) assert.equal(part.x1 - part.x0, GAP);
  const second = scale.x(1) - scale.x(0);
  assert.ok(Math.abs(scale.x(DAY + 1) - scale.x(DAY) - second) < 1e-6);
  assert.ok(second > 100);
  assert.ok(Math.abs(scale.x(3 * DAY + 1) - 800) < 1e-6);
  let before = -1;
  for (let at = -10; at < 3 * DAY + 10; at += 1800) {
    assert.ok(scale.x(at) >= before);
    before = scale.x(at);
  }
  for (const at of [0, 0.5, 2, DAY + 0.25, 3 * DAY + 1]) assert.ok(Math.abs(scale.time(scale.x(at)) - at) < 1e-3);
});

test("short pauses stay as they are; of many only the longest are collapsed; one moment alone has a scale", () => {
  assert.equal(scaleOf([[0, 10], [11, 20]], 500).segments.length, 1);
  const many = Array.from({ length: 50 }, (_, index) => [index * 1000, index * 1000 + 0.1]);
  assert.ok(scaleOf(many, 900).segments.filter((part) => part.idle).length <= 6);
  assert.ok(Number.isFinite(scaleOf([[5, 5]], 500).x(5)));
  assert.equal(scaleOf([], 500).x(3), 0);
  assert.deepEqual(merged([[3, 4], [0, 1], [1, 2]]), [[0, 2], [3, 4]]);
});

test("ticks are round, apart, and in no idle stretch", () => {
  const scale = scaleOf([[100.4, 103.7], [DAY, DAY + 2]], 900);
  const found = ticks(scale);
  assert.ok(found.length > 2);
  for (const tick of found) {
    assert.ok(Math.abs(tick.at / tick.step - Math.round(tick.at / tick.step)) < 1e-6);
    assert.ok(!scale.segments.some((part) => part.idle && tick.at > part.from && tick.at < part.to));
  }
  found.slice(1).forEach((tick, index) => assert.ok(tick.x - found[index].x > 40));
});

test("marks that overlap get rows of their own, and more than there are share the last", () => {
  const marks = [[0, 10], [1, 2], [3, 4], [1, 9], [1, 9]].map(([from, to]) => ({ from, to }));
  assert.deepEqual(packed(marks, (time) => time * 10, 3), [0, 1, 1, 2, 2]);
});

test("a run's lanes: its work, its eviction, its checkpoints, its children, a folded fan-out, its waits", () => {
  const items = new Map(Object.entries({
    run: { number: 1, task: "sales", kind: "durable_task", state: "waiting", from: 0, to: null, at: 0 },
    "n/2": { parent: 1, task: "load", key: "", state: "completed", at: 0.1, from: 0.2, to: 1, group: null },
    "g/1/1": { parent: 1, task: "score", total: 40, at: 2, counts: {} },
    "d/1/1": { at: [2, 3, 4], n: [20, 5, 0], open: 0 },
    "t/0": [[1, "memo", "memo fetch", 3, 1.1, 1.9, "completed"], [2, "event", "paid", 5, 4.1, null, "waiting"]],
    journey: [[0, "entered"], [60, "evicted"]],
  }));
  const { lanes, busy } = lanesOf(items, 1000);
  assert.deepEqual(lanes.map((lane) => lane.label), ["sales", "checkpoints", "load", "score × 40", "waits"]);
  const own = lanes[0].marks;
  const away = own.find((mark) => mark.shape === "away");
  assert.deepEqual([away.from, away.to, away.note], [60, 1000, "evicted"]);
  assert.ok(own.some((mark) => mark.shape === "bar" && mark.from === 1 && mark.to >= 1.1), "it worked between its child and its memo");
  assert.ok(busy.every(([from, to]) => from >= 0 && to <= 1000));
  const scale = scaleOf(busy, 600);
  assert.ok(scale.segments.some((part) => part.idle && part.from < 60 && part.to > 900));
  const { rows } = arranged(lanes, scale, 168, false);
  const wait = rows.at(-1).places[0];
  assert.equal(placeAt(rows, (wait.x0 + wait.x1) / 2, wait.y + 3).mark.label, "2 event paid");
  assert.equal(placeAt(rows, 5, 5000), undefined);
});

test("ten thousand children folded are few marks, and thousands of checkpoints keep their order", () => {
  const items = new Map([["run", { number: 1, task: "big", kind: "durable_task", state: "running", from: 0, to: null, at: 0 }]]);
  for (let chunk = 0; chunk < 30; chunk += 1) {
    items.set(`t/${29 - chunk}`, Array.from({ length: 100 }, (_, n) => [(29 - chunk) * 100 + n, "memo", "memo a", 1, n, n, "completed"]));
  }
  items.set("g/1/0", { parent: 1, task: "score", total: 10000, at: 1, counts: {} });
  items.set("d/1/0", { at: Array.from({ length: 240 }, (_, n) => n), n: Array.from({ length: 240 }, () => 9), open: 5 });
  assert.deepEqual(checkpointsOf(items).map((one) => one.node), Array.from({ length: 3000 }, (_, n) => n));
  const lane = lanesOf(items, 500).lanes.find((one) => one.course);
  assert.equal(lane.label, "score × 10,000");
  assert.equal(lane.marks.length, 240);
  assert.equal(lane.marks.at(-1).to, 500);
});

test("what was left is told by how", () => {
  const journey = [[0, "entered"], [5, "evicted"], [9, "restored"], [10, "entered"], [12, "retried"], [20, "entered"], [21, "finished"]];
  assert.deepEqual(stretches(journey, 30).map((one) => [one.from, one.to, one.how]), [[0, 5, "in memory"], [5, 9, "evicted"], [9, 10, "queued"], [10, 12, "in memory"], [12, 20, "waits for its next attempt"], [20, 21, "in memory"]]);
  assert.equal(fitted("🎈🎈🎈🎈", 12, 6), "🎈…");
});
