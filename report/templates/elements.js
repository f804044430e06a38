"use strict";
// Making elements. Text is set as text everywhere, so that a name from a file can never become part of the page.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const readable = (name) => String(name).replaceAll("_", " ");

// A number as text; cells that the program left empty arrive as "" or null.
const known = (value) => value !== "" && value !== null && value !== undefined;
const number = (value, digits = 3) => (known(value) ? Number(value).toFixed(digits) : "–");
const small = (value) => (!known(value) ? "–" : Number(value) < 1e-4 ? "< 0.0001" : Number(Number(value).toPrecision(2)).toString());
const interval = (low, high, digits = 3) => (known(low) && known(high) ? `${number(low, digits)} to ${number(high, digits)}` : "–");
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)} %`;

// columns: {name, right: whether it holds numbers, means: what part and term of the glossary explains it} or {most: the
// end of the scale of a column of bars, as text}. rows: arrays of cells, the first of which names the row. On a narrow
// screen a row is stacked, and each cell carries its column's name.
function table(caption, columns, rows, attributes = {}) {
  const cells = (row) => row.map((cell, place) => place === 0
    ? h("th", { scope: "row" }, cell)
    : h("td", { class: columns[place].right ? "right" : null, "data-label": columns[place].name }, cell));
  return h("div", { class: "scroll" },
    h("table", attributes, h("caption", null, caption),
      h("thead", null, h("tr", null, columns.map(heading))),
      h("tbody", null, rows.map((row) => h("tr", { class: row.marked ? "marked" : null }, cells(row.cells || row))))));
}

function heading({ name, right, means, most }) {
  if (most !== undefined) return h("td", null, h("div", { class: "axis", "aria-hidden": "true" }, h("span", null, "0"), h("span", null, most)));
  return h("th", { scope: "col", class: right ? "right" : null }, means ? term(name, ...means) : name);
}

// A word whose meaning is a press away, by mouse, finger or keyboard. part, key: of beside.meaning.
function term(name, part, key) {
  const explain = () => document.getElementById("meaning").replaceChildren(
    h("strong", null, key), h("p", null, beside.meaning[part][key]), h("button", { type: "button", popovertarget: "meaning" }, "Close"));
  return h("button", { type: "button", class: "term", popovertarget: "meaning", onclick: explain }, name);
}

function terms(entries) {
  return h("dl", null, entries.map(([term, text]) => [h("dt", null, term), h("dd", null, text)]));
}

// A bar of a share of the whole width with what it is compared with: a tick, and an interval as a line.
function bar(value, most, { tick = null, low = null, high = null, kind = "" } = {}) {
  const at = (x) => (100 * Math.min(Math.max(Number(x), 0), most)) / most;
  return s("svg", { class: `bar ${kind}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "ground", width: 100, height: 10 }),
    s("rect", { class: "value", width: at(value || 0), y: 1, height: 8 }),
    known(low) && known(high) && s("line", { class: "interval", x1: at(low), x2: at(high), y1: 5, y2: 5 }),
    known(tick) && s("line", { class: "tick", x1: at(tick), x2: at(tick), y1: 0, y2: 10 }));
}
