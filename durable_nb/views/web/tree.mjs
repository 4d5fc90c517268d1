// The tree of a run as plain data, and where its nodes stand. Pure.
//
// A tidy tree, drawn from left to right: Reingold and Tilford, "Tidier Drawings of Trees" (1981), with nodes of their own sizes and any number
// of children as in Buchheim, Jünger and Leipert (2002). Each subtree is placed once, as near to the one above it as the outlines of both,
// column by column, let it. Invariants: the order of children never changes (they stand by when they were asked for), so what is there
// moves down when something is put in above it, and never past another; a parent stands beside the middle of its children, but
// no more than `DROP` below the first, so that the root of a growing tree comes to rest.

export const GAP_X = 48;
export const GAP_Y = 12;
export const DROP = 96;
export const SIZES = { run: [216, 36], group: [232, 52], wait: [372, 36], past: [232, 30], pager: [232, 30] };
export const DAG_NODE = [172, 36];
const [INDENT, STACK_GAP] = [20, 8];
const DAG_GAPS = [44, 14];
const DAG_PAD = [14, 14, 34]; // sides, bottom, top

const after = (one, other) => one.at - other.at || one.rank - other.rank;

/**
 * Give the tree that items describe (see durable_nb/views/sources.py): nodes `{ id, kind, item, children, w, h, at, rank }`, and for an unfolded
 * workflow a child of kind "dag" with `tasks` `[{ id, name, item, x, y }]` and `edges` `[[from, to]]` inside of it.
 */
export function treeOf(items) {
  const run = items.get("run");
  if (!run) return null;
  const root = node("run", `n/${run.number}`, run);
  const byNumber = new Map([[run.number, root]]);
  const groups = new Map();
  const placed = [];
  for (const [key, item] of items) {
    if (key.startsWith("n/")) {
      const one = node("run", key, item);
      byNumber.set(item.number, one);
      placed.push(one);
    } else if (key.startsWith("g/")) {
      const one = node("group", key, item);
      one.rank = item.first;
      groups.set(key.slice(2), one);
      placed.push(one);
    } else if (key.startsWith("w/")) {
      const one = node(item.state === "waiting" ? "wait" : "past", key, item);
      one.rank = item.node / 1e6;
      placed.push(one);
    }
  }
  const graphs = new Map();
  for (const [key, plan] of items) if (key.startsWith("plan/")) graphs.set(Number(key.slice(5)), dagOf(key, plan));
  for (const one of placed) {
    const graph = graphs.get(one.item.parent);
    const place = graph && one.kind === "run" ? graph.tasks.find((task) => task.name === one.item.key) : undefined;
    if (place) {
      place.item = one.item;
      place.id = one.id;
      byNumber.set(one.item.number, place);
      place.children = [];
    } else {
      const parent = one.kind === "run" && one.item.group ? groups.get(one.item.group) : byNumber.get(one.item.parent);
      parent?.children?.push(one);
    }
  }
  for (const [number, graph] of graphs) {
    const parent = byNumber.get(number);
    if (!parent) continue;
    const beyond = graph.tasks.flatMap((task) => task.children ?? []);
    graph.children = [...graph.children, ...beyond];
    parent.children.unshift(graph);
  }
  for (const one of groups.values()) {
    one.children.sort(after);
    if (one.item.page !== null && one.item.pages > 1) one.children.push(pager(one));
  }
  for (const one of byNumber.values()) one.children?.sort(after);
  return root;
}

function node(kind, id, item) {
  const [w, h] = SIZES[kind];
  return { id, kind, item, children: [], w, h, at: item.at ?? 0, rank: item.number ?? 0 };
}

function pager(group) {
  return { ...node("pager", `${group.id}/pager`, { ...group.item, group: group.id.slice(2) }), at: Infinity };
}

/** Give the node of a workflow's graph: its tasks where Graphviz has put them, or where `layered` does. */
export function dagOf(id, plan) {
  const parents = plan.tasks.map((task) => task[1]);
  const at = plan.at ?? layered(parents);
  const tasks = plan.tasks.map(([name, , when], index) => ({
    id: `${id}/${index}`,
    name,
    when,
    passed: plan.passed?.[name],
    x: at[index][0] + DAG_PAD[0],
    y: at[index][1] + DAG_PAD[2],
  }));
  const edges = parents.flatMap((own, index) => own.map((parent) => [parent, index]));
  const w = Math.max(...tasks.map((task) => task.x), 0) + DAG_NODE[0] + DAG_PAD[0];
  const h = Math.max(...tasks.map((task) => task.y), 0) + DAG_NODE[1] + DAG_PAD[1];
  return { id, kind: "dag", item: plan, tasks, edges, children: [], w, h, at: -Infinity, rank: -1 };
}

/**
 * Give the top left corners of a graph's tasks, in layers from left to right: each stands one layer after the last of its parents, and within
 * a layer near the middle of its parents (one sweep of Sugiyama's barycentres, 1981). `parents` are numbers, by task; a cycle is cut.
 */
export function layered(parents) {
  const layer = parents.map(() => -1);
  const depth = (index, above) => {
    if (layer[index] >= 0) return layer[index];
    if (above.has(index)) return -1;
    above.add(index);
    const found = 1 + Math.max(-1, ...parents[index].map((parent) => depth(parent, above)));
    above.delete(index);
    return (layer[index] = found);
  };
  parents.forEach((_, index) => depth(index, new Set()));
  const columns = [];
  layer.forEach((column, index) => (columns[column] ??= []).push(index));
  const [w, h] = DAG_NODE;
  const [along, across] = DAG_GAPS;
  const y = parents.map(() => 0);
  columns.forEach((column, number) => {
    const wish = new Map(
      column.map((index, place) => {
        const above = parents[index].filter((parent) => layer[parent] < number);
        const middle = above.length ? above.reduce((sum, parent) => sum + y[parent], 0) / above.length : place * (h + across);
        return [index, middle];
      }),
    );
    const order = [...column].sort((one, other) => wish.get(one) - wish.get(other) || one - other);
    let free = -Infinity;
    for (const index of order) {
      y[index] = Math.max(free, wish.get(index));
      free = y[index] + h + across;
    }
    const shift = order.reduce((sum, index) => sum + wish.get(index) - y[index], 0) / order.length;
    for (const index of order) y[index] += shift;
  });
  const top = Math.min(...y);
  return y.map((one, index) => [layer[index] * (w + along), one - top]);
}

/**
 * Place a tree: gives `{ nodes: [{ ...node, x, y, depth, parent }], width, height }`, in the order in which a reader goes through it. A column
 * is as wide as its widest node that has children.
 */
export function layout(root) {
  const widths = [];
  const measure = (one, depth) => {
    widths[depth] = Math.max(widths[depth] ?? 0, one.children.length ? one.w : 0);
    for (const child of one.children) measure(child, depth + 1);
  };
  measure(root, 0);
  const columns = widths.map((_, depth) => widths.slice(0, depth).reduce((sum, w) => sum + w + GAP_X, 0));
  const offsets = new Map();

  /** Place a subtree with its own node at 0; gives its outline: the top and bottom of each column. */
  const outline = (one, depth) => {
    const whole = [];
    const tops = [];
    for (const child of one.children) {
      const own = outline(child, depth + 1);
      let shift = whole.length ? -Infinity : 0;
      own.forEach(([top], column) => {
        if (whole[column]) shift = Math.max(shift, whole[column][1] + GAP_Y - top);
      });
      // A subtree never begins above the one before it, however deep that is: the order is to be seen.
      if (tops.length) shift = Math.max(shift, offsets.get(tops.at(-1)) + tops.at(-1).h + GAP_Y);
      offsets.set(child, shift);
      own.forEach(([top, bottom], column) => {
        const moved = [top + shift, bottom + shift];
        whole[column] = whole[column] ? [Math.min(whole[column][0], moved[0]), Math.max(whole[column][1], moved[1])] : moved;
      });
      tops.push(child);
    }
    if (tops.length) {
      const [first, last] = [tops[0], tops.at(-1)];
      const from = offsets.get(first) + Math.min(first.h, 64) / 2;
      const to = offsets.get(last) + Math.min(last.h, 64) / 2;
      const middle = Math.min((from + to) / 2, from + DROP) - one.h / 2;
      for (const child of tops) offsets.set(child, offsets.get(child) - middle);
      for (const column of whole) {
        column[0] -= middle;
        column[1] -= middle;
      }
    }
    if (one.children.length) return [[0, one.h], ...whole];
    const reach = columns.findIndex((x, column) => column > depth && x >= columns[depth] + one.w + GAP_X / 2);
    return Array.from({ length: (reach < 0 ? columns.length : reach) - depth }, () => [0, one.h]); // a leaf may reach beyond its column
  };
  const whole = outline(root, 0);
  const top = Math.min(...whole.map((column) => column[0]));
  const nodes = [];
  const place = (one, depth, y, parent) => {
    nodes.push({ ...one, x: columns[depth], y, depth, parent: parent?.id ?? null });
    for (const child of one.children) place(child, depth + 1, y + offsets.get(child), one);
  };
  place(root, 0, -top, null);
  return {
    nodes,
    width: Math.max(...nodes.map((one) => one.x + one.w)),
    height: Math.max(...whole.map((column) => column[1])) - top,
  };
}

/** The line from a parent's right side to a child's left side. */
export function edge(parent, child) {
  const [x1, y1] = [parent.x + parent.w, parent.y + Math.min(parent.h, 64) / 2];
  const [x2, y2] = [child.x, child.y + Math.min(child.h, 64) / 2];
  const bend = (x2 - x1) / 2;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

/** The node that a key goes to from another: arrows move along the tree as they do in a tree of files. Null: nowhere. */
export function neighbour(nodes, id, key) {
  const index = nodes.findIndex((one) => one.id === id);
  if (index < 0) return nodes[0]?.id ?? null;
  const here = nodes[index];
  switch (key) {
    case "ArrowDown":
      return nodes[index + 1]?.id ?? null;
    case "ArrowUp":
      return nodes[index - 1]?.id ?? null;
    case "ArrowLeft":
      return here.parent;
    case "ArrowRight":
      return nodes.find((one) => one.parent === id)?.id ?? null;
    case "Home":
      return nodes[0].id;
    case "End":
      return nodes.at(-1).id;
    default:
      return null;
  }
}

/** Place a tree in a narrow room: one node below another, children indented. Gives what `layout` gives. */
export function stacked(root, room) {
  const nodes = [];
  let y = 0;
  const place = (one, depth, parent) => {
    const x = Math.min(depth, 4) * INDENT;
    const own = { ...one, x, y, w: Math.max(room - x, 120), depth, parent: parent?.id ?? null };
    if (one.kind === "dag") listed(own);
    nodes.push(own);
    y += own.h + STACK_GAP;
    for (const child of one.children) place(child, depth + 1, one);
  };
  place(root, 0, null);
  return { nodes, width: Math.max(...nodes.map((one) => one.x + one.w)), height: y - STACK_GAP };
}

/** Put the tasks of a graph below one another, parents first; what each comes after is told in words then, not by lines. */
function listed(graph) {
  const order = graph.tasks.map((_, index) => index).sort((one, other) => graph.tasks[one].x - graph.tasks[other].x || one - other);
  graph.tasks = [...graph.tasks];
  order.forEach((index, place) => {
    const parents = graph.edges.filter(([, to]) => to === index).map(([from]) => graph.tasks[from].name);
    const y = DAG_PAD[2] + place * (DAG_NODE[1] + STACK_GAP);
    graph.tasks[index] = { ...graph.tasks[index], x: DAG_PAD[0], y, w: graph.w - 2 * DAG_PAD[0], after: parents.join(", ") };
  });
  graph.edges = [];
  graph.h = DAG_PAD[2] + order.length * (DAG_NODE[1] + STACK_GAP) - STACK_GAP + DAG_PAD[1];
}

/** The line to a child that stands below its parent, indented. */
export function elbow(parent, child) {
  const [x, y] = [parent.x + INDENT / 2, child.y + Math.min(child.h, 64) / 2];
  return `M${x} ${parent.y + parent.h}C${x} ${parent.y + parent.h} ${x} ${y} ${x} ${y}C${x} ${y} ${x} ${y} ${child.x} ${y}`;
}
