// JSON Schema, as pydantic writes it: what a value must be, judged as the kernel will judge it. Pure.

const DEPTH = 40; // of references and of values
const DATE = /^(\d{4})-(\d\d)-(\d\d)$/;
const CLOCK = String.raw`([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?`;
const ZONE = String.raw`(z|[+-]\d\d:?\d\d)`;
const FORMATS = {
  date: [isDate, "a date, such as 2026-01-31"],
  "date-time": [isMoment, "a date and time, such as 2026-01-31T09:30:00Z"],
  time: [(text) => new RegExp(`^${CLOCK}${ZONE}?$`, "i").test(text), "a time, such as 09:30"],
  duration: [isDuration, "a duration, such as P1DT2H30M"],
  uuid: [(text) => /^[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}$/i.test(text), "a UUID"],
  email: [(text) => /^[^\s@]+@[^\s@]+$/.test(text), "an e-mail address"],
  uri: [(text) => /^[a-z][a-z0-9+.-]*:\S+$/i.test(text), "a URL"],
};
const TYPES = {
  null: [(value) => value === null, "nothing (null)"],
  boolean: [(value) => typeof value === "boolean", "yes or no"],
  integer: [(value) => typeof value === "bigint" || Number.isInteger(value), "a whole number"],
  number: [isNumber, "a number"],
  string: [(value) => typeof value === "string", "text"],
  array: [Array.isArray, "a list"],
  object: [isObject, "an object"],
};

/** Whether a value is a JSON object. */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNumber(value) {
  return typeof value === "bigint" || (typeof value === "number" && Number.isFinite(value));
}

function isDate(text) {
  const [, year, month, day] = DATE.exec(text)?.map(Number) ?? [];
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  return year > 0 && date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

function isMoment(text) {
  return isDate(text.slice(0, 10)) && new RegExp(`^[t ]${CLOCK}${ZONE}?$`, "i").test(text.slice(10));
}

function isDuration(text) {
  return /^[+-]?P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$/i.test(text);
}

/** Whether two JSON values are the same. */
export function same(one, other) {
  if (typeof one === "bigint" || typeof other === "bigint") return typeof one !== "boolean" && typeof other !== "boolean" && one == other;
  if (Array.isArray(one)) return Array.isArray(other) && one.length === other.length && one.every((item, at) => same(item, other[at]));
  if (!isObject(one)) return one === other;
  const names = Object.keys(one);
  if (!isObject(other) || names.length !== Object.keys(other).length) return false;
  return names.every((name) => Object.hasOwn(other, name) && same(one[name], other[name]));
}

/** A value as JSON text; whole numbers that only a BigInt holds keep all their digits. */
export function json(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map((item) => json(item ?? null)).join(",")}]`;
  if (!isObject(value)) return JSON.stringify(value ?? null);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${json(member)}`).join(",")}}`;
}

/** The schema that a `$ref` names; an empty one, which anything fits, where there is none. */
function target(ref, root) {
  if (!ref.startsWith("#")) return {};
  let found = root;
  for (const part of ref.slice(1).split("/").filter(Boolean)) {
    const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
    if (!isObject(found) || !Object.hasOwn(found, name)) return {};
    found = found[name];
  }
  return isObject(found) ? found : {};
}

/** A schema with what it refers to; what stands beside a `$ref` (title, default, description) goes before what it names. */
export function resolved(schema, root) {
  let found = isObject(schema) ? schema : {};
  for (let depth = 0; depth < DEPTH; depth += 1) {
    const { $ref, allOf, ...own } = found;
    if (typeof $ref === "string") found = { ...target($ref, root), ...own };
    else if (Array.isArray(allOf) && allOf.length === 1 && isObject(allOf[0])) found = { ...allOf[0], ...own };
    else return found;
  }
  return {};
}

/** A pattern of Python's or Rust's as JavaScript has it; null where it is not the same there, or could take for ever. */
function patternOf(text) {
  if (text.length > 1000 || /\([^()]*[+*}][^()]*\)\s*[+*{]|\\[AZz]|\(\?[a-zA-Z]/.test(text.replaceAll("(?P<", "(?<"))) return null;
  try {
    return new RegExp(text.replaceAll("(?P<", "(?<"), "u");
  } catch {
    return null; // the kernel judges it
  }
}

function isMultiple(value, step) {
  if (typeof value === "bigint") return Number.isInteger(step) ? value % BigInt(step) === 0n : true;
  const parts = value / step;
  return Math.abs(parts - Math.round(parts)) <= 1e-9 * Math.max(1, Math.abs(parts));
}

function words(values) {
  const shown = values.slice(0, 6).map((value) => (typeof value === "string" ? value : json(value)));
  return shown.join(", ") + (values.length > 6 ? ", …" : "");
}

function ofNumber(schema, value) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
  if (minimum !== undefined && value < minimum) return `at least ${minimum}`;
  if (maximum !== undefined && value > maximum) return `at most ${maximum}`;
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return `more than ${exclusiveMinimum}`;
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return `less than ${exclusiveMaximum}`;
  if (multipleOf > 0 && !isMultiple(value, multipleOf)) return `a multiple of ${multipleOf}`;
  return null;
}

const some = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function ofText(schema, value) {
  const length = [...value].length;
  if (length < schema.minLength) return `at least ${some(schema.minLength, "character")}`;
  if (length > schema.maxLength) return `at most ${some(schema.maxLength, "character")}, these are ${length}`;
  if (typeof schema.pattern === "string" && patternOf(schema.pattern)?.test(value) === false) return `text that matches ${schema.pattern}`;
  if (Object.hasOwn(FORMATS, schema.format ?? "") && !FORMATS[schema.format][0](value)) return FORMATS[schema.format][1];
  return null;
}

function ofList(schema, value, root, loc, depth) {
  const errors = [];
  if (value.length < schema.minItems) errors.push({ loc, message: `at least ${some(schema.minItems, "item")}` });
  if (value.length > schema.maxItems) errors.push({ loc, message: `at most ${some(schema.maxItems, "item")}` });
  if (schema.uniqueItems && value.some((item, at) => value.slice(0, at).some((other) => same(item, other)))) {
    errors.push({ loc, message: "each item once" });
  }
  const first = schema.prefixItems ?? [];
  for (const [at, item] of value.entries()) {
    const of = at < first.length ? first[at] : schema.items;
    if (of !== undefined) errors.push(...misfits(of, item, root, [...loc, at], depth + 1));
  }
  return errors;
}

function ofObject(schema, value, root, loc, depth) {
  const errors = [];
  const { properties = {}, patternProperties = {}, additionalProperties, propertyNames } = schema;
  for (const name of schema.required ?? []) if (!Object.hasOwn(value, name)) errors.push({ loc: [...loc, name], message: "needed" });
  const count = Object.keys(value).length;
  if (count < schema.minProperties) errors.push({ loc, message: `at least ${schema.minProperties} entries` });
  if (count > schema.maxProperties) errors.push({ loc, message: `at most ${schema.maxProperties} entries` });
  for (const [name, member] of Object.entries(value)) {
    const here = [...loc, name];
    if (propertyNames) errors.push(...misfits(propertyNames, name, root, here, depth + 1));
    const patterns = Object.keys(patternProperties).filter((pattern) => patternOf(pattern)?.test(name) !== false);
    for (const pattern of patterns) errors.push(...misfits(patternProperties[pattern], member, root, here, depth + 1));
    if (Object.hasOwn(properties, name)) errors.push(...misfits(properties[name], member, root, here, depth + 1));
    else if (!patterns.length && additionalProperties !== undefined && additionalProperties !== true) {
      if (additionalProperties === false) errors.push({ loc: here, message: "not known here" });
      else errors.push(...misfits(additionalProperties, member, root, here, depth + 1));
    }
  }
  return errors;
}

/** The option that a discriminated union's value names, or null. */
export function named(schema, value) {
  const { propertyName, mapping } = schema.discriminator ?? {};
  if (!propertyName || !isObject(mapping) || !isObject(value)) return null;
  const name = value[propertyName];
  return typeof name === "string" && Object.hasOwn(mapping, name) ? { $ref: mapping[name] } : null;
}

function ofUnion(schema, value, root, loc, depth) {
  const options = schema.anyOf ?? schema.oneOf;
  const tried = options.map((option) => misfits(option, value, root, loc, depth + 1));
  if (tried.some((errors) => !errors.length)) return [];
  const meant = named(schema, value);
  if (meant) return misfits(meant, value, root, loc, depth + 1);
  if (schema.discriminator?.propertyName && isObject(value)) {
    return [{ loc: [...loc, schema.discriminator.propertyName], message: `one of ${words(Object.keys(schema.discriminator.mapping ?? {}))}` }];
  }
  const near = tried.filter((_, at) => isOfType(resolved(options[at], root), value));
  if (near.length === 1) return near[0];
  const wanted = options.filter((option) => resolved(option, root).type !== "null");
  if (wanted.length === 1) return tried[options.indexOf(wanted[0])];
  return near.sort((one, other) => one.length - other.length)[0] ?? [{ loc, message: "it fits none of what is possible here" }];
}

function typesOf(schema) {
  return (Array.isArray(schema.type) ? schema.type : [schema.type]).filter((type) => Object.hasOwn(TYPES, type ?? ""));
}

function isOfType(schema, value) {
  const types = typesOf(schema);
  return !types.length || types.some((type) => TYPES[type][0](value));
}

/** Why a JSON value does not fit a schema: a list of `{ loc, message }`, empty where it does. `loc` is the path to the value. */
export function misfits(schema, value, root = schema, loc = [], depth = 0) {
  if (schema === false) return [{ loc, message: "not possible here" }];
  if (!isObject(schema) || depth > DEPTH) return [];
  const errors = [];
  if (typeof schema.$ref === "string") errors.push(...misfits(target(schema.$ref, root), value, root, loc, depth + 1));
  for (const part of schema.allOf ?? []) errors.push(...misfits(part, value, root, loc, depth + 1));
  const types = typesOf(schema);
  if (!isOfType(schema, value)) {
    return [...errors, { loc, message: value === undefined ? "needed" : types.map((type) => TYPES[type][1]).join(" or ") }];
  }
  if (Object.hasOwn(schema, "const") && !same(schema.const, value)) errors.push({ loc, message: `only ${words([schema.const])}` });
  if (Array.isArray(schema.enum) && !schema.enum.some((member) => same(member, value))) {
    errors.push({ loc, message: `one of ${words(schema.enum)}` });
  }
  if (schema.anyOf ?? schema.oneOf) errors.push(...ofUnion(schema, value, root, loc, depth));
  if (isNumber(value) || typeof value === "string") {
    const message = isNumber(value) ? ofNumber(schema, value) : ofText(schema, value);
    if (message) errors.push({ loc, message });
  } else if (Array.isArray(value)) errors.push(...ofList(schema, value, root, loc, depth));
  else if (isObject(value)) errors.push(...ofObject(schema, value, root, loc, depth));
  return errors;
}
