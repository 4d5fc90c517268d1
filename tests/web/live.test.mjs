import assert from "node:assert/strict";
import { test } from "node:test";

import { applied, connect } from "../../durable_nb/views/web/live.mjs";

globalThis.requestAnimationFrame = (draw) => setTimeout(draw, 0);
globalThis.cancelAnimationFrame = clearTimeout;

function page() {
  const sent = [];
  let listener = null;
  const model = { send: (content) => sent.push(content), on: (_, take) => (listener = take), off: () => (listener = null) };
  return { model, sent, say: (message) => listener?.(message) };
}

test("a delta changes, adds and drops items; a gap is told", () => {
  const items = new Map();
  assert.deepEqual(applied(items, { kind: "all", n: 1, items: { a: 1, b: 2 } }, 0), new Set(["a", "b"]));
  assert.deepEqual(applied(items, { kind: "delta", n: 2, set: { b: 3, c: 4 }, drop: ["a"] }, 1), new Set(["a", "b", "c"]));
  assert.deepEqual([...items], [["b", 3], ["c", 4]]);
  assert.equal(applied(items, { kind: "delta", n: 4, set: {}, drop: [] }, 2), null);
});

test("deltas of one frame are drawn once, and a lost one has all sent again", async () => {
  const { model, sent, say } = page();
  const drawn = [];
  connect(model, { changed: (items, keys) => drawn.push([Object.fromEntries(items), [...keys]]) });
  say({ kind: "all", n: 1, at: 0, items: { a: 1 } });
  say({ kind: "delta", n: 2, at: 0, set: { a: 2 }, drop: [] });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(drawn, [[{ a: 2 }, ["a"]]]);
  say({ kind: "delta", n: 4, at: 0, set: { a: 9 }, drop: [] });
  assert.deepEqual(sent.map((content) => content.kind), ["hello", "hello"]);
});

test("an action's promise is settled by its own answer", async () => {
  const { model, sent, say } = page();
  const live = connect(model, { changed: () => assert.fail("nothing was sent") });
  const [first, second] = [live.perform("cancel", { run: "a" }), live.perform("cancel", { run: "b" })];
  say({ kind: "refused", id: sent[2].id, message: "it has ended" });
  say({ kind: "done", id: sent[1].id, value: 7 });
  assert.equal(await first, 7);
  await assert.rejects(second, { message: "it has ended" });
  live.close();
  assert.equal(sent.at(-1).kind, "bye");
});
