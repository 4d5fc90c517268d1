"""A still picture of a run as SVG, for where nothing lives: a saved notebook, GitHub, nbviewer.

It is drawn from the same items as the page's graph, by the layout of `web/tree.mjs`. Invariants: the tree of elements is made by
`xml.etree`, so data can only be text; nothing in it moves or is fetched; it says no time that passes, so that it changes only
when the run does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as Xml

from durable_nb.views.words import counted, duration, moment

Item = Mapping[str, Any]
GAP_X, GAP_Y, DROP, MARGIN, HEAD = 48, 12, 96, 14, 44
SIZES = {"run": (216, 36), "group": (232, 52), "wait": (372, 36), "past": (232, 30)}
DAG_NODE, DAG_PAD = (172, 36), (14, 14, 34)
MOST = 80  # nodes that are drawn
NARROW, WIDE = frozenset("iIjlt.,:;'|!()[]` "), frozenset("mwMW@%<>=+…“”")
SHAPES = {  # as in web/states.mjs
    "queued": ("queued", "off", "M3 7h.01M7 7h.01M11 7h.01"),
    "running": ("running", "run", "M7 2a5 5 0 1 1-4.6 3"),
    "waiting": ("waiting", "wait", "M3 2h8L3 12h8z"),
    "parked": ("parked", "wait", "M5 3v8M9 3v8"),
    "completed": ("completed", "ok", "M2.5 7.5l3 3.5 6-8"),
    "failed": ("failed", "bad", "M3 3l8 8m0-8l-8 8"),
    "cancelling": ("cleans up, being cancelled", "off", "M7 2a5 5 0 1 1 0 10M4 10l6-6"),
    "cancelled": ("cancelled", "off", "M7 2a5 5 0 1 1-.01 0M3.5 10.5l7-7"),
}
COLOURS = {
    "light": "--bg:#fff;--bg2:#f5f6f7;--line:#d9dce1;--edge:#ccd1d8;--ink:#1f2430;--dim:#636a76;--run:#2563c9;--wait:#965f07;"
    "--ok:#2b7a4b;--bad:#b42335;--off:#6d747f;--wait-bg:#fdf3e1",
    "dark": "--bg:#111418;--bg2:#1a1e24;--line:#313740;--edge:#474e59;--ink:#e6e8ec;--dim:#9aa2ae;--run:#78a9ff;--wait:#e0a94a;"
    "--ok:#6cc48f;--bad:#ff8b97;--off:#959da9;--wait-bg:#33260f",
}
STYLE = (
    f"#dnb-picture{{{COLOURS['light']}}}@media (prefers-color-scheme:dark){{#dnb-picture{{{COLOURS['dark']}}}}}"
    "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:var(--ink)}.dim{fill:var(--dim);font-size:11px}"
    ".title{font-size:14px;font-weight:600}.box{fill:var(--bg);stroke:var(--edge)}.edge{fill:none;stroke:var(--edge);stroke-width:1.5}"
    ".sign{fill:none;stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}"
    + "".join(f".s-{name}{{stroke:var(--{name})}}.f-{name}{{fill:var(--{name})}}" for name in ("run", "wait", "ok", "bad", "off"))
)


@dataclass(eq=False)
class Node:
    """A node of the tree; `x` and `y` are its place."""

    kind: str
    item: Item
    at: float
    rank: float
    width: float
    height: float
    children: list[Node] = field(default_factory=list)
    tasks: list[tuple[str, float, float, Item | None, str]] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0


def picture(items: Mapping[str, Any]) -> str:
    """Give the picture of a run's items (see `views.sources`) as SVG."""
    run = items["run"]
    root = tree_of(items)
    place(root)
    nodes = list(_walk(root))
    shown = nodes[:MOST]
    width = max(640.0, *(node.x + node.width for node in shown)) + 2 * MARGIN
    top = min(node.y for node in shown) - MARGIN - HEAD
    height = max(node.y + node.height for node in shown) + MARGIN - top
    svg = Xml.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "role": "img",
            "id": "dnb-picture",  # by which the style sheet of a view that lives knows it
        },
    )
    word = SHAPES[run["state"]][0]
    Xml.SubElement(svg, "title").text = f"{run['task']}: {word}"
    Xml.SubElement(svg, "style").text = STYLE
    _rect(svg, 0.5, 0.5, width - 1, height - 1, "box", 6)
    _header(svg, run, width)
    drawing = Xml.SubElement(svg, "g", {"transform": f"translate({MARGIN} {-top:g})"})
    for node in shown:
        for child in node.children:
            if child in shown:
                Xml.SubElement(drawing, "path", {"class": "edge", "d": _edge(node, child)})
    for node in shown:
        _draw(drawing, node)
    if len(nodes) > MOST:
        _text(svg, width - MARGIN, height - 6, f"and {counted(len(nodes) - MOST, 'node')} more", "dim", "end")
    return Xml.tostring(svg, encoding="unicode")


def tree_of(items: Mapping[str, Any]) -> Node:
    """Give the tree that items describe, as `treeOf` of the page does."""
    root = _node("run", items["run"])
    by_number, groups = {items["run"]["number"]: root}, dict[str, Node]()
    placed: list[Node] = []
    for key, item in items.items():
        kind = {"n": "run", "g": "group", "w": "wait" if key[0] == "w" and item["state"] == "waiting" else "past"}.get(
            key.partition("/")[0]
        )
        if kind is None:
            continue
        node = _node(kind, item)
        placed.append(node)
        if kind == "run":
            by_number[item["number"]] = node
        elif kind == "group":
            groups[key[2:]] = node
    graphs = {int(key[5:]): _graph(item) for key, item in items.items() if key.startswith("plan/")}
    for node in placed:
        graph = graphs.get(node.item["parent"])
        if node.kind == "run" and graph is not None and _put_in(graph, node.item):
            continue
        parent = groups.get(node.item["group"]) if node.item.get("group") else by_number.get(node.item["parent"])
        if parent is not None:
            parent.children.append(node)
    for number, graph in graphs.items():
        if number in by_number:
            by_number[number].children.append(graph)
    for node in [*by_number.values(), *groups.values()]:
        node.children.sort(key=lambda child: (child.at, child.rank))
    return root


def _node(kind: str, item: Item) -> Node:
    rank = item.get("number") or item.get("first") or item.get("node", 0) / 1e6
    return Node(kind, item, item["at"], rank, *SIZES[kind])


def _graph(plan: Item) -> Node:
    at = plan["at"] or layered([task[1] for task in plan["tasks"]])
    node = Node("dag", plan, float("-inf"), -1, 0, 0)
    for (name, _, _), (x, y) in zip(plan["tasks"], at, strict=True):
        node.tasks.append((name, x + DAG_PAD[0], y + DAG_PAD[2], None, (plan["passed"].get(name) or [""])[0]))
    node.width = max((task[1] for task in node.tasks), default=0) + DAG_NODE[0] + DAG_PAD[0]
    node.height = max((task[2] for task in node.tasks), default=0) + DAG_NODE[1] + DAG_PAD[1]
    return node


def _put_in(graph: Node, item: Item) -> bool:
    for index, (name, x, y, _, passed) in enumerate(graph.tasks):
        if name == item["key"]:
            graph.tasks[index] = (name, x, y, item, passed)
            return True
    return False


def layered(parents: list[list[int]]) -> list[tuple[float, float]]:
    """Give the corners of a graph's tasks in layers, where there is no `dot`: parents are declared before their children."""
    layer: list[int] = []
    for own in parents:
        layer.append(1 + max((layer[parent] for parent in own if parent < len(layer)), default=-1))
    rows = [0] * (max(layer, default=0) + 1)
    found = []
    for column in layer:
        found.append((column * (DAG_NODE[0] + 44.0), rows[column] * (DAG_NODE[1] + 14.0)))
        rows[column] += 1
    return found


def place(root: Node) -> None:
    """Give every node its place: a tidy tree after Reingold and Tilford (1981), from left to right, as `layout` of the page."""
    widths: list[float] = []

    def measure(node: Node, depth: int) -> None:
        widths.extend([0.0] * (depth + 1 - len(widths)))
        widths[depth] = max(widths[depth], node.width if node.children else 0)
        for child in node.children:
            measure(child, depth + 1)

    measure(root, 0)
    columns = [sum(width + GAP_X for width in widths[:depth]) for depth in range(len(widths))]

    def outline(node: Node, depth: int) -> list[list[float]]:
        if not node.children:
            reach = next(
                (at for at, x in enumerate(columns) if at > depth and x >= columns[depth] + node.width + GAP_X / 2), None
            )
            return [[0.0, node.height] for _ in range((reach or len(columns)) - depth)]
        whole: list[list[float]] = []
        before: Node | None = None
        for child in node.children:
            own = outline(child, depth + 1)
            shift = max((done[1] + GAP_Y - new[0] for done, new in zip(whole, own, strict=False)), default=0.0)
            if before is not None:
                shift = max(shift, before.y + before.height + GAP_Y)
            child.y, before = shift, child
            for column, (top, bottom) in enumerate(own):
                if column < len(whole):
                    whole[column] = [min(whole[column][0], top + shift), max(whole[column][1], bottom + shift)]
                else:
                    whole.append([top + shift, bottom + shift])
        first, last = node.children[0], node.children[-1]
        start, end = (child.y + min(child.height, 64) / 2 for child in (first, last))
        middle = min((start + end) / 2, start + DROP) - node.height / 2
        for child in node.children:
            child.y -= middle
        return [[0.0, node.height], *([top - middle, bottom - middle] for top, bottom in whole)]

    outline(root, 0)

    def settle(node: Node, depth: int) -> None:
        node.x = columns[depth]
        for child in node.children:
            child.y += node.y
            settle(child, depth + 1)

    settle(root, 0)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


# ---------------------------------------------------------------- drawing


def _header(svg: Xml.Element, run: Item, width: float) -> None:
    word, colour, shape = SHAPES[run["state"]]
    title = fitted(run["task"], 320)
    _text(svg, MARGIN, 26, title, "title")
    x = MARGIN + sum(map(letter_width, title)) * 1.15 + 10
    _sign(svg, x, 15, colour, shape)
    _text(svg, x + 20, 26, word, f"f-{colour}")
    parts = [duration(run["to"] - run["from"]) if run["from"] is not None and run["to"] is not None else ""]
    parts += [counted(run["children"], "child", "children") if run["children"] else ""]
    parts += [counted(run["checkpoints"], "checkpoint") if run["checkpoints"] else "", f"created {moment(run['at'])}"]
    _text(svg, x + 30 + len(word) * 7.2, 26, " · ".join(part for part in parts if part), "dim")
    _text(svg, width - MARGIN, 26, run["id"], "dim", "end")
    Xml.SubElement(svg, "path", {"class": "edge", "d": f"M0 {HEAD - 4}H{width:g}"})


def _draw(parent: Xml.Element, node: Node) -> None:
    x, y, item = node.x, node.y, node.item
    match node.kind:
        case "group":
            for shift in (6, 3, 0):
                _rect(parent, x + shift, y + shift, node.width, node.height, "box", 6)
            done = sum(item["counts"].get(state, 0) for state in ("completed", "failed", "cancelled"))
            failed = item["counts"].get("failed", 0)
            said = f"{failed} failed · {done} / {item['total']}" if failed else f"{done} / {item['total']}"
            _text(parent, x + 10, y + 22, fitted(f"{item['task']} × {item['total']}", node.width - 20 - len(said) * 6.2))
            _text(parent, x + node.width - 10, y + 22, said, "dim", "end")
            at = x + 10.0
            _rect(parent, at, y + 33, node.width - 20, 7, "", 3.5, fill="var(--line)")
            for state in ("completed", "failed", "cancelled", "cancelling", "parked", "waiting", "running"):
                if count := item["counts"].get(state, 0):
                    part = (node.width - 20) * count / item["total"]
                    _rect(parent, at, y + 33, part, 7, f"f-{SHAPES[state][1]}", 1)
                    at += part
        case "wait":
            box = _rect(parent, x, y, node.width, node.height, "s-wait", 18, fill="var(--wait-bg)")
            box.set("stroke-dasharray", "4 3")
            _sign(parent, x + 14, y + 11, "wait", SHAPES["waiting"][2])
            _text(parent, x + 36, y + 23, fitted(wait_words(item), node.width - 50))
        case "past":
            _rect(parent, x, y, node.width, node.height, "box", 15).set("stroke-dasharray", "4 3")
            said = counted(item["total"], "wait") + " before" if "total" in item else item["ask"]
            _sign(parent, x + 12, y + 8, *SHAPES[item["state"]][1:])
            _text(parent, x + 34, y + 19, fitted(said, node.width - 44), "dim")
        case "dag":
            _rect(parent, x, y, node.width, node.height, "box", 8, fill="var(--bg2)")
            _text(parent, x + 10, y + 20, f"graph of {counted(len(node.tasks), 'task')}", "dim")
            for index, (_, owners, _) in enumerate(item["tasks"]):
                for owner in owners:
                    start, end = node.tasks[owner], node.tasks[index]
                    Xml.SubElement(
                        parent,
                        "path",
                        {
                            "class": "edge",
                            "d": _curve(x + start[1] + DAG_NODE[0], y + start[2] + 18, x + end[1], y + end[2] + 18),
                        },
                    )
            for name, left, top, run, passed in node.tasks:
                _run(parent, x + left, y + top, *DAG_NODE, name, run, passed or "not started")
        case _:
            key = f" {item['key']}" if item["key"] else ""
            _run(parent, x, y, node.width, node.height, item["task"] + key, item, "")


def _run(parent: Xml.Element, x: float, y: float, width: float, height: float, name: str, item: Item | None, else_: str) -> None:
    word, colour, shape = SHAPES[item["state"]] if item is not None else (else_, "off", SHAPES["queued"][2])
    loud = f"box s-{colour}" if word in ("failed", "waiting", "parked", "running") else "box"
    box = _rect(parent, x, y, width, height, loud, 6)
    if colour in ("bad", "wait", "run") and loud != "box":
        box.set("style", f"stroke:var(--{colour})")
    took = word
    if item is not None and item["from"] is not None and item["to"] is not None and word == "completed":
        took = duration(item["to"] - item["from"])
    _sign(parent, x + 10, y + height / 2 - 7, colour, shape)
    _text(parent, x + 32, y + height / 2 + 4.5, fitted(name, width - 48 - len(took) * 6.2))
    _text(parent, x + width - 10, y + height / 2 + 4, took, "dim", "end")
    if item is not None and item["note"]:
        Xml.SubElement(box, "title").text = item["note"]


def wait_words(item: Item) -> str:
    """Give an open wait in words, without the time that passes."""
    if item["question"] is not None:
        return f"“{item['question']}”"
    groups: dict[int, list[str]] = {}
    for condition in item["conditions"]:
        said = condition["key"] if condition["key"] is not None else condition["name"]
        if condition["kind"] == "sleep" and condition["due"] is not None:
            said = duration(condition["due"] - item["at"])
        said += f" if {condition['if']}" if condition["if"] else ""
        groups.setdefault(condition["group"], []).append(said)
    return "waits for " + " and ".join(" or ".join(group) for group in groups.values())


def fitted(text: str, width: float) -> str:
    """Cut a text to a width, by about how wide a letter is."""
    used = 0.0
    for index, letter in enumerate(text):
        used += letter_width(letter)
        if used > width:
            return text[: max(0, index - 1)] + "…"
    return text


def letter_width(letter: str) -> float:
    """Give about how wide a letter of 13 pixels is; rather too much than too little."""
    if letter in NARROW:
        return 4.6
    if unicodedata.east_asian_width(letter) in "WF":
        return 14.0
    return 11.5 if letter in WIDE else 9.5 if letter.isupper() else 8.0


def _edge(parent: Node, child: Node) -> str:
    return _curve(parent.x + parent.width, parent.y + min(parent.height, 64) / 2, child.x, child.y + min(child.height, 64) / 2)


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x2 - x1) / 2
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"


def _rect(
    parent: Xml.Element, x: float, y: float, width: float, height: float, kind: str, round_: float, *, fill: str = ""
) -> Xml.Element:
    places = {"x": x, "y": y, "width": width, "height": height, "rx": round_}
    element = Xml.SubElement(parent, "rect", {name: f"{value:g}" for name, value in places.items()})
    if kind:
        element.set("class", kind)
    if fill:
        element.set("style", f"fill:{fill}")
    return element


def _text(parent: Xml.Element, x: float, y: float, text: str, kind: str = "", anchor: str = "") -> None:
    element = Xml.SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}"})
    if kind:
        element.set("class", kind)
    if anchor:
        element.set("text-anchor", anchor)
    element.text = text


def _sign(parent: Xml.Element, x: float, y: float, colour: str, shape: str) -> None:
    Xml.SubElement(parent, "path", {"class": f"sign s-{colour}", "transform": f"translate({x:g} {y:g})", "d": shape})
