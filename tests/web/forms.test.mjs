import assert from "node:assert/strict";
import { test } from "node:test";

import { answerOf, chosen, draftOf, fieldOf, hint, offsetAt, optionNames, parts, placeOf } from "../../durable_nb/views/web/forms.mjs";
import { json, misfits } from "../../durable_nb/views/web/schema.mjs";

const made = (schema) => {
  const field = fieldOf(schema, schema);
  return [field, draftOf(field)];
};
const ORDER = {
  type: "object",
  required: ["keep", "limit"],
  properties: {
    keep: { type: "boolean", title: "Keep" },
    limit: { type: "integer", title: "Limit", minimum: 0, maximum: 10, description: "How many." },
    reason: { anyOf: [{ type: "string" }, { type: "null" }], default: null, title: "Reason" },
    lines: { type: "array", items: { $ref: "#/$defs/Line" }, maxItems: 2, title: "What is ordered" },
  },
  $defs: { Line: { type: "object", title: "Line", required: ["text"], properties: { text: { type: "string", title: "Text" }, of: { $ref: "#/$defs/Line" } } } },
};

test("an empty form says what is needed, where; a filled one gives the value", () => {
  const [field, draft] = made(ORDER);
  assert.deepEqual(answerOf(field, draft).errors, [
    { loc: ["keep"], message: "choose one" },
    { loc: ["limit"], message: "give a number" },
  ]);
  draft.fields.get("keep").value = false;
  draft.fields.get("limit").text = "12";
  assert.deepEqual(answerOf(field, draft).errors, [{ loc: ["limit"], message: "at most 10" }]);
  draft.fields.get("limit").text = " 7 ";
  assert.deepEqual(answerOf(field, draft), { value: { keep: false, limit: 7, reason: null }, errors: [] });
});

test("labels, hints and help come from the schema; pydantic's own titles are not repeated", () => {
  const [field] = made(ORDER);
  const [keep, limit, reason, lines] = parts.of(field);
  assert.deepEqual([keep.label, limit.label, lines.label, hint(limit), limit.help], ["keep", "limit", "What is ordered", "0–10", "How many."]);
  assert.deepEqual([keep.isNeeded, reason.isNeeded, reason.isNullable, hint(lines)], [true, false, true, "at most 2 items"]);
  assert.equal(parts.item(lines, 1).label, "Line 2");
});

test("a type that holds itself has a form as far as it is opened, and one that needs itself ends as JSON", () => {
  const [field, draft] = made(ORDER);
  const lines = draft.fields.get("lines");
  assert.equal(lines.isGiven, false);
  lines.isGiven = true;
  lines.items.push(draftOf(parts.item(parts.of(field)[3], 0)));
  assert.equal(lines.items[0].fields.get("of").isGiven, false);
  const [endless] = made({ $ref: "#/$defs/A", $defs: { A: { type: "object", required: ["a"], properties: { a: { $ref: "#/$defs/A" } } } } });
  let [depth, inner] = [0, endless];
  while (inner.kind === "object") [depth, inner] = [depth + 1, parts.of(inner)[0]];
  assert.deepEqual([inner.kind, depth < 20], ["json", true]);
  assert.equal(fieldOf({ $ref: "#" }, { $ref: "#" }).kind, "json");
  assert.deepEqual(misfits({ $ref: "#/$defs/nowhere" }, 3), []);
});

test("numbers are read as they are written, and large ones keep their digits", () => {
  const read = (schema, text) => {
    const [field, draft] = made(schema);
    draft.text = text;
    const { value, errors } = answerOf(field, draft);
    return errors.length ? errors[0].message : json(value);
  };
  assert.equal(read({ type: "integer" }, "9007199254740993"), "9007199254740993");
  assert.equal(read({ type: "integer", maximum: 5 }, "9007199254740993"), "at most 5");
  assert.equal(read({ type: "integer" }, "1.5"), "a whole number");
  assert.equal(read({ type: "integer" }, "3.0"), "3");
  assert.equal(read({ type: "number" }, "1,5"), "give a number, such as 1.5");
  assert.equal(read({ type: "number" }, "1e999"), "it is too large");
  assert.equal(read({ type: "number", multipleOf: 0.1 }, "0.7"), "0.7");
  assert.equal(read({ type: "number", exclusiveMinimum: 0 }, "0"), "more than 0");
});

test("emptiness is null where it may be, an error where a value is needed, else nothing", () => {
  const empty = (schema) => answerOf(...made(schema));
  assert.equal(empty({ anyOf: [{ type: "string" }, { type: "null" }] }).value, null);
  assert.equal(empty({ type: "string" }).errors[0].message, "give some text");
  const [field, draft] = made({ type: "string", default: "x" });
  draft.text = "";
  assert.deepEqual(answerOf(field, draft), { value: "", errors: [] });
  assert.deepEqual(empty({ type: "object", properties: { a: { type: "integer" } } }), { value: {}, errors: [] });
});

test("a time carries the zone that was chosen", () => {
  const [field, draft] = made({ type: "string", format: "date-time", default: "2026-01-31T09:30:00+05:30" });
  assert.deepEqual(draft, { text: "2026-01-31T09:30:00", zone: "+05:30" });
  assert.equal(answerOf(field, draft).value, "2026-01-31T09:30:00+05:30");
  Object.assign(draft, { text: "2026-07-01T09:30", zone: "local" });
  assert.equal(answerOf(field, draft).value, `2026-07-01T09:30:00${offsetAt("2026-07-01T09:30:00")}`);
  draft.zone = "";
  assert.equal(answerOf(field, draft).value, "2026-07-01T09:30:00");
});

test("a union keeps what stands in each option", () => {
  const [field, draft] = made({ anyOf: [{ type: "integer" }, { type: "string", title: "Words" }] });
  assert.deepEqual(optionNames(field), ["whole number", "Words"]);
  chosen(field, draft)[1].text = "7";
  draft.index = 1;
  chosen(field, draft)[1].text = "seven";
  assert.equal(answerOf(field, draft).value, "seven");
  draft.index = 0;
  assert.equal(answerOf(field, draft).value, 7);
});

test("a dict refuses a name twice, and takes any name", () => {
  const [field, draft] = made({ type: "object", additionalProperties: { type: "integer" } });
  draft.entries.push({ key: "__proto__", draft: { text: "1" } }, { key: "__proto__", draft: { text: "2" } });
  assert.match(answerOf(field, draft).errors[0].message, /stands here twice/);
  draft.entries.pop();
  const { value, errors } = answerOf(field, draft);
  assert.deepEqual([json(value), errors], ['{"__proto__":1}', []]);
});

test("an error is put at the nearest field, pydantic's names of options passed over", () => {
  const known = [[], ["pet"], ["pet", "lives"], ["lines", 0, "text"]];
  assert.deepEqual(placeOf(["pet", "Cat", "lives"], known), ["pet", "lives"]);
  assert.deepEqual(placeOf(["lines", 0, "text"], known), ["lines", 0, "text"]);
  assert.deepEqual(placeOf(["lines", 0], known), []);
  assert.deepEqual(placeOf(["elsewhere"], known), []);
});

test("a pattern that could take for ever, or is not the same in JavaScript, is left to the kernel", () => {
  assert.deepEqual(misfits({ type: "string", pattern: "^(a+)+$" }, `${"a".repeat(60)}!`), []);
  assert.deepEqual(misfits({ type: "string", pattern: "(?i)^abc$" }, "ABC"), []);
  assert.deepEqual(misfits({ type: "string", pattern: "[" }, "x"), []);
  assert.equal(misfits({ type: "string", pattern: "^(?P<letter>[a-z])$" }, "X").length, 1);
});

test("a value deeper than any form is judged without end of the stack", () => {
  const node = { $ref: "#/$defs/N", $defs: { N: { type: "object", properties: { n: { $ref: "#/$defs/N" } } } } };
  let deep = {};
  for (let depth = 0; depth < 5000; depth += 1) deep = { n: deep };
  assert.deepEqual(misfits(node, deep), []);
});
