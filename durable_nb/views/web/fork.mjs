// The form that forks a run at a checkpoint, with another value for what it gave if that is wanted.

import { h, replace } from "./dom.mjs";

const WITHOUT = "A new run shares everything before it, and asks it afresh; the original stays as it is.";
const WITH = "A new run shares everything before it, takes this value for what it gave, and goes on from there; the original stays as it is.";

/** Make the form. `sent({ override })` gives a promise; it closes when that is kept. */
export function forkForm({ sent }) {
  const title = h("h4", {});
  const note = h("p", { class: "dnb-num" });
  const change = h("input", { type: "checkbox", change: () => turn() });
  const changeLabel = h("label", { class: "dnb-replay-check" }, change, "with another value for what it gave");
  const field = h("textarea", { rows: "6", spellcheck: "false", "aria-label": "Value, as JSON", keydown });
  const problem = h("p", { class: "dnb-error", role: "alert" });
  const go = h("button", { type: "button", class: "dnb-go", click: () => send() }, "Start the fork");
  const element = h(
    "section",
    { class: "dnb-fork", "aria-label": "Fork", hidden: true, keydown: (event) => event.key === "Escape" && close() },
    title,
    note,
    changeLabel,
    field,
    problem,
    h("div", { class: "dnb-fork-buttons" }, go, h("button", { type: "button", click: () => close() }, "Cancel")),
  );
  let back = null;
  let refusal = "";

  function turn() {
    field.hidden = !change.checked;
    replace(note, change.checked ? WITH : WITHOUT, refusal ? ` ${refusal}` : "");
    if (change.checked) field.focus();
  }
  function keydown(event) {
    event.stopPropagation();
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  }
  function close() {
    element.hidden = true;
    back?.focus();
  }
  async function send() {
    let override = null;
    if (change.checked) {
      try {
        JSON.parse(field.value);
      } catch (error) {
        replace(problem, `This is no JSON (${error.message}): text stands in double quotes.`);
        field.setAttribute("aria-invalid", "true");
        field.focus();
        return;
      }
      override = field.value;
    }
    go.disabled = true;
    try {
      await sent({ override });
      close();
    } catch (error) {
      replace(problem, error.message);
    }
    go.disabled = false;
  }

  return {
    element,
    close,
    /** Show it for a checkpoint (an outcome as the kernel gives it); focus goes back to `from` at the end. */
    show(found, from) {
      back = from;
      element.hidden = false;
      replace(problem);
      field.removeAttribute("aria-invalid");
      replace(title, `Fork at checkpoint ${found.node}`);
      refusal = found.refusal;
      change.checked = false;
      changeLabel.hidden = Boolean(found.refusal);
      field.value = found.edit ?? "";
      turn();
      (changeLabel.hidden ? go : change).focus();
    },
  };
}
