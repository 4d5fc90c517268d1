// The replay tab: stepping through what a run has been through, with its locals; forks, and two histories side by side.

import { comparison } from "./compare.mjs";
import { h, replace } from "./dom.mjs";
import { forkForm } from "./fork.mjs";
import { checkpoint, endWords, frameShown, lanes, nextPlace, positionWords, stopAt, withStops } from "./history.mjs";
import { localsPane, outcomePane, sourcePane } from "./panes.mjs";
import { rail } from "./rail.mjs";
import { counted } from "./words.mjs";

const PLAY_MS = 800;
const AGAIN_MS = 150;
const FRESH_MS = 2000; // between two readings of a history that grows, or ten times what one takes
const AROUND = 24;

function button(label, sign, click, more = {}) {
  return h("button", { type: "button", "aria-label": label, title: label, class: "dnb-step", click, ...more }, sign);
}

function make(host) {
  let past = null; // what the kernel has sent of the history that is shown
  let checkpoints = [];
  let stops = [];
  let end = null;
  let isDone = false;
  let place = 0;
  let chosen = null; // the frame that a person has picked
  let asked = 0;
  let wanted = null; // run and branch, where another history than the run's present one is shown
  let compared = null;
  let timer = null;
  let stale = null;
  let isClosed = false;
  let pause = FRESH_MS;
  const outcomes = new Map();

  const back = button("Step back", "◀", () => go(place - 1));
  const play = button("Play", "▶", () => toggle(), { class: "dnb-step dnb-play" });
  const forth = button("Step forward", "▶", () => go(place + 1));
  const words = h("span", { class: "dnb-place", "aria-live": "polite" });
  const into = h("button", { type: "button", title: "Put the locals into the notebook, as values under the name replayed", click: () => put() }, "Into notebook");
  const forkHere = h("button", { type: "button", class: "dnb-go", click: () => openFork() }, "Fork here…");
  const against = h("select", { "aria-label": "Compare with", change: () => compare() });
  const said = h("p", { class: "dnb-said-note", role: "status", hidden: true });
  const track = rail({ moved: (next) => go(next), toggled: () => toggle(), chosen: (lane) => open(lane.run, lane.branch) });
  const source = sourcePane({ picked: (node) => goTo(node) });
  const locals = localsPane({ framed: (frame) => ((chosen = frame), draw()) });
  const outcome = outcomePane({ whole: (node) => fetchOutcome(node, true), opened: (run) => open(run, null) });
  const form = forkForm({ sent: fork });
  const sides = comparison({ picked: (node) => (stopComparing(), goTo(node)), closed: stopComparing });
  const split = h("div", { class: "dnb-split" }, source.element, h("div", { class: "dnb-pane dnb-pane-right" }, locals.element, outcome.element));
  const empty = h("p", { class: "dnb-num dnb-empty" }, "Reading the history…");
  const shown = h(
    "div",
    { hidden: true },
    h("div", { class: "dnb-replay-bar" }, h("span", { class: "dnb-steps" }, back, play, forth), words, h("span", { class: "dnb-space" }), against, into, forkHere),
    track.element,
    said,
    form.element,
    sides.element,
    split,
  );
  const element = h("div", { class: "dnb-replay" }, empty, shown);

  // ------------------------------------------------------------ the history

  async function load() {
    stale = null;
    const mine = (asked += 1);
    const begun = Date.now();
    try {
      const found = await host.perform("past", wanted ?? {});
      if (mine !== asked || isClosed) return;
      pause = Math.max(FRESH_MS, 10 * (Date.now() - begun));
      take(found);
    } catch (error) {
      if (mine === asked) fail(error);
    }
  }

  function take(found) {
    const isSame = past && past.run.id === found.run.id && past.branch === found.branch;
    const wasLast = place >= checkpoints.length;
    past = found;
    checkpoints = found.checkpoints.map(checkpoint);
    outcomes.clear();
    source.forget();
    [end, isDone] = [null, false];
    stops = isSame ? stops.filter((stop) => stop.frames.length) : [];
    if (!isSame) [place, chosen] = [0, null];
    else if (wasLast) place = checkpoints.length;
    place = Math.min(place, checkpoints.length);
    const found_ = lanes(found.run, found.branch, found.family);
    track.load(checkpoints, found_, [isOther(found.run) ? `run #${found.run.number}` : `branch ${found.branch}`, isOther(found.run) ? `branch ${found.branch}` : found.current ? "present" : "left"]);
    const others = found_.filter((lane) => !lane.isShown && !(lane.run === found.run.id && lane.branch === found.branch));
    against.hidden = others.length === 0;
    replace(against, h("option", { value: "" }, "Compare with…"), others.map((lane, number) => h("option", { value: String(number) }, `${lane.label}${lane.note ? ` (${lane.note})` : ""}`)));
    against.others = others;
    empty.hidden = true;
    shown.hidden = false;
    draw();
    fetchPositions();
  }

  const isOther = (run) => run.id !== (host.items?.get("run")?.id ?? run.id);

  function fail(error) {
    empty.hidden = false;
    replace(empty, h("span", { class: "dnb-error" }, error.message));
  }

  function open(run, branch) {
    stopPlaying();
    stopComparing();
    form.element.hidden = true;
    wanted = { run, branch };
    load();
  }

  // ------------------------------------------------------------ positions

  const of = () => ({ run: past.run.id, branch: past.branch });
  let isAsking = false;

  async function fetchPositions() {
    if (isAsking || isClosed || !past) return;
    isAsking = true;
    const mine = asked;
    const near = Math.min(place, checkpoints.length - 1);
    const first = checkpoints[Math.max(0, near - AROUND)]?.node ?? 0;
    const last = checkpoints[Math.min(checkpoints.length - 1, near + 2 * AROUND)]?.node ?? 0;
    try {
      const got = await host.perform("positions", { ...of(), first, last, end: place >= checkpoints.length });
      if (mine === asked) {
        stops = withStops(stops, got.stops);
        isDone = got.done;
        end = got.end ?? end;
        draw();
      }
    } catch (error) {
      if (mine === asked) locals.wait(error.message);
    }
    isAsking = false;
    if (!isClosed && !has(place)) setTimeout(fetchPositions, AGAIN_MS);
  }

  const position = (at) => (at >= checkpoints.length ? end : stopAt(stops, checkpoints[at].node));
  const has = (at) => Boolean(position(at));

  async function fetchOutcome(node, whole = false) {
    const mine = asked;
    try {
      const found = await host.perform("outcome", { ...of(), node, whole });
      if (mine !== asked) return;
      outcomes.set(node, found);
      if (checkpoints[place]?.node === node) outcome.show(found);
    } catch (error) {
      if (mine === asked) outcome.wait(error.message);
    }
  }

  // ------------------------------------------------------------ moving

  function go(next) {
    const to = Math.max(0, Math.min(checkpoints.length, next));
    if (to === place) return;
    place = to;
    if (!form.element.hidden) form.element.hidden = true;
    draw();
    if (!has(place) || !has(Math.min(place + 8, checkpoints.length))) fetchPositions();
  }
  function goTo(node) {
    const to = checkpoints.findIndex((one) => one.node === node);
    if (to >= 0) go(to);
  }
  function toggle() {
    if (timer !== null) {
      stopPlaying();
      return;
    }
    if (place >= checkpoints.length) go(0);
    timer = setInterval(() => {
      if (!element.isConnected) return stopPlaying();
      if (has(place)) go(nextPlace(checkpoints, stops, place));
      if (place >= checkpoints.length) stopPlaying();
    }, PLAY_MS);
    drawPlay();
  }
  function stopPlaying() {
    clearInterval(timer);
    timer = null;
    drawPlay();
  }
  function drawPlay() {
    const label = timer === null ? "Play" : "Pause";
    play.setAttribute("aria-label", label);
    play.setAttribute("title", `${label} (space, on the slider)`);
    play.classList.toggle("dnb-playing", timer !== null);
    replace(play, timer === null ? "Play" : "Pause");
  }

  // ------------------------------------------------------------ drawing

  let late = null;
  function draw() {
    const isEnd = place >= checkpoints.length;
    const here = checkpoints[place];
    const state = end?.state ?? (past.run.ended ? { completed: "returned", failed: "raised", cancelled: "cancelled" }[past.run.state] : "waits");
    const text = positionWords(checkpoints, place, state);
    track.move(place, text);
    replace(words, isEnd ? h("b", {}, endWords(state)) : [h("b", {}, `checkpoint ${here.node}`), ` of ${checkpoints.at(-1).node.toLocaleString("en")}`]);
    back.disabled = place <= 0;
    forth.disabled = isEnd;
    const now = position(place);
    const span = spanOf(here?.node);
    const shownFrame = now ? frameShown(now, chosen) : -1;
    const frame = now?.frames[shownFrame];
    const text_ = span.sources.find((one) => one.name === frame?.source) ?? span.sources[0];
    source.show(text_, span.version, checkpoints.filter((one) => spanOf(one.node) === span), frame && text_?.name === frame.source ? frame.line : text_?.name === "" ? (here?.line ?? now?.line ?? null) : null, here?.node ?? Infinity);
    if (now) locals.show(now.reason === "" && span.reason ? { ...now, reason: span.reason } : now, shownFrame);
    else locals.wait(isDone ? "The replay did not come here." : "Replaying up to here…");
    into.disabled = forkHere.disabled = isEnd;
    into.disabled ||= !frame;
    clearTimeout(late);
    if (isEnd) outcome.end(past.current ? past.run : { error: null, output: null }, endWords(state));
    else if (outcomes.has(here.node)) outcome.show(outcomes.get(here.node));
    else late = setTimeout(() => fetchOutcome(here.node), 60);
  }

  function spanOf(node) {
    return past.spans.find(({ nodes: [first, last] }) => node !== undefined && first <= node && node <= last) ?? past.spans.at(-1);
  }

  function tell(...parts) {
    said.hidden = parts.length === 0;
    replace(said, parts);
  }

  // ------------------------------------------------------------ taking part

  async function put() {
    const now = position(place);
    if (!now) return;
    into.disabled = true;
    try {
      const { names, left_out: left } = await host.perform("into", { ...of(), node: checkpoints[place].node, frame: frameShown(now, chosen) });
      const missing = Object.entries(left).map(([name, why]) => `${name} (${why})`);
      tell(
        h("code", {}, "replayed"),
        ` holds ${counted(names.length, "local")} of checkpoint ${checkpoints[place].node} as values: `,
        names.map((name, number) => [number ? ", " : "", h("code", {}, `replayed.${name}`)]),
        missing.length ? `; left out: ${missing.join("; ")}` : "",
      );
    } catch (error) {
      tell(h("span", { class: "dnb-error" }, error.message));
    }
    into.disabled = false;
  }

  async function openFork() {
    const node = checkpoints[place].node;
    if (!outcomes.has(node)) await fetchOutcome(node);
    if (outcomes.has(node) && checkpoints[place]?.node === node) form.show(outcomes.get(node), forkHere);
  }

  async function fork({ override }) {
    const node = checkpoints[place].node;
    const { id, number } = await host.perform("fork", { ...of(), node, override });
    const from = of();
    tell(
      `Run #${number} was forked at checkpoint ${node}. `,
      h("button", { type: "button", class: "dnb-replay-link", click: () => open(id, null) }, "Step through it"),
      " ",
      h("button", { type: "button", class: "dnb-replay-link", click: () => showSides(from, { run: id, branch: null }, [`branch ${from.branch}`, `fork #${number}`]) }, "Compare"),
    );
    load();
  }

  function compare() {
    const lane = against.others[Number(against.value)];
    if (against.value === "") stopComparing();
    else showSides(of(), { run: lane.run, branch: lane.branch }, [`branch ${past.branch}`, lane.label]);
  }
  async function showSides(first, second, names) {
    compared = { first, second, names };
    try {
      const got = await host.perform("compare", { first, second });
      if (compared?.second !== second) return;
      split.hidden = true;
      sides.show(got, names);
    } catch (error) {
      tell(h("span", { class: "dnb-error" }, error.message));
    }
  }
  function stopComparing() {
    compared = null;
    against.value = "";
    sides.hide();
    split.hidden = false;
  }

  drawPlay();
  load();
  return {
    element,
    /** The run has got on: read its history again, not more often than is of use. */
    update(items, keys) {
      if (!past || !keys.has("run") || wanted && wanted.run !== items.get("run")?.id) return;
      stale ??= setTimeout(load, pause);
    },
    close() {
      isClosed = true;
      stopPlaying();
      clearTimeout(stale);
      clearTimeout(late);
      track.close();
    },
  };
}

export const replayTab = { name: "replay", label: "Replay", make };
