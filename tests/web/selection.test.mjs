import assert from "node:assert/strict";
import { test } from "node:test";

import { has, nothing, question, size, toggled, togglePage } from "../../durable_nb/views/web/selection.mjs";
import { counted } from "../../durable_nb/views/web/words.mjs";

const rows = [5, 4, 3, 2, 1].map((number) => ({ number, id: `r${number}` }));
const chosen = (selection) => [...selection.ids.keys()].sort();

test("rows are chosen one by one and by range, and by range again from the last one", () => {
  let selection = toggled(nothing(), rows, 5);
  selection = toggled(selection, rows, 3, { isRange: true });
  assert.deepEqual(chosen(selection), [3, 4, 5]);
  selection = toggled(selection, rows, 4);
  assert.deepEqual(chosen(selection), [3, 5]);
  assert.deepEqual(chosen(toggled(selection, rows, 1, { isRange: true })), [1, 2, 3, 4, 5]);
});

test("a page is chosen beside what other pages have, and given up again", () => {
  const before = toggled(nothing(), [{ number: 9, id: "r9" }], 9);
  const full = togglePage(before, rows);
  assert.deepEqual(chosen(full), [1, 2, 3, 4, 5, 9]);
  assert.deepEqual(chosen(togglePage(full, rows)), [9]);
});

test("all that fit end at the newest run that was known; one of them taken out leaves the page", () => {
  const all = { ...nothing(), upto: 5 };
  assert.deepEqual([has(all, 5), has(all, 6), size(all, 1200)], [true, false, 1200]);
  assert.deepEqual(chosen(toggled(all, rows, 4)), [1, 2, 3, 5]);
});

test("before a bulk action it is said what it does, and what it leaves alone", () => {
  assert.match(question("cancel", { all: 1200, active: 1199 }, counted).words, /^Cancel 1,199 runs\? 1 more has ended already and will not change\./);
  assert.match(question("replay", { all: 3, active: 1 }, counted).words, /^Replay 2 runs\? 1 more has not ended and will just go on\./);
  assert.deepEqual(question("cancel", { all: 2, active: 0 }, counted).does, 0);
});
