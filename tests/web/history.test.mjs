import assert from "node:assert/strict";
import { test } from "node:test";

import * as history from "../../durable_nb/views/web/history.mjs";

const point = (node, line = 1, state = "recorded") => history.checkpoint([node, "sleep", "sleep 5s", line, state, 0, 1]);

test("a position says which checkpoint, what it asked, where, and what is unusual", () => {
  const found = [point(1, 3), point(2, null, "failed"), point(4, 9)];
  assert.equal(history.positionWords(found, 0), "checkpoint 1 of 4, sleep 5s, line 3");
  assert.equal(history.positionWords(found, 1), "checkpoint 2 of 4, sleep 5s, failed");
  assert.equal(history.positionWords(found, 3, "raised"), "after the last of 3 checkpoints, the function raised");
  assert.equal(history.positionWords([], 0, "waits"), "now: it waits");
});

test("marks of a line tell what is behind, here and ahead; a long loop stays short", () => {
  assert.deepEqual(history.marks([2, 3, 4, 9], 3), [["past", "2", 2], ["here", "3", 3], ["ahead", "4, 9", 4]]);
  const odd = Array.from({ length: 50 }, (_, index) => 2 * index + 1);
  assert.deepEqual(history.marks(odd, Infinity), [["past", "1, 3, … 99", 99]]);
});

test("stops are found by any of their nodes, and those of an overlapping window are put in once", () => {
  const stops = history.withStops([{ first: 1, last: 1 }, { first: 2, last: 60 }], [{ first: 40, last: 60 }, { first: 61, last: 61 }]);
  assert.deepEqual(stops.map((stop) => stop.first), [1, 2, 61]);
  assert.equal(history.stopAt(stops, 59).first, 2);
  assert.equal(history.stopAt(stops, 62), undefined);
});

test("playing takes a fan-out in one step, and stops at the end", () => {
  const found = Array.from({ length: 10 }, (_, index) => point(index + 1));
  const stops = [{ first: 1, last: 1 }, { first: 2, last: 9 }, { first: 10, last: 10 }];
  const places = [0];
  while (places.at(-1) < 10) places.push(history.nextPlace(found, stops, places.at(-1)));
  assert.deepEqual(places, [0, 1, 9, 10]);
});

test("ten thousand checkpoints are few dots, and the worst of each stretch is seen", () => {
  const found = Array.from({ length: 10_000 }, (_, index) => point(index + 1, 1, index === 7_777 ? "failed" : "recorded"));
  const dots = history.dots(found, 600);
  assert.ok(dots.length <= 67, `${dots.length}`);
  assert.equal(dots.filter((dot) => dot.state === "failed").length, 1);
  assert.equal(dots.reduce((sum, dot) => sum + dot.last - dot.first + 1, 0), 10_000);
  assert.equal(history.railPlace(600, 10_000, 600), 10_000);
  for (const place of [0, 17, 9_999]) assert.equal(history.railPlace(history.railX(place, 10_000, 600), 10_000, 600), place);
});

test("keys move by one, by a tenth, and to the ends", () => {
  const keys = ["ArrowRight", "ArrowLeft", "PageUp", "PageDown", "Home", "End", "a"];
  assert.deepEqual(keys.map((key) => history.keyPlace(key, 5, 40)), [6, 4, 9, 1, 0, 40, null]);
  assert.equal(history.keyPlace("ArrowRight", 40, 40), 40);
});

test("the tree puts each branch and fork below the one that it leaves", () => {
  const branches = [
    { branch: 1, parent: 0, cut: 1, reason: "", last: 9 },
    { branch: 2, parent: 1, cut: 4, reason: "retry", last: 6 },
    { branch: 3, parent: 0, cut: 1, reason: "continued as new", last: 2 },
  ];
  const forks = [{ id: "01ABCDEFG", number: 9, branch: 2, node: 5, state: "completed", last: 8 }];
  const lanes = history.lanes({ id: "R", branch: 3 }, 3, { branches, forks, origin: null });
  assert.deepEqual(lanes.map((lane) => [lane.label, lane.note, lane.depth, lane.cut]), [
    ["branch 1", "", 0, 0],
    ["branch 2", "retry at 4", 1, 4],
    ["fork #9", "at 5, completed", 2, 5],
    ["branch 3", "continued as new", 0, 0],
  ]);
  assert.deepEqual(lanes.map((lane) => Boolean(lane.isShown)), [false, false, false, true]);
});

test("equal stretches of two histories are folded, differences stand out, and what was opened stays open", () => {
  const same = (node) => history.row([node, 0, ["now", 1, "recorded", "1"], null, []]);
  const rows = [...[1, 2, 3, 4, 5].map(same), history.row([6, 2, ["a", 1, "recorded", "1"], ["a", 1, "recorded", "2"], [["value", "1", "2"]]]), same(7)];
  assert.deepEqual(history.folded(rows).map((one) => one.kind), ["folded", "outcomes", "same"]);
  assert.equal(history.folded(rows, new Set([1])).length, 7);
  assert.equal(history.compareWords(rows), "first difference at checkpoint 6; 1 of 7 checkpoints differs");
  assert.equal(history.compareWords([same(1)]), "1 checkpoint, all the same");
  assert.deepEqual(history.seen(10_000, 4_400, 352, 44), { first: 94, last: 114 });
});

test("of several frames the innermost of the asking task is shown, or the one that a person has picked", () => {
  const frames = [{ task: 0, function: "f" }, { task: 1, function: "g" }, { task: 1, function: "h" }, { task: 2, function: "g" }];
  assert.equal(history.frameShown({ frames, asker: 1 }, null), 2);
  assert.equal(history.frameShown({ frames, asker: 1 }, { task: 0, function: "f" }), 0);
  assert.equal(history.frameShown({ frames: [], asker: 0 }, null), -1);
  const order = history.localsOrder([["a", "", "", "", ""], ["b", "", "", "", "changed"], ["c", "", "", "", ""]]);
  assert.deepEqual(order.map(([name]) => name), ["b", "c", "a"]);
});
