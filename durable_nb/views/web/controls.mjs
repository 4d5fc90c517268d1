// Forms drawn: a control for each field of `forms.mjs`, labels, help, and errors at the field they belong to.
//
// Plain HTML controls, since a click on one of ipywidgets' own is a trait that the kernel's main thread takes in, after the running
// cell. A change of structure (an item added, another option chosen) draws the form anew from its drafts.

import { h, replace, uniqueId } from "./dom.mjs";
import { answerOf, chosen, draftOf, fieldOf, hint, isOptional, offsetAt, optionNames, parts, placeOf } from "./forms.mjs";

const FEW = 4; // options that are shown side by side
const SHORT = 48; // characters that these may have together
const COMPOSED = new Set(["object", "list", "tuple", "dict"]);

const keyOf = (loc) => JSON.stringify(loc.map(String));

/**
 * Draw the form of a schema. Gives `{ element, read(), show(errors), isTouched() }`: `read` gives `{ value, errors }` and marks what is wrong;
 * `show` marks what somebody else found, and gives what has no place in the form; both put the focus on the first wrong field.
 */
export function formOf(schema, { name = "answer", touched } = {}) {
  const field = fieldOf(schema, schema, { name });
  const form = { draft: draftOf(field), places: [], visited: new Set(), isTried: false, isTouched: false, said: [] };
  const element = h("div", { class: "dnb-form" });
  const id = uniqueId;

  const changed = (loc) => {
    form.isTouched = true;
    form.said = form.said.filter((error) => !error.loc.every((part, at) => String(loc[at]) === String(part)));
    mark();
    touched?.();
  };
  const visit = (loc) => {
    form.visited.add(keyOf(loc));
    mark();
  };
  const draw = (focus) => {
    form.places = [];
    replace(element, composed(field, form.draft, []));
    mark();
    if (focus) element.querySelector(`[data-focus='${CSS.escape(focus)}']`)?.focus();
  };
  const redraw = (focus) => {
    form.isTouched = true;
    touched?.();
    draw(focus);
  };

  /** Put errors at their fields; give those that have none. */
  function mark() {
    const errors = [...form.said, ...answerOf(field, form.draft).errors];
    const known = form.places.map(({ loc }) => loc);
    const by = new Map();
    for (const error of errors) {
      const at = keyOf(placeOf(error.loc, known));
      by.set(at, [...(by.get(at) ?? []), error]);
    }
    for (const { loc, error, control } of form.places) {
      const own = by.get(keyOf(loc)) ?? [];
      const isShown = own.length > 0 && (form.isTried || form.visited.has(keyOf(loc)) || form.said.includes(own[0]));
      replace(error, isShown ? own[0].message : "");
      control.classList.toggle("dnb-wrong", isShown);
      if (isShown) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
    return errors;
  }

  function focusWrong() {
    const place = form.places.find(({ control }) => control.classList.contains("dnb-wrong"));
    const inner = place?.control.matches("input, select, textarea") ? place.control : place?.control.querySelector("input, select, textarea, button");
    inner?.focus();
  }

  // ------------------------------------------------------------ rows

  /** A field with its label, help and place for errors. */
  function row(part, draft, loc, remove) {
    if (COMPOSED.has(part.kind)) return group(part, draft, loc, remove);
    const ids = { control: id(), help: id(), error: id(), label: id() };
    const control = controlOf(part, draft, loc, ids);
    const error = h("div", { class: "dnb-error", id: ids.error });
    const help = part.help && h("div", { class: "dnb-help", id: ids.help }, part.help);
    const isGroup = !control.matches("input, select, textarea, output");
    control.setAttribute("aria-describedby", `${ids.error}${help ? ` ${ids.help}` : ""}`);
    if (isGroup) control.setAttribute("aria-labelledby", ids.label);
    if (part.isNeeded && !part.isNullable && control.matches("input, select, textarea")) control.setAttribute("aria-required", "true");
    form.places.push({ loc, error, control });
    const said = [part.label, hint(part) && h("span", { class: "dnb-hint" }, ` ${hint(part)}`)];
    return h(
      "div",
      { class: "dnb-field" },
      isGroup ? h("span", { class: "dnb-label", id: ids.label }, said) : h("label", { class: "dnb-label", for: ids.control }, said),
      h("div", { class: "dnb-entry" }, h("div", { class: "dnb-form-line" }, control, remove), help, error),
    );
  }

  /** An object, list, tuple or dict inside the form. */
  function group(part, draft, loc, remove) {
    const ids = { error: id(), given: id() };
    const error = h("div", { class: "dnb-error", id: ids.error });
    const given = isOptional(part) && h("input", { type: "checkbox", id: ids.given, "data-focus": keyOf(loc) });
    if (given) {
      given.checked = draft.isGiven;
      given.addEventListener("change", () => {
        draft.isGiven = given.checked;
        redraw(keyOf(loc));
      });
    }
    const said = [part.label, hint(part) && h("span", { class: "dnb-hint" }, ` ${hint(part)}`)];
    const legend = h("legend", {}, given ? h("label", { class: "dnb-form-check" }, given, said, h("span", { class: "dnb-hint" }, " optional")) : said, remove);
    const box = h("fieldset", { class: "dnb-group", "aria-describedby": ids.error }, legend);
    form.places.push({ loc, error, control: box });
    if (part.help) box.append(h("div", { class: "dnb-help" }, part.help));
    if (draft.isGiven) box.append(...bodyOf(part, draft, loc));
    box.append(error);
    return box;
  }

  /** The outermost field: an object's or list's parts stand without a frame. */
  function composed(part, draft, loc) {
    if (!COMPOSED.has(part.kind) || isOptional(part)) return row(part, draft, loc);
    const error = h("div", { class: "dnb-error", id: id() });
    const box = h("div", { class: "dnb-parts" }, part.help && part.kind !== "object" && h("div", { class: "dnb-help" }, part.help));
    form.places.push({ loc, error, control: box });
    box.append(...bodyOf(part, draft, loc), error);
    return box;
  }

  function bodyOf(part, draft, loc) {
    if (part.kind === "object") return parts.of(part).map((inner) => row(inner, draft.fields.get(inner.name), [...loc, inner.name]));
    if (part.kind === "tuple") return parts.of(part).map((inner, at) => row(inner, draft.items[at], [...loc, at]));
    return part.kind === "list" ? itemsOf(part, draft, loc) : entriesOf(part, draft, loc);
  }

  function remover(what, list, at, loc) {
    const take = () => {
      list.splice(at, 1);
      redraw(`add${keyOf(loc)}`);
    };
    return h("button", { type: "button", class: "dnb-remove", "aria-label": `Remove ${what}`, title: `Remove ${what}`, click: take }, "×");
  }

  function adder(words, loc, add) {
    return h("button", { type: "button", class: "dnb-add", "data-focus": `add${keyOf(loc)}`, click: add }, `+ ${words}`);
  }

  function itemsOf(part, draft, loc) {
    const rows = draft.items.map((item, at) => row(parts.item(part, at), item, [...loc, at], remover(`item ${at + 1}`, draft.items, at, loc)));
    const isFull = draft.items.length >= (part.schema.maxItems ?? Infinity);
    const add = () => {
      draft.items.push(draftOf(parts.item(part, draft.items.length)));
      redraw(keyOf([...loc, draft.items.length - 1]));
    };
    return [...rows, !isFull && adder("Add item", loc, add)].filter(Boolean);
  }

  function entriesOf(part, draft, loc) {
    const rows = draft.entries.map((entry, at) => {
      const name = h("input", { "aria-label": `Name of entry ${at + 1}`, placeholder: "name", class: "dnb-key", "data-focus": keyOf([...loc, "entry", at]) });
      name.value = entry.key;
      name.addEventListener("input", () => {
        entry.key = name.value;
        changed(loc);
      });
      name.addEventListener("change", () => draw());
      const inner = { ...parts.item(part, at), label: "value" };
      return h("div", { class: "dnb-pair" }, name, row(inner, entry.draft, [...loc, entry.key], remover(`entry ${at + 1}`, draft.entries, at, loc)));
    });
    const add = () => {
      draft.entries.push({ key: "", draft: draftOf(parts.item(part, 0)) });
      redraw(keyOf([...loc, "entry", draft.entries.length - 1]));
    };
    return [...rows, adder("Add entry", loc, add)];
  }

  // ------------------------------------------------------------ controls

  function controlOf(part, draft, loc, ids) {
    if (part.kind === "fixed") return h("output", { id: ids.control }, part.value === null ? "none" : typeof part.value === "string" ? part.value : JSON.stringify(part.value));
    if (part.kind === "bool") {
      const values = isOptional(part) ? [true, false, null] : [true, false];
      const take = (at) => (draft.value = values[at]);
      return radios(["yes", "no", "none"].slice(0, values.length), values.indexOf(draft.value), loc, take);
    }
    if (part.kind === "choice") return choiceOf(part, draft, loc, ids);
    if (part.kind === "union") return unionOf(part, draft, loc);
    if (part.kind === "datetime" || part.kind === "time") return momentOf(part, draft, loc, ids);
    if (part.kind === "date") return input(part, draft, loc, ids, { type: "date" });
    if (part.kind === "integer" || part.kind === "number") {
      return input(part, draft, loc, ids, { inputmode: part.kind === "integer" ? "numeric" : "decimal", class: "dnb-number" });
    }
    const { format, pattern, maxLength } = part.schema;
    if (part.kind === "json") return area(part, draft, loc, ids, { class: "dnb-json", placeholder: "JSON", spellcheck: "false" });
    if (format === "password") return input(part, draft, loc, ids, { type: "password", autocomplete: "off" });
    if (format || pattern || maxLength <= 60) return input(part, draft, loc, ids, { class: format === "uuid" ? "dnb-form-code" : "" });
    return area(part, draft, loc, ids, {});
  }

  function bind(control, draft, loc, name = "text") {
    control.value = draft[name];
    control.addEventListener("input", () => {
      draft[name] = control.value;
      changed(loc);
    });
    control.addEventListener("change", () => visit(loc));
    return control;
  }

  const placeholderOf = (part) => (part.example !== undefined ? `such as ${part.example}` : isOptional(part) ? "optional" : null);

  function input(part, draft, loc, ids, attributes) {
    const control = bind(h("input", { type: "text", autocomplete: "off", placeholder: placeholderOf(part), "data-focus": keyOf(loc), ...attributes, id: ids.control }), draft, loc);
    if (draft.text && !control.value) {
      control.type = "text"; // what the browser's control does not take is shown as it is
      control.value = draft.text;
    }
    return control;
  }

  function area(part, draft, loc, ids, attributes) {
    return bind(h("textarea", { rows: 1, placeholder: placeholderOf(part), "data-focus": keyOf(loc), ...attributes, id: ids.control }), draft, loc);
  }

  function momentOf(part, draft, loc, ids) {
    const type = part.kind === "time" ? "time" : "datetime-local";
    const control = input(part, draft, loc, ids, { type, step: 1 });
    const here = offsetAt(draft.text.length > 15 ? draft.text : new Date().toISOString().slice(0, 19));
    const zones = [["local", `your time (UTC${here === "Z" || here === "+00:00" ? "" : here})`], ["Z", "UTC"], ["", "no time zone"]];
    if (!zones.some(([zone]) => zone === draft.zone)) zones.push([draft.zone, `UTC${draft.zone}`]);
    const zone = h("select", { "aria-label": `Time zone of ${part.label}` }, zones.map(([value, words]) => h("option", { value }, words)));
    return h("div", { class: "dnb-form-line", role: "group" }, control, bind(zone, draft, loc, "zone"));
  }

  function radios(names, index, loc, take) {
    const group = id();
    const options = names.map((words, at) => {
      const radio = h("input", { type: "radio", name: group, "data-focus": at === Math.max(index, 0) ? keyOf(loc) : null });
      radio.checked = at === index;
      radio.addEventListener("change", () => {
        take(at);
        form.visited.add(keyOf(loc));
        changed(loc);
      });
      return h("label", { class: "dnb-choice" }, radio, h("span", {}, words));
    });
    return h("div", { class: "dnb-choices", role: "radiogroup" }, options);
  }

  function choiceOf(part, draft, loc, ids) {
    const names = optionNames(part);
    const isLoose = isOptional(part) && !part.values.includes(null);
    if (names.length <= FEW && names.join("").length <= SHORT) {
      const at = draft.index < 0 && isLoose ? names.length : draft.index;
      return radios(isLoose ? [...names, "none"] : names, at, loc, (chosenAt) => (draft.index = chosenAt < names.length ? chosenAt : -1));
    }
    const first = draft.index < 0 || isLoose ? [h("option", { value: -1 }, isLoose ? "none" : "choose…")] : [];
    const control = h("select", { id: ids.control, "data-focus": keyOf(loc) }, first, names.map((words, at) => h("option", { value: at }, words)));
    control.value = draft.index;
    control.addEventListener("change", () => {
      draft.index = Number(control.value);
      form.visited.add(keyOf(loc));
      changed(loc);
    });
    return control;
  }

  function unionOf(part, draft, loc) {
    const names = optionNames(part);
    const select = h("select", { "aria-label": `Kind of ${part.label}`, "data-focus": keyOf(loc) }, isOptional(part) && h("option", { value: -1 }, "none"), names.map((words, at) => h("option", { value: at }, words)));
    select.value = draft.index;
    select.addEventListener("change", () => {
      draft.index = Number(select.value);
      redraw(keyOf(loc));
    });
    if (draft.index < 0) return h("div", { role: "group" }, select);
    const [inner, own] = chosen(part, draft);
    if (!COMPOSED.has(inner.kind)) {
      const ids = { control: id() };
      const control = controlOf(inner, own, loc, ids);
      control.removeAttribute("data-focus");
      if (!control.hasAttribute("role")) control.setAttribute("aria-label", part.label);
      return h("div", { class: "dnb-form-line", role: "group" }, select, control);
    }
    const body = own.isGiven === false ? [] : bodyOf(inner, own, loc);
    return h("div", { class: "dnb-union", role: "group" }, select, h("div", { class: "dnb-group" }, body));
  }

  draw();
  return {
    element,
    isTouched: () => form.isTouched,
    read() {
      form.isTried = true;
      mark();
      const answer = answerOf(field, form.draft);
      if (answer.errors.length) focusWrong();
      return answer;
    },
    show(errors) {
      form.said = errors;
      mark();
      const known = form.places.map(({ loc }) => loc);
      const homeless = errors.filter(({ loc }) => loc.length > 0 && !placeOf(loc, known).length);
      focusWrong();
      return homeless;
    },
  };
}
