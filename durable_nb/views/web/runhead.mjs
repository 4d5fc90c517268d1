// The head of a run's view: what it is, how it stands, for how long, and what a person can do with it.

import { h, replace } from "./dom.mjs";
import { sign, stateOf } from "./states.mjs";
import { counted, duration, moment } from "./words.mjs";

const ENDED = new Set(["completed", "failed", "cancelled"]);

/** The words of a run's pill: a run that waits for a person says so. */
export function standing(run, waits) {
  if (run.state === "waiting" && waits.some((wait) => wait.question !== undefined && wait.question !== null)) return "waits for you";
  if (run.state === "running" && run.progress !== null && run.progress !== undefined) return `running, ${Math.round(run.progress * 100)} %`;
  if (run.retry && run.state === "queued") return `queued for attempt ${run.retry + 1}`;
  return stateOf(run.state).word;
}

/** How long a run took or has taken, in words. */
export function elapsed(run, now) {
  if (run.from === null || run.from === undefined) return "not started";
  return duration((run.to ?? now) - run.from);
}

export function head(host) {
  const title = h("span", { class: "dnb-title" });
  const id = h("span", { class: "dnb-id" });
  const pill = h("span", { class: "dnb-pill" });
  const numbers = h("span", { class: "dnb-num" });
  const said = h("span", { class: "dnb-hidden", role: "status" });
  const cancel = h("button", { type: "button", click: () => confirm(), hidden: true }, "Cancel");
  const answer = h("button", { type: "button", click: () => host.answer?.(), hidden: true }, "Answer…");
  const trouble = h("p", { class: "dnb-error dnb-trouble", hidden: true });
  const element = h(
    "div",
    {},
    h("div", { class: "dnb-head" }, title, id, pill, numbers, said, h("span", { class: "dnb-space" }), answer, cancel),
    trouble,
  );
  let asked = false;
  let refused = "";

  async function confirm() {
    if (!asked) {
      asked = true;
      replace(cancel, "Really cancel?");
      setTimeout(() => {
        asked = false;
        replace(cancel, "Cancel");
      }, 4000);
      return;
    }
    cancel.disabled = true;
    try {
      await host.perform("cancel", {});
      refused = "";
    } catch (error) {
      refused = error.message;
      cancel.disabled = false;
    }
    draw(host.items);
  }

  function draw(items) {
    const run = items.get("run");
    if (!run) return;
    const waits = [...items].filter(([key]) => key.startsWith(`w/${run.number}/`)).map(([, wait]) => wait);
    const words = standing(run, waits);
    replace(title, run.task);
    id.setAttribute("title", run.id);
    replace(id, run.name ? `${run.name} · ` : "", `${run.id.slice(0, 4)}…${run.id.slice(-4)}`);
    pill.setAttribute("class", `dnb-pill dnb-${stateOf(run.state).colour}`);
    if (pill.dataset.said !== `${run.state} ${words}`) {
      pill.dataset.said = `${run.state} ${words}`;
      replace(pill, sign(run.state), words);
      replace(said, `${run.task}: ${words}`);
    }
    replace(
      numbers,
      [
        elapsed(run, host.now()),
        run.children ? counted(run.children, "child", "children") : "",
        run.checkpoints ? counted(run.checkpoints, "checkpoint") : "",
      ]
        .filter(Boolean)
        .join(" · "),
    );
    numbers.setAttribute("title", `created ${moment(run.at, { exact: true })}`);
    cancel.hidden = ENDED.has(run.state) || run.state === "cancelling";
    answer.hidden = !waits.some((wait) => wait.state === "waiting" && wait.is_question);
    answer.setAttribute("class", answer.hidden ? "" : "dnb-go");
    const problem = refused || run.reason || (run.state === "failed" ? run.failure : "");
    trouble.hidden = !problem;
    replace(trouble, problem);
  }

  const stop = host.tick(() => {
    const run = host.items.get("run");
    if (run && !ENDED.has(run.state)) draw(host.items);
  });
  return { element, update: draw, close: stop };
}
