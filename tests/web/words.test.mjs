import assert from "node:assert/strict";
import { test } from "node:test";

import { counted, duration, moment } from "../../durable_nb/views/web/words.mjs";

test("durations are said in two units at most, as in Python", () => {
  const said = [0.034, 3.24, 250, 86280, 300000, 60, Infinity].map(duration);
  assert.deepEqual(said, ["34 ms", "3.2 s", "4 min 10 s", "23 h 58 min", "3 d 11 h", "1 min", "unknown time"]);
});

test("a time that no calendar has is given as the number it is", () => {
  assert.equal(moment(1e300), "1e+300 s");
  assert.match(moment(0.25, { exact: true }), /^19(69|70)-\d\d-\d\d \d\d:\d\d:\d\d\.250$/);
});

test("a number has its noun", () => {
  assert.deepEqual([counted(1, "run"), counted(12000, "child", "children")], ["1 run", "12,000 children"]);
});
