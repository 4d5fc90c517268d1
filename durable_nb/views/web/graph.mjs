// The graph of a run: its tree of children as they are spawned, and what it waits for.
//
// Each node is an element that keeps its identity, so that it moves where the layout has moved it; what it holds is made anew only when
// its item has changed. One node is in the tab order; arrows move among them.

import { h, replace, s } from "./dom.mjs";
import { face, isTicking, opens, spoken, toneOf } from "./nodes.mjs";
import { sidePanel } from "./panel.mjs";
import { DAG_NODE, edge, elbow, layout, neighbour, stacked, treeOf } from "./tree.mjs";

const MATTERS = /^(run$|n\/|g\/|w\/|plan\/)/;
const NARROW = 660;
const MARGIN = 12;

function make(host) {
  const edges = s("svg", { class: "dnb-edges", "aria-hidden": "true" });
  const canvas = h("div", { class: "dnb-canvas", role: "tree", "aria-label": "Graph of the run" }, edges);
  const scroll = h("div", { class: "dnb-graph-scroll" }, canvas);
  const side = sidePanel(host, () => focus(current));
  const element = h("div", { class: "dnb-graph", keydown: keyed }, scroll, side.element);
  const drawn = new Map();
  const lines = new Map();
  let nodes = [];
  let current = null;
  let room = 0;
  let isNarrow = false;

  const act = {
    toggle(one) {
      if (one.kind === "group") host.perform("unfold", { group: one.id.slice(2), page: one.item.page === null ? 0 : null });
      else host.perform("expand", { run: one.item.number, is_open: !one.item.open });
    },
    page: (one, page) => host.perform("unfold", { group: one.item.group, page }),
  };

  /** The nodes as a reader goes through them, the tasks of graphs among them. */
  function flattened(root, width) {
    isNarrow = width < NARROW;
    const { nodes: placed, ...size } = isNarrow ? stacked(root, width) : layout(root);
    const all = [];
    for (const one of placed) {
      all.push(one);
      if (one.kind !== "dag") continue;
      for (const task of [...one.tasks].sort((a, b) => a.x - b.x || a.y - b.y)) {
        all.push({ ...task, kind: "task", x: one.x + task.x, y: one.y + task.y, w: task.w ?? DAG_NODE[0], h: DAG_NODE[1], depth: one.depth + 1, parent: one.id, children: [] });
      }
    }
    return { all, ...size };
  }

  function update(items, keys) {
    if (![...keys].some((key) => MATTERS.test(key)) && room === element.clientWidth) return;
    const root = treeOf(items);
    if (!root) return;
    room = element.clientWidth;
    const { all, width, height } = flattened(root, (room || 900) - 2 * MARGIN);
    nodes = all;
    canvas.style.width = `${width + 2 * MARGIN}px`;
    canvas.style.height = `${height + 2 * MARGIN}px`;
    if (!nodes.some((one) => one.id === current)) current = nodes[0].id;
    const now = host.now();
    for (const one of nodes) put(one, now);
    const ids = new Set(nodes.map((one) => one.id));
    const hadFocus = canvas.contains(document.activeElement);
    for (const [id, { element: old }] of drawn) {
      if (ids.has(id)) continue;
      old.remove();
      drawn.delete(id);
    }
    if (hadFocus && !canvas.contains(document.activeElement)) focus(current);
    join(new Map(nodes.map((one) => [one.id, one])));
    side.update(items, keys);
  }

  function put(one, now) {
    let place = drawn.get(one.id);
    if (!place) {
      place = { element: h("div", { role: "treeitem", tabindex: "-1", click: () => open(one.id), focus: () => mark(one.id) }), item: undefined };
      drawn.set(one.id, place);
      canvas.append(place.element);
    }
    const { element: at } = place;
    place.one = one;
    at.style.transform = `translate(${one.x + MARGIN}px, ${one.y + MARGIN}px)`;
    at.style.width = `${one.w}px`;
    at.style.height = `${one.h}px`;
    at.setAttribute("tabindex", one.id === current ? "0" : "-1");
    at.setAttribute("aria-level", String(one.depth + 1));
    const tone = toneOf(one);
    at.setAttribute("class", `dnb-node dnb-kind-${one.kind}${tone ? ` dnb-tone-${tone}` : ""}${one.kind === "task" && !one.item ? " dnb-unasked" : ""}${side.shows(one) ? " dnb-picked" : ""}`);
    if (opens(one, one.depth === 0)) at.setAttribute("aria-expanded", String(one.kind === "group" ? one.item.page !== null : Boolean(one.item.open)));
    else if (one.children.length || one.kind === "dag") at.setAttribute("aria-expanded", "true");
    else at.removeAttribute("aria-expanded");
    if (place.item !== one.item || place.passed !== one.passed || one.kind === "dag") draw(place, now);
  }

  function draw(place, now) {
    const { one, element: at } = place;
    place.item = one.item;
    place.passed = one.passed;
    at.setAttribute("aria-label", spoken(one, now));
    if (one.item?.note) at.setAttribute("title", one.item.note);
    else at.removeAttribute("title");
    replace(at, face(one, now, act, one.depth === 0));
  }

  function join(byId) {
    const wanted = new Map();
    for (const one of nodes) {
      if (one.kind === "task" || !byId.has(one.parent)) continue;
      wanted.set(one.id, [(isNarrow ? elbow : edge)(byId.get(one.parent), one), one.kind]);
    }
    for (const one of nodes) {
      if (one.kind !== "dag") continue;
      for (const [from, to] of one.edges) {
        const ends = [from, to].map((index) => byId.get(one.tasks[index].id));
        wanted.set(`${one.tasks[to].id} after ${one.tasks[from].id}`, [edge(...ends), "task"]);
      }
    }
    for (const [id, line] of lines) {
      if (wanted.has(id)) continue;
      line.remove();
      lines.delete(id);
    }
    for (const [id, [path, kind]] of wanted) {
      let line = lines.get(id);
      if (!line) {
        line = s("path", { class: `dnb-edge dnb-edge-${kind}`, transform: `translate(${MARGIN} ${MARGIN})` });
        lines.set(id, line);
        edges.append(line);
      }
      line.setAttribute("d", path);
      line.style.setProperty("d", `path("${path}")`); // so that it moves with its nodes, where the browser can
    }
  }

  function mark(id) {
    drawn.get(current)?.element.setAttribute("tabindex", "-1");
    current = id;
    drawn.get(id)?.element.setAttribute("tabindex", "0");
  }
  function focus(id) {
    mark(id);
    drawn.get(id)?.element.focus({ preventScroll: false });
  }
  function open(id) {
    const one = drawn.get(id)?.one;
    if (!one) return;
    mark(id);
    if (one.kind === "group") act.toggle(one);
    else if (one.kind !== "pager" && one.kind !== "dag") {
      side.open(one);
      const hidden = one.x + one.w + 2 * MARGIN - scroll.scrollLeft - scroll.clientWidth;
      if (hidden > 0) scroll.scrollBy({ left: hidden, behavior: "instant" }); // the panel has taken its room
    }
    for (const place of drawn.values()) place.element.classList.toggle("dnb-picked", side.shows(place.one));
  }
  function keyed(event) {
    if (event.key === "Escape" && side.isOpen()) {
      event.stopPropagation();
      side.close();
      return;
    }
    if (event.target.getAttribute("role") !== "treeitem" || event.altKey || event.ctrlKey || event.metaKey) return;
    const one = drawn.get(current)?.one;
    const isShut = one && opens(one, one.depth === 0) && event.target.getAttribute("aria-expanded") === "false";
    const isOpen = one && opens(one, one.depth === 0) && event.target.getAttribute("aria-expanded") === "true";
    let done = true;
    if (event.key === "Enter" || event.key === " ") open(current);
    else if (event.key === "ArrowRight" && isShut) act.toggle(one);
    else if (event.key === "ArrowLeft" && isOpen) act.toggle(one);
    else if (one?.kind === "pager" && event.key === "PageDown" && one.item.page + 1 < one.item.pages) act.page(one, one.item.page + 1);
    else if (one?.kind === "pager" && event.key === "PageUp" && one.item.page > 0) act.page(one, one.item.page - 1);
    else {
      const next = neighbour(nodes, current, event.key);
      if (next) focus(next);
      done = Boolean(next);
    }
    if (done || /^(Arrow|Home|End|Page)/.test(event.key)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  const stop = host.tick(() => {
    const now = host.now();
    for (const place of drawn.values()) if (isTicking(place.one)) draw(place, now);
  });
  const sized = new ResizeObserver(() => {
    if (element.clientWidth && element.clientWidth !== room && host.items.size) update(host.items, new Set());
  });
  sized.observe(element);
  host.answer = () => {
    const wait = nodes.find((one) => one.kind === "wait" && one.item.is_question);
    if (wait) open(wait.id);
  };
  return {
    element,
    update,
    close() {
      stop();
      sized.disconnect();
      side.close();
    },
  };
}

export const graphTab = { name: "graph", label: "Graph", make };
