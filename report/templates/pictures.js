// A photograph with what lies on it: outlines of a unit and of a concept, and what the unit leaves dark.

// Corners of report/contours.py as a path. text: base64 of bytes, of each polygon its number of corners, then x, y.
const paths = new Map();
function pathOf(text) {
  if (!paths.has(text)) {
    const bytes = atob(text);
    const parts = [];
    for (let at = 0; at < bytes.length;) {
      const corners = bytes.charCodeAt(at++);
      const places = [];
      for (let corner = 0; corner < corners; corner++, at += 2) places.push(`${bytes.charCodeAt(at)} ${bytes.charCodeAt(at + 1)}`);
      parts.push(`M${places.join("L")}Z`);
    }
    paths.set(text, parts.join(""));
  }
  return paths.get(text);
}

let numbered = 0;

// place: of the picture. unit: number or null. concept: number or null. switches: which of outline, mask, dark are on.
function picture(place, unit, concept, switches = state, others = []) {
  const { width, height, jpeg, matrix, units: ofUnits, concepts: ofConcepts, row } = shown.pictures[place];
  const transform = `matrix(${matrix.join(" ")})`;
  const outline = (text, kind) => text && s("path", { class: kind, d: pathOf(text), transform, "vector-effect": "non-scaling-stroke" });
  const active = unit === null ? null : ofUnits[unit];
  const id = `dark${numbered++}`;
  const dark = switches.dark === "on" && unit !== null && jpeg;
  return s("svg", { class: "picture", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe(row, active, unit, concept, place) },
    jpeg
      ? s("image", { width, height, href: `data:image/jpeg;base64,${jpeg}` })
      : [s("rect", { class: "blank", width, height }), Object.values(ofConcepts).map((text) => outline(text, "silhouette"))],
    dark && s("mask", { id }, s("rect", { width, height, fill: "white" }),
      active && s("path", { d: pathOf(active), transform, fill: "black", "fill-rule": "evenodd" })),
    dark && s("rect", { width, height, class: "darkness", mask: `url(#${id})` }),
    !jpeg && active && outline(active, "lit"),
    others.map((other) => outline(ofUnits[other], "other")),
    switches.mask === "on" && concept !== null && outline(ofConcepts[concept], "mask-line"),
    switches.outline === "on" && active && [outline(active, "under"), outline(active, "unit-line")]);
}

function describe(row, active, unit, concept, place) {
  const parts = [`image ${row}`];
  if (unit !== null) parts.push(active ? `unit ${unit} is active` : `unit ${unit} is silent`);
  if (concept !== null) parts.push(`${readable(concepts[concept].name)} ${shown.pictures[place].whole.includes(concept) ? "holds for the whole image" : shown.pictures[place].concepts[concept] ? "is outlined" : "is not marked"}`);
  return parts.join(", ");
}

// Which share of the area where a unit is active each concept covers, about: [[concept, share], ...], largest first.
function coveredBy(place, unit) {
  const { units: ofUnits, concepts: ofConcepts } = shown.pictures[place];
  if (!ofUnits[unit]) return [];
  const canvas = document.createElement("canvas").getContext("2d");
  const area = new Path2D(pathOf(ofUnits[unit]));
  const inside = [];
  for (let x = 1; x < 256; x += 2) for (let y = 1; y < 256; y += 2) if (canvas.isPointInPath(area, x, y, "evenodd")) inside.push([x, y]);
  if (!inside.length) return [];
  return Object.entries(ofConcepts)
    .map(([concept, text]) => {
      const mask = new Path2D(pathOf(text));
      return [Number(concept), inside.filter(([x, y]) => canvas.isPointInPath(mask, x, y, "evenodd")).length / inside.length];
    })
    .sort((one, other) => other[1] - one[1]);
}

// Pictures come when they are about to be seen: a wall has hundreds.
const waiting = new Map();
const observer = "IntersectionObserver" in window
  ? new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => fillIn(entry.target)), { rootMargin: "600px" })
  : null;
window.addEventListener("beforeprint", () => [...waiting.keys()].forEach(fillIn));

function fillIn(element) {
  const make = waiting.get(element);
  if (!make) return;
  waiting.delete(element);
  if (observer) observer.unobserve(element);
  element.append(make());
}

function later(element, make) {
  waiting.set(element, make);
  if (observer) observer.observe(element);
  else fillIn(element);
  return element;
}
