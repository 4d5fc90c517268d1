// The panel beside the graph: everything about the node that was opened, as text.

import { askForm } from "./ask.mjs";
import { h, replace } from "./dom.mjs";
import { leftOf, waitWords } from "./nodes.mjs";
import { sign, stateOf } from "./states.mjs";
import { counted, duration, moment } from "./words.mjs";

const AGAIN_MS = 700;

/** Make the panel. `left` is called when it has closed. */
export function sidePanel(host, left) {
  const body = h("div", { class: "dnb-side-body" });
  const title = h("span", { class: "dnb-title" });
  const shut = h("button", { type: "button", class: "dnb-shut", "aria-label": "Close", title: "Close (Escape)", click: () => close() }, "✕");
  const element = h("aside", { class: "dnb-side", "aria-label": "Details", tabindex: "-1", hidden: true }, h("div", { class: "dnb-side-head" }, title, h("span", { class: "dnb-space" }), shut), body);
  let one = null;
  let version = 0;
  let late = null;
  let asked = null; // the last question whose form was made

  function close() {
    if (!one) return;
    one = null;
    clearTimeout(late);
    late = null;
    element.hidden = true;
    left();
  }

  async function load() {
    const wanted = (version += 1);
    late = null;
    try {
      const panel = await host.perform("panel", { number: one.item.number });
      if (wanted === version && one) drawRun(panel);
    } catch (error) {
      if (wanted === version) replace(body, h("p", { class: "dnb-error" }, error.message));
    }
  }

  function drawRun(panel) {
    const scroll = body.scrollTop;
    const [created, started, finished] = panel.times;
    const opened = new Map([...body.querySelectorAll("details")].map((part) => [part.dataset.of, part.open]));
    const part = (name, note, open, ...content) => {
      const details = h("details", { "data-of": name, open: opened.get(name) ?? open }, h("summary", {}, name, note ? h("span", { class: "dnb-num" }, ` ${note}`) : null), content);
      return details;
    };
    replace(title, panel.task);
    replace(
      body,
      h("p", { class: "dnb-graph-facts" }, h("span", { class: `dnb-pill dnb-${stateOf(panel.state).colour}` }, sign(panel.state), stateOf(panel.state).word), h("span", { class: "dnb-id" }, panel.id)),
      h("dl", { class: "dnb-times" }, fact("created", moment(created, { exact: true })), started === null ? null : fact("started", moment(started, { exact: true })), finished === null ? null : fact("finished", `${moment(finished, { exact: true })} (${duration(finished - (started ?? created))})`), panel.attempt > 1 ? fact("attempt", panel.attempt) : null, panel.entered > 1 ? fact("entered", counted(panel.entered, "time")) : null, panel.version ? fact("version", panel.version) : null),
      panel.blocked ? h("p", { class: "dnb-error" }, panel.blocked) : null,
      panel.error ? errorPart(panel) : null,
      part("Input", "", true, h("pre", {}, panel.input)),
      panel.output === null ? null : part("Output", "", true, h("pre", {}, panel.output)),
      panel.metadata ? part("Metadata", "", false, h("pre", {}, panel.metadata)) : null,
      panel.line_count ? part("Log", counted(panel.line_count, "line"), true, h("div", { class: "dnb-mini" }, panel.lines.map(logLine))) : null,
      panel.checkpoint_count ? part("Checkpoints", String(panel.checkpoint_count), false, h("ol", { class: "dnb-checkpoints" }, panel.checkpoints.map(checkpointLine))) : null,
    );
    body.scrollTop = scroll;
  }

  function errorPart(panel) {
    const [type, message, trace] = panel.error;
    return h("div", { class: "dnb-failure" }, h("p", { class: "dnb-error" }, h("b", {}, type), `: ${message}`), trace ? h("pre", { class: "dnb-trace" }, traceLines(trace)) : null);
  }

  function drawWait() {
    const { item } = one;
    replace(title, item.question ?? "Waits");
    replace(
      body,
      h("p", { class: "dnb-graph-facts" }, h("span", { class: `dnb-pill dnb-${stateOf(item.state).colour}` }, sign(item.state), stateOf(item.state).word), h("span", { class: "dnb-id" }, `checkpoint ${item.node ?? ""}`)),
      h("dl", { class: "dnb-times" }, fact("since", moment(item.at, { exact: true })), item.to ? fact("until", `${moment(item.to, { exact: true })} (${duration(item.to - item.at)})`) : null),
      item.conditions ? null : h("p", {}, item.ask ?? counted(item.total ?? 0, "wait")),
      item.conditions ? h("p", {}, item.question ? "" : `${waitWords(item).map(([, text]) => text).join("")} `, h("span", { class: "dnb-num" }, leftOf(item, host.now()))) : null,
      (item.conditions ?? []).map((condition) => [
        condition.due && !item.question ? h("p", { class: "dnb-num" }, `${condition.name}: due ${moment(condition.due, { exact: true })}`) : null,
        condition.problem ? h("p", { class: "dnb-error" }, `The filter failed on the last event: ${condition.problem}`) : null,
      ]),
      item.is_question ? answerPart(item) : lostPart(item),
    );
  }

  /** The form of a question's answer; what is being typed there survives every update. */
  function answerPart({ parent, branch, node }) {
    const place = `${parent}/${branch}/${node}`;
    if (asked?.place === place) return asked.element;
    const element = h("div", { class: "dnb-side-form" }, h("p", { class: "dnb-num" }, "Reading…"));
    const mine = (asked = { place, element, form: null });
    const sent = () => {
      asked = null;
      close();
    };
    host.perform("question", { run: parent, branch, node }).then(
      (question) => {
        mine.form = askForm(host, question, { sent, later: close });
        replace(element, mine.form.element);
      },
      (error) => replace(element, h("p", { class: "dnb-error" }, error.message)),
    );
    return element;
  }

  /** The question takes no answer any more: say so to who was writing one. */
  function lostPart({ parent, branch, node }) {
    if (asked?.place !== `${parent}/${branch}/${node}` || !asked.form?.isTouched()) return null;
    return h("p", { class: "dnb-error", role: "alert" }, "It is over: what you had filled in was not sent.");
  }

  return {
    element,
    isOpen: () => one !== null,
    shows: (other) => one !== null && one.id === other.id,
    close,
    open(other) {
      one = other;
      element.hidden = false;
      if (one.kind === "wait" || one.kind === "past") drawWait();
      else if (one.item) {
        replace(title, one.item.task);
        replace(body, h("p", { class: "dnb-num" }, "Reading…"));
        load();
      } else {
        replace(title, one.name);
        replace(body, h("p", {}, one.passed ? one.passed.join(": ") : "This task has not been asked for yet."));
      }
      element.focus({ preventScroll: true });
    },
    update(items, keys) {
      if (!one) return;
      const now = one.kind === "run" && !items.has(one.id) ? items.get("run") : items.get(one.id);
      if (!now || !(keys.has(one.id) || keys.has("run"))) return;
      if (one.kind === "wait" || one.kind === "past") {
        if (now === one.item) return;
        one = { ...one, kind: now.state === "waiting" ? "wait" : "past", item: now };
        drawWait();
      } else if (now.number === one.item.number) {
        one = { ...one, item: now };
        late ??= setTimeout(load, AGAIN_MS);
      }
    },
  };
}

/** A trace's lines, those of a cell's own source marked: `[class, text]`. */
export function markedTrace(trace) {
  let isOwn = false;
  return trace.split("\n").map((line) => {
    if (/^\s*File /.test(line)) isOwn = !/site-packages|durable_nb.(engine|tasks|log|client)/.test(line) && !/File "<?frozen/.test(line);
    else if (!/^\s/.test(line)) isOwn = false;
    return [isOwn ? "dnb-own" : "", line];
  });
}

function traceLines(trace) {
  return markedTrace(trace).map(([kind, text]) => h("span", { class: kind }, `${text}\n`));
}

function fact(name, value) {
  return [h("dt", {}, name), h("dd", {}, value)];
}

function logLine([at, , level, line, text]) {
  return h("div", { class: "dnb-graph-said" }, h("time", { title: moment(at, { exact: true }) }, moment(at).slice(11)), h("span", { class: "dnb-num" }, line === null ? "" : `line ${line}`), h("span", { class: "dnb-what" }, level === "INFO" ? "" : `${level.toLowerCase()} `, text));
}

function checkpointLine([node, kind, ask, line, asked, recorded, state]) {
  const words = ask.startsWith(kind) ? ask : `${kind} ${ask}`;
  return h("li", { value: String(node) }, sign(state, { alone: true }), h("span", { class: "dnb-what" }, words), h("span", { class: "dnb-num" }, [line === null ? "" : `line ${line}`, recorded === null ? "open" : duration(recorded - asked)].filter(Boolean).join(" · ")));
}
