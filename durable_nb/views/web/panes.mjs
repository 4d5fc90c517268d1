// Where a run stands at a position: the source with the line marked, the frames, their locals, and the checkpoint.

import { h, replace } from "./dom.mjs";
import { linesOf, localsOrder, marks } from "./history.mjs";
import { duration, moment } from "./words.mjs";

const FOLDED = 70; // characters of a local that are always shown
const SIGNS = { past: "●", here: "●", ahead: "○" };

/** The source pane. `picked(node)` when the mark of a checkpoint is clicked. */
export function sourcePane({ picked }) {
  const title = h("div", { class: "dnb-pane-head" });
  const body = h("div", { class: "dnb-source", role: "region", "aria-label": "Source", tabindex: "0" });
  const element = h("div", { class: "dnb-pane" }, title, body);
  let shown = null;
  let rows = new Map();
  let byLine = new Map();

  function draw(source, version, checkpoints) {
    shown = source;
    rows = new Map();
    byLine = source && source.name === "" ? linesOf(checkpoints) : new Map();
    replace(title, source ? h("b", {}, source.function) : "Source", h("span", { class: "dnb-num" }, source && version ? ` version ${version}` : ""));
    replace(
      body,
      source
        ? source.lines.map((text, place) => {
            const number = source.first + place;
            const mark = h("span", { class: "dnb-marks" });
            const line = h("div", { class: "dnb-replay-code" }, h("span", { class: "dnb-gutter" }, String(number)), h("code", {}, text || " "), mark);
            rows.set(number, { line, mark, said: "" });
            return line;
          })
        : h("p", { class: "dnb-num" }, "The source is not in the log."),
    );
  }

  function markLine(number, at) {
    const found = rows.get(number);
    const said = marks(byLine.get(number) ?? [], at);
    const key = JSON.stringify(said);
    if (!found || found.said === key) return;
    found.said = key;
    replace(
      found.mark,
      said.map(([kind, words, node]) =>
        h("button", { type: "button", class: `dnb-replay-mark dnb-mark-${kind}`, tabindex: "-1", "aria-label": `go to checkpoint ${node}`, click: () => picked(node) }, `${SIGNS[kind]} ${words}`),
      ),
    );
  }

  let current = null;
  return {
    element,
    /** Show a source, the line on which it stands, and which of its checkpoints are behind. */
    show(source, version, checkpoints, line, at) {
      const isNew = source !== shown;
      if (isNew) draw(source, version, checkpoints);
      for (const number of byLine.keys()) markLine(number, at);
      if (current && rows.get(current)) {
        rows.get(current).line.classList.remove("dnb-at");
        rows.get(current).line.removeAttribute("aria-current");
      }
      current = line;
      const found = rows.get(line)?.line;
      if (!found) return;
      found.classList.add("dnb-at");
      found.setAttribute("aria-current", "step");
      const [top, bottom] = [found.offsetTop - body.offsetTop, found.offsetTop - body.offsetTop + found.offsetHeight];
      if (top < body.scrollTop + 20 || bottom > body.scrollTop + body.clientHeight - 20) body.scrollTop = Math.max(0, top - body.clientHeight / 2);
    },
    /** The checkpoints have changed: draw anew at the next show. */
    forget: () => (shown = null),
  };
}

/** The pane of frames and locals. `framed(frame)` when another frame is picked. */
export function localsPane({ framed }) {
  const stack = h("div", { class: "dnb-stack", role: "group", "aria-label": "Suspended functions" });
  const note = h("p", { class: "dnb-note-line" });
  const body = h("tbody", {});
  const columns = h("colgroup", {}, h("col", { class: "dnb-col-name" }), h("col", {}));
  const table = h("table", { class: "dnb-locals" }, h("caption", { class: "dnb-hidden" }, "Local variables"), columns, body);
  const unfolded = new Set();
  const element = h("div", { class: "dnb-pane-part" }, stack, note, table);

  const long = (name, text) => text.length > FOLDED || unfolded.has(name);
  function folding(name, kind, text) {
    const turn = () => {
      if (!unfolded.delete(name)) unfolded.add(name);
      draw();
    };
    const draw = () => {
      const isOpen = unfolded.has(name);
      element.setAttribute("aria-expanded", String(isOpen));
      element.setAttribute("class", `dnb-fold${isOpen ? " dnb-open" : ""}`);
    };
    const element = h("button", { type: "button", click: turn }, h("span", { class: "dnb-type" }, kind), " ", text);
    draw();
    return element;
  }

  function local([name, type, size, text, change]) {
    const kind = [type, size].filter(Boolean).join(" ");
    return h(
      "tr",
      { class: change ? `dnb-changed` : "" },
      h("th", { scope: "row" }, name, change ? h("span", { class: "dnb-change", title: `${change} since the position before` }, change === "new" ? "new" : "≠", h("span", { class: "dnb-hidden" }, ` ${change}`)) : null),
      h("td", {}, long(name, text) ? folding(name, kind, text) : [h("span", { class: "dnb-type" }, kind), " ", text]),
    );
  }

  return {
    element,
    show(position, place) {
      const { frames, asker, more, reason } = position;
      const several = frames.length > 1;
      stack.hidden = !several;
      replace(
        stack,
        several
          ? frames.map((frame, number) =>
              h(
                "button",
                { type: "button", "aria-pressed": String(number === place), click: () => framed(frame), title: frame.source },
                h("b", {}, frame.function),
                ` line ${frame.line}`,
                frame.task ? h("span", { class: "dnb-num" }, ` task ${frame.task + 1}`) : null,
                frame.task === asker && frames.some((one) => one.task !== asker) ? h("span", { class: "dnb-frame-asks" }, " asks") : null,
              ),
            )
          : [],
        more ? h("span", { class: "dnb-num" }, `and ${more.toLocaleString("en")} tasks more`) : null,
      );
      const shown = frames[place];
      note.hidden = !reason && (shown ? shown.locals.length > 0 : false);
      note.setAttribute("class", `dnb-note-line${reason ? " dnb-warned" : ""}`);
      replace(note, reason || (shown ? "no locals yet" : ""));
      table.hidden = !shown;
      replace(body, localsOrder(shown?.locals ?? []).map(local));
    },
    wait(words) {
      stack.hidden = table.hidden = true;
      note.hidden = false;
      note.setAttribute("class", "dnb-note-line dnb-num");
      replace(note, words);
    },
  };
}

/** The pane of what was asked and recorded. `whole(node)` when all of a long value is wanted, `opened(run)` for its child. */
export function outcomePane({ whole, opened }) {
  const element = h("div", { class: "dnb-pane-part dnb-outcome", role: "region", "aria-label": "What was asked and recorded" });

  function value(found) {
    if (found.error) {
      const [type, message, trace] = found.error;
      return [h("p", { class: "dnb-error" }, h("b", {}, type), message ? `: ${message}` : ""), trace ? h("details", {}, h("summary", {}, "where it came from"), h("pre", {}, trace)) : null];
    }
    if (found.value === null) return h("p", { class: "dnb-num" }, found.given_up ? "its own code stopped waiting for it" : "nothing is recorded yet");
    return [
      h("pre", { class: "dnb-value", tabindex: "0" }, found.value),
      found.value.length < found.size && found.value.endsWith("…") ? h("button", { type: "button", click: () => whole(found.node) }, `Show all ${found.size.toLocaleString("en")} characters`) : null,
    ];
  }

  return {
    element,
    show(found) {
      const times = [h("span", {}, `asked ${moment(found.asked, { exact: true })}`)];
      if (found.recorded !== null) times.push(h("span", {}, `recorded ${moment(found.recorded, { exact: true })}`), h("span", {}, `after ${duration(found.recorded - found.asked)}`));
      replace(
        element,
        h("h4", {}, h("span", { class: "dnb-num" }, `${found.node} `), found.ask.startsWith(found.kind) ? found.ask : `${found.kind} ${found.ask}`),
        value(found),
        found.child ? h("p", { class: "dnb-num" }, `child ${found.child[0]} `, h("button", { type: "button", class: "dnb-replay-link", click: () => opened(found.child[1]) }, `${found.child[1].slice(0, 4)}…${found.child[1].slice(-3)}`)) : null,
        h("p", { class: "dnb-replay-asked" }, times),
      );
    },
    end(run, words) {
      replace(
        element,
        h("h4", {}, words),
        run.error ? h("p", { class: "dnb-error" }, h("b", {}, run.error[0]), run.error[1] ? `: ${run.error[1]}` : "") : null,
        run.output !== null ? h("pre", { class: "dnb-value", tabindex: "0" }, run.output) : null,
        run.finished ? h("p", { class: "dnb-replay-asked" }, `finished ${moment(run.finished, { exact: true })}`) : null,
      );
    },
    wait: (words) => replace(element, h("p", { class: "dnb-num" }, words)),
  };
}
