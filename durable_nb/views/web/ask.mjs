// One question with its form: put into the inbox, or into any panel by `askForm`.

import { formOf } from "./controls.mjs";
import { h, replace } from "./dom.mjs";
import { json } from "./schema.mjs";
import { duration } from "./words.mjs";

const NAME = "durable_nb.name"; // where the browser keeps who answers
const PATIENCE = 8000; // milliseconds until a kernel that says nothing is spoken of
const SOON = 600; // seconds

function remembered() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return ""; // a page may not be allowed to keep anything
  }
}

function remember(name) {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    // it is asked again next time
  }
}

/** How long ago something was asked, in words. */
export function ago(seconds) {
  return seconds < 10 ? "just now" : `${duration(Math.floor(seconds))} ago`.replace(".0 s", " s");
}

/** How long is left, in words. */
export function left(seconds) {
  return seconds > 0 ? `${duration(seconds < 60 ? Math.ceil(seconds) : seconds).replace(".0 s", " s")} left` : "its time is over";
}

/** Who may answer, in words. */
export function whom({ assignees }) {
  return assignees.length ? `for ${assignees.join(", ")}` : "anyone may answer";
}

/** What is known of a question, on one line that ticks. Gives `{ element, tick(now) }`. */
export function factsOf(question, open) {
  const age = h("span", {});
  const time = h("span", {});
  const run = `${question.task} #${question.number}`;
  const element = h(
    "div",
    { class: "dnb-inbox-facts" },
    open ? h("button", { type: "button", class: "dnb-inbox-link", title: `Show run ${question.run}`, click: open }, run) : h("span", {}, run),
    age,
    time,
    h("span", {}, whom(question)),
    question.kind === "event" && h("span", {}, "pushes the event ", h("code", {}, question.key), question.scope !== null && [" in scope ", h("code", {}, question.scope)]),
  );
  const tick = (now) => {
    replace(age, `asked ${ago(now - question.asked_at)}`);
    const rest = question.due_at === null ? null : question.due_at - now;
    replace(time, rest === null ? "no time limit" : left(rest));
    time.className = rest !== null && rest < SOON ? "dnb-soon" : "";
  };
  return { element, tick };
}

/** A promise's outcome, and a word while it takes long. */
async function patiently(promise, say) {
  const timer = setTimeout(() => say("The kernel has not answered yet. Is it running? The answer is sent as soon as it is."), PATIENCE);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The form of a question. `host` is what `connect` gives; its kernel side has the action `answer`. `question` is what
 * durable_nb/views/inbox_view.py gives (`question_item`). Gives `{ element, isTouched(), focus() }`; `sent(value)` is called when the answer is in the log.
 */
export function askForm(host, question, { sent, later } = {}) {
  const form = formOf(question.schema ?? {}, {});
  const message = h("div", { class: "dnb-message", role: "status" });
  const reason = h("input", { type: "text", class: "dnb-reason", "aria-label": "Why (kept with the answer)", placeholder: "why (optional)", autocomplete: "off" });
  const name = h("input", { type: "text", class: "dnb-who", "aria-label": "Who answers", placeholder: "your name", autocomplete: "off" });
  name.value = remembered();
  name.addEventListener("change", () => remember(name.value.trim()));
  name.addEventListener("focus", () => (name.value ||= remembered()));
  const send = h("button", { type: "submit", class: "dnb-go" }, "Send answer");
  const say = (text, isBad = false) => {
    message.classList.toggle("dnb-error", isBad);
    replace(message, text);
  };

  const submit = async (event) => {
    event.preventDefault();
    if (send.disabled) return;
    const { value, errors } = form.read();
    if (errors.length) {
      say(errors.length === 1 ? "One thing is not right yet." : `${errors.length} things are not right yet.`, true);
      return;
    }
    send.disabled = true;
    replace(send, "Sending…");
    say("");
    const given = { question: question.id, text: json(value), by: name.value.trim() || null, reason: reason.value.trim() || null };
    try {
      await patiently(host.perform("answer", given), say);
      say("Sent.");
      sent?.(value);
    } catch (error) {
      const fields = (error.fields ?? []).map(([loc, words]) => ({ loc, message: words }));
      say(fields.length && !form.show(fields).length ? "The kernel did not take it: see above." : error.message, true);
      send.disabled = false;
    } finally {
      replace(send, "Send answer");
    }
  };
  const keys = (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    if (event.ctrlKey || event.metaKey || event.target.matches('input:not([type="checkbox"], [type="radio"])')) submit(event); // in a notebook the browser leaves it to us
  };
  const element = h(
    "form",
    { class: "dnb-ask-form", novalidate: true, autocomplete: "off", "aria-label": `Answer: ${question.question.slice(0, 200)}`, "data-lm-suppress-shortcuts": "true", submit, keydown: keys },
    question.schema === null && h("div", { class: "dnb-help" }, "The type of this answer is too large for a form: give it as JSON."),
    form.element,
    h("div", { class: "dnb-field dnb-sender" }, h("span", { class: "dnb-label" }, "answered by"), h("div", { class: "dnb-form-line" }, name, reason)),
    h("div", { class: "dnb-acts" }, send, later && h("button", { type: "button", click: later }, "Later"), message),
  );
  return {
    element,
    isTouched: () => form.isTouched(),
    focus: () => element.querySelector("input, select, textarea")?.focus(),
  };
}
