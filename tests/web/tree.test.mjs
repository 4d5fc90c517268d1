import assert from "node:assert/strict";
import { test } from "node:test";

import { dagOf, edge, GAP_Y, layered, layout, neighbour, stacked, treeOf } from "../../durable_nb/views/web/tree.mjs";

const run = (number, more = {}) => ({ number, parent: 1, task: `task ${number}`, at: number, key: "", group: null, kids: 0, ...more });
const items = (...more) => new Map([["run", run(1, { parent: null })], ...more]);
const child = (number, more) => [`n/${number}`, run(number, more)];

/** A pseudo-random tree, the same each time. */
function grown(size, seed) {
  let state = seed;
  const random = (below) => (state = (state * 1103515245 + 12345) % 2147483648) % below;
  const all = items();
  for (let number = 2; number <= size; number += 1) all.set(`n/${number}`, run(number, { parent: 1 + random(number - 1) }));
  return all;
}

test("no two nodes overlap, and children stand right of their parent in the order in which they were spawned", () => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const { nodes, width, height } = layout(treeOf(grown(60, seed)));
    assert.equal(nodes.length, 60);
    for (const [index, one] of nodes.entries()) {
      assert.ok(one.x >= 0 && one.y >= -1e-9 && one.x + one.w <= width && one.y + one.h <= height + 1e-9);
      for (const other of nodes.slice(index + 1)) {
        const apart = one.x + one.w <= other.x || other.x + other.w <= one.x || one.y + one.h + GAP_Y <= other.y + 1e-9 || other.y + other.h + GAP_Y <= one.y + 1e-9;
        assert.ok(apart, `${one.id} and ${other.id} of tree ${seed}`);
      }
    }
    const byParent = Map.groupBy ? Map.groupBy(nodes, (one) => one.parent) : new Map();
    for (const [parent, siblings] of byParent) {
      if (parent === null) continue;
      const ys = siblings.map((one) => one.y);
      assert.deepEqual(ys, [...ys].sort((a, b) => a - b));
      assert.deepEqual(siblings.map((one) => one.at), siblings.map((one) => one.at).sort((a, b) => a - b));
    }
  }
});

test("a child more moves what is below it down and nothing past another; the root of a long list comes to rest", () => {
  const all = items(...Array.from({ length: 20 }, (_, index) => child(index + 2)));
  const before = new Map(layout(treeOf(all)).nodes.map((one) => [one.id, one.y]));
  all.set("n/40", run(40));
  const after = new Map(layout(treeOf(all)).nodes.map((one) => [one.id, one.y]));
  for (const [id, y] of before) assert.equal(after.get(id), y, id);
  all.set("n/30", run(30, { at: 5.5 }));
  const put = new Map(layout(treeOf(all)).nodes.map((one) => [one.id, one.y]));
  assert.ok(put.get("n/5") < put.get("n/30") && put.get("n/30") < put.get("n/6"));
});

test("a leaf may be wider than its column, but not through what stands beyond", () => {
  const wait = { parent: 1, node: 1, at: 2.5, state: "waiting", conditions: [], question: null };
  const all = items(child(2), ["w/1/1.1", wait], child(3, { kids: 1 }), child(4, { parent: 3 }));
  const placed = new Map(layout(treeOf(all)).nodes.map((one) => [one.id, one]));
  const [pill, beyond] = [placed.get("w/1/1.1"), placed.get("n/4")];
  assert.ok(pill.x + pill.w > beyond.x);
  assert.ok(pill.y + pill.h <= beyond.y || beyond.y + beyond.h <= pill.y);
});

test("a folded group holds its shown children, and a page of it its pager last", () => {
  const group = { parent: 1, task: "score", at: 3, first: 3, total: 40, counts: {}, page: 0, pages: 4, size: 12 };
  const all = items(["g/1/0", group], child(9, { group: "1/0" }), child(2));
  const root = treeOf(all);
  assert.deepEqual(root.children.map((one) => one.id), ["n/2", "g/1/0"]);
  assert.deepEqual(root.children[1].children.map((one) => one.kind), ["run", "pager"]);
});

test("a workflow's tasks stand in its graph, whatever they are called, and grandchildren beyond it", () => {
  const plan = { tasks: [["extract", [], "parents"], ["<b>clean</b>", [0], "parents"]], at: null, passed: {} };
  const all = items(["plan/1", plan], child(2, { key: "extract" }), child(3, { key: "<b>clean</b>", kids: 1 }), child(4, { parent: 3 }));
  const [graph] = treeOf(all).children;
  assert.deepEqual(graph.tasks.map((task) => [task.name, task.item?.number]), [["extract", 2], ["<b>clean</b>", 3]]);
  assert.deepEqual(graph.children.map((one) => one.id), ["n/4"]);
});

test("layers: every task is right of its parents, none overlaps, and a cycle ends", () => {
  const at = layered([[], [0], [0], [1, 2], [0, 3], []]);
  for (const [index, parents] of [[], [0], [0], [1, 2], [0, 3], []].entries()) for (const parent of parents) assert.ok(at[parent][0] < at[index][0]);
  const seen = new Set(at.map(String));
  assert.equal(seen.size, at.length);
  assert.equal(layered([[1], [0]]).length, 2);
  const graph = dagOf("plan/1", { tasks: Array.from({ length: 300 }, (_, n) => [`t${n}`, n ? [n - 1] : [], "parents"]), at: null, passed: {} });
  assert.equal(graph.edges.length, 299);
});

test("in a narrow room all stand below one another, as wide as it is", () => {
  const { nodes, width } = stacked(treeOf(grown(30, 3)), 360);
  assert.equal(width, 360);
  nodes.slice(1).forEach((one, index) => assert.ok(one.y >= nodes[index].y + nodes[index].h));
});

test("arrows go through the tree, and nowhere beyond it", () => {
  const { nodes } = layout(treeOf(items(child(2, { kids: 1 }), child(3, { parent: 2 }), child(4))));
  assert.equal(neighbour(nodes, "n/2", "ArrowDown"), "n/3");
  assert.equal(neighbour(nodes, "n/3", "ArrowLeft"), "n/2");
  assert.equal(neighbour(nodes, "n/1", "ArrowRight"), "n/2");
  assert.equal(neighbour(nodes, "n/4", "ArrowDown"), null);
  assert.equal(neighbour(nodes, "n/2", "End"), "n/4");
  assert.equal(neighbour(nodes, "n/4", "a"), null);
  assert.match(edge(nodes[0], nodes[1]), /^M[\d. ]+C[\d. ]+$/);
});
