// Making elements. What comes from data is only ever put in as text or as an attribute that cannot run anything.

const SVG = "http://www.w3.org/2000/svg";
const OWN = Math.random().toString(36).slice(2, 10); // each view on a page has a copy of this module
let named = 0;
const REFUSED = /^(on|href$|src|style$|xlink)/i;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (REFUSED.test(name)) throw new Error(`the attribute ${name} is not set from here`);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Make an HTML element: `h("button", { class: "go", click: handler }, "Send")`. Functions are listeners; text stays text. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Put `children` in the place of all that an element holds. */
export function replace(element, ...children) {
  element.replaceChildren();
  return fill(element, {}, children);
}

/** Give an id that no other element of the page has. */
export function uniqueId() {
  return `dnb-${OWN}-${(named += 1)}`;
}
