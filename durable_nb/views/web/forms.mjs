// Forms of JSON Schemas: which field a schema wants, what stands in it at first, and the value that was filled in. Pure.
//
// A field says what to draw. A draft holds what stands in a field, as plain data: `{ text }`, `{ index }`, `{ items }`, … A field's
// parts are made when they are drawn, so a type that holds itself makes a form without end only as far as a person opens it.

import { isObject, misfits, named, resolved, same } from "./schema.mjs";

const DEEP = 12; // a type that needs itself has no form: from here on it is JSON text
const MOST = 20; // empty items that a form begins with
const LIMITS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const WHEN = { date: "date", "date-time": "datetime", time: "time" };

function kindOf(schema) {
  if (Object.hasOwn(schema, "const")) return "fixed";
  if (Array.isArray(schema.enum)) return schema.enum.length === 1 ? "fixed" : "choice";
  if (schema.type === "boolean") return "bool";
  if (schema.type === "integer" || schema.type === "number") return schema.type;
  if (schema.type === "string") return WHEN[schema.format] ?? "text";
  if (schema.type === "null") return "fixed";
  if (schema.type === "array" && schema.prefixItems && !schema.items) return "tuple";
  if (schema.type === "array" && isObject(schema.items) && !schema.prefixItems) return "list";
  if (schema.type === "object" && isObject(schema.properties)) return "object";
  if (schema.type === "object" && isObject(schema.additionalProperties)) return "dict";
  return "json";
}

function isTitle(title, name) {
  return typeof title === "string" && title.toLowerCase() !== String(name ?? "").replaceAll("_", " ").toLowerCase();
}

function labelOf(title, name, depth) {
  const isItem = typeof name === "number";
  if (depth > 0 && isTitle(title, name)) return isItem ? `${title} ${name}` : title;
  return String(name).replaceAll("_", " ");
}

/** What a field needs, in words beside its label: "0–10", "at most 80 characters". */
export function hint({ kind, schema }) {
  const { minimum, maximum, exclusiveMinimum: over, exclusiveMaximum: under, multipleOf } = schema;
  const said = [];
  const span = (low, high, noun = "") => {
    const unit = noun && ` ${noun}${(high ?? low) === 1 ? "" : "s"}`;
    if (low !== undefined && high !== undefined) said.push(low === high ? `${low}${unit}` : `${low}–${high}${unit}`);
    else if (low !== undefined) said.push(`at least ${low}${unit}`);
    else if (high !== undefined) said.push(`at most ${high}${unit}`);
  };
  span(minimum, maximum);
  if (over !== undefined) said.push(`more than ${over}`);
  if (under !== undefined) said.push(`less than ${under}`);
  if (multipleOf !== undefined) said.push(`steps of ${multipleOf}`);
  if (kind === "text") span(schema.minLength || undefined, schema.maxLength, "character");
  if (kind === "list") span(schema.minItems || undefined, schema.maxItems, "item");
  return said.join(", ");
}

/** The field that a schema wants. `isNeeded`: whether a value has to be given; `depth`: in how many others it stands. */
export function fieldOf(schema, root, { name = "answer", isNeeded = true, depth = 0 } = {}) {
  let found = resolved(schema, root);
  const outer = found;
  let options = found.anyOf ?? found.oneOf;
  let isNullable = false;
  if (Array.isArray(options)) {
    const rest = options.filter((option) => resolved(option, root).type !== "null");
    isNullable = rest.length < options.length;
    options = rest;
    const types = rest.map((option) => resolved(option, root));
    const numbers = types.filter(({ type }) => type === "number" || type === "integer");
    const digits = types.filter(({ type, pattern, format }) => type === "string" && pattern && !format);
    const { anyOf: _, oneOf: __, ...own } = found;
    if (rest.length === 1) found = { ...types[0], ...own };
    else if (numbers.length && numbers.length === types.length) found = { ...numbers[0], ...own, type: "number" };
    else if (types.length === 2 && numbers.length === 1 && digits.length === 1) found = { ...numbers[0], ...own, isExact: true };
  }
  const isUnion = Array.isArray(found.anyOf ?? found.oneOf) && options?.length > 1;
  const kind = depth > DEEP ? "json" : isUnion ? "union" : kindOf(found);
  const field = {
    kind,
    name,
    label: labelOf(outer.title, name, depth),
    help: typeof outer.description === "string" ? outer.description : "",
    example: outer.examples?.[0],
    schema: found,
    root,
    depth,
    isNeeded,
    isNullable: isNullable || (found.type === "null" && kind === "fixed"),
    hasDefault: Object.hasOwn(outer, "default"),
    default: outer.default,
  };
  if (kind === "union") field.options = options;
  if (kind === "choice") field.values = found.enum;
  if (kind === "fixed") field.value = Object.hasOwn(found, "const") ? found.const : (found.enum?.[0] ?? null);
  return field;
}

/** The names of a choice's or union's options, as they are shown. */
export function optionNames(field) {
  if (field.kind === "choice") return field.values.map((value) => (value === null ? "none" : typeof value === "string" ? value : JSON.stringify(value)));
  return field.options.map((option, at) => {
    const found = resolved(option, field.root);
    if (found.title) return found.title;
    if (Object.hasOwn(found, "const")) return String(found.const);
    if (Array.isArray(found.enum)) return found.enum.join(" | ");
    return { string: WHEN[found.format] ?? found.format ?? "text", integer: "whole number", boolean: "yes or no", array: "list" }[found.type] ?? found.type ?? `option ${at + 1}`;
  });
}

/** The fields that stand in another: of an object by name, of a tuple by place; `item(at)` of a list or dict, `option(at)` of a union. */
export const parts = {
  of(field) {
    const { schema, root } = field;
    const depth = field.depth + 1;
    if (field.kind === "tuple") return schema.prefixItems.map((item, at) => fieldOf(item, root, { name: at + 1, depth }));
    return Object.entries(schema.properties).map(([name, property]) =>
      fieldOf(property, root, { name, depth, isNeeded: (schema.required ?? []).includes(name) }),
    );
  },
  item({ kind, schema, root, depth }, at) {
    return fieldOf(kind === "list" ? schema.items : schema.additionalProperties, root, { name: at + 1, depth: depth + 1 });
  },
  option({ options, root, depth, name }, at) {
    return fieldOf(options[at], root, { name, depth: depth + 1 });
  },
};

const pad = (number, digits = 2) => String(number).padStart(digits, "0");

/** The offset of local time from UTC at a local date and time: "+01:00". */
export function offsetAt(text) {
  const minutes = -new Date(text).getTimezoneOffset();
  if (!Number.isFinite(minutes)) return "Z";
  return `${minutes < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}

function splitMoment(value) {
  const [, text, zone = ""] = /^(.*?\d)(z|[+-]\d\d:?\d\d)?$/i.exec(value) ?? [null, value];
  return { text: text.replace(/[ t]/i, "T"), zone: zone.toUpperCase() };
}

/** Whether a part may be left out as a whole, so that a person has to say that it is given. */
export function isOptional(field) {
  return field.isNullable || (!field.isNeeded && !field.hasDefault);
}

/** What stands in a field that holds a value; without one what stands there at first. */
export function draftOf(field, value = field.hasDefault ? field.default : undefined) {
  const { kind } = field;
  const isGiven = value !== undefined && value !== null;
  if (kind === "choice") return { index: value === undefined ? -1 : field.values.findIndex((member) => same(member, value)) };
  if (kind === "bool") return { value: typeof value === "boolean" ? value : null };
  if (kind === "union") return unionDraft(field, value, isGiven);
  if (kind === "object") {
    const members = isObject(value) ? value : {};
    const fields = parts.of(field).map((part) => [part.name, draftOf(part, Object.hasOwn(members, part.name) ? members[part.name] : undefined)]);
    return { isGiven: isGiven || !isOptional(field), fields: new Map(fields) };
  }
  if (kind === "tuple") {
    return { isGiven: isGiven || !isOptional(field), items: parts.of(field).map((part, at) => draftOf(part, value?.[at])) };
  }
  if (kind === "list") {
    const empty = Array(Math.min(field.schema.minItems ?? 0, MOST)).fill(undefined);
    const items = (Array.isArray(value) ? value : empty).map((item, at) => draftOf(parts.item(field, at), item));
    return { isGiven: isGiven || !isOptional(field), items };
  }
  if (kind === "dict") {
    const entries = Object.entries(isObject(value) ? value : {}).map(([key, member]) => ({ key, draft: draftOf(parts.item(field, 0), member) }));
    return { isGiven: isGiven || !isOptional(field), entries };
  }
  if (kind === "json") return { text: value === undefined ? "" : JSON.stringify(value, null, 1) };
  if (kind === "datetime" || kind === "time") return isGiven ? splitMoment(String(value)) : { text: "", zone: kind === "time" ? "" : "local" };
  return { text: isGiven ? String(value) : "" };
}

function unionDraft(field, value, isGiven) {
  if (value === undefined || (!isGiven && field.isNullable)) return { index: isOptional(field) ? -1 : 0, drafts: [] };
  const meant = named(field.schema, value);
  const fits = (option) => (meant ? option.$ref === meant.$ref : !misfits(option, value, field.root).length);
  const index = Math.max(field.options.findIndex(fits), 0);
  const drafts = [];
  drafts[index] = draftOf(parts.option(field, index), value);
  return { index, drafts };
}

/** The draft of a union's chosen option; made when it is first chosen. */
export function chosen(field, draft) {
  const part = parts.option(field, draft.index);
  draft.drafts[draft.index] ??= draftOf(part);
  return [part, draft.drafts[draft.index]];
}

// ---------------------------------------------------------------- reading

const wrong = (loc, message) => ({ value: undefined, errors: [{ loc, message }] });
const fine = (value) => ({ value, errors: [] });

/** What an empty field means: null where that is possible, else nothing, which is an error where a value is needed. */
function nothing(field, loc, message) {
  if (field.isNullable) return fine(null);
  return field.isNeeded ? wrong(loc, message) : fine(undefined);
}

function numberOf(field, text, loc) {
  const isWhole = field.kind === "integer";
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return wrong(loc, isWhole ? "give a whole number, such as 3" : "give a number, such as 1.5");
  if (field.schema.isExact) return exact(field, text, loc);
  if (/^[+-]?\d+$/.test(text) && !Number.isSafeInteger(Number(text))) return fine(BigInt(text.replace("+", "")));
  const value = Number(text);
  return Number.isFinite(value) ? fine(value) : wrong(loc, "it is too large");
}

/** A decimal is sent as its digits; its limits are those of the number. */
function exact(field, text, loc) {
  const limits = Object.fromEntries(LIMITS.filter((name) => name in field.schema).map((name) => [name, field.schema[name]]));
  const [error] = misfits(limits, Number(text));
  return error ? wrong(loc, error.message) : fine(text);
}

function momentOf(kind, { text, zone }) {
  const whole = /:\d\d:\d\d/.test(text) ? text : `${text}:00`;
  return whole + (zone !== "local" ? zone : kind === "time" ? offsetAt(`2026-01-01T${whole}`) : offsetAt(whole));
}

function textOf(field, text, loc) {
  if (text !== "") return fine(text);
  if (field.hasDefault && field.default !== null && field.default !== undefined) return fine("");
  return nothing(field, loc, "give some text");
}

function gathered(read) {
  const given = read.filter(([, { value }]) => value !== undefined);
  return { value: Object.fromEntries(given.map(([name, { value }]) => [name, value])), errors: read.flatMap(([, { errors }]) => errors) };
}

/** The JSON value of what stands in a field, and what is wrong with it: `{ value, errors }`; undefined where nothing is given. */
export function valueOf(field, draft, loc = []) {
  const { kind } = field;
  const text = typeof draft.text === "string" ? draft.text.trim() : "";
  if (kind === "fixed") return fine(field.value);
  if (kind === "bool") return draft.value === null ? nothing(field, loc, "choose one") : fine(draft.value);
  if (kind === "choice") return draft.index < 0 ? nothing(field, loc, "choose one") : fine(field.values[draft.index]);
  if (kind === "union") {
    return draft.index < 0 ? nothing(field, loc, "choose one") : valueOf(...chosen(field, draft), loc);
  }
  if (kind === "text") return textOf(field, draft.text, loc);
  if (kind === "json") {
    if (text === "") return nothing(field, loc, "give a JSON value");
    try {
      return fine(JSON.parse(text));
    } catch (error) {
      return wrong(loc, `no JSON: ${error.message}`);
    }
  }
  if (kind === "integer" || kind === "number") return text === "" ? nothing(field, loc, "give a number") : numberOf(field, text, loc);
  if (kind === "date") return text === "" ? nothing(field, loc, "give a date") : fine(text);
  if (kind === "datetime" || kind === "time") return text === "" ? nothing(field, loc, `give a ${kind === "time" ? "time" : "date and time"}`) : fine(momentOf(kind, draft));
  if (!draft.isGiven) return nothing(field, loc, "this is needed");
  if (kind === "list" || kind === "tuple") {
    const fields = kind === "tuple" ? parts.of(field) : draft.items.map((_, at) => parts.item(field, at));
    const read = draft.items.map((item, at) => valueOf(fields[at], item, [...loc, at]));
    return { value: read.map(({ value }) => value ?? null), errors: read.flatMap(({ errors }) => errors) };
  }
  if (kind === "dict") {
    const names = draft.entries.map(({ key }) => key);
    const double = names.find((name, at) => names.indexOf(name) < at);
    if (double !== undefined) return wrong(loc, `the name “${double}” stands here twice`);
    return gathered(draft.entries.map(({ key, draft: own }) => [key, valueOf(parts.item(field, 0), own, [...loc, key])]));
  }
  return gathered(parts.of(field).map((part) => [part.name, valueOf(part, draft.fields.get(part.name), [...loc, part.name])]));
}

/** The answer that a form holds: `{ value, errors }`, judged by the whole schema. */
export function answerOf(field, draft) {
  const { value, errors } = valueOf(field, draft);
  const isTold = (loc) => errors.some((error) => loc.every((part, at) => error.loc[at] === part));
  return { value, errors: [...errors, ...misfits(field.root, value ?? null).filter(({ loc }) => !isTold(loc))] };
}

/** Where an error belongs: the longest of the known paths that its own leads along; pydantic's names of a union's options are passed over. */
export function placeOf(loc, known) {
  const begins = (path) => known.some((other) => path.every((part, at) => String(other[at]) === String(part)));
  let path = [];
  for (const part of loc) if (begins([...path, part])) path = [...path, part];
  while (path.length && !known.some((other) => other.length === path.length && other.every((part, at) => String(part) === String(path[at])))) path = path.slice(0, -1);
  return path;
}
