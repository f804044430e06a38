// The address keeps the state: view, unit, concept, image, filters and switches. What has its usual value is left out.

const USUAL = {
  view: "overview", unit: "", of: "", image: "", concept: "", region: "", type: "", standing: "", group: "",
  verdict: "biased", text: "", sort: "iou", least: "", leastx: "", mostq: "", outline: "on", mask: "on", dark: "on",
};
const FILTERS = ["concept", "region", "type", "standing", "group", "verdict", "text", "sort", "least", "leastx", "mostq"];

function readState() {
  const words = new URLSearchParams(location.hash.slice(1));
  const state = { ...USUAL };
  for (const name of Object.keys(USUAL)) if (words.has(name)) state[name] = words.get(name);
  return state;
}

let state = readState();

function address(changes) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...state, ...changes })) {
    if (String(value) !== USUAL[name]) words.set(name, value);
  }
  return `#${words}`;
}

// keep: the keyboard stays on the field that it is on, and Back leads past this step.
function go(changes, keep = false) {
  const to = address(changes);
  if (keep) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  show({ keep });
}

// A filter changed: the address follows, the view is drawn anew, and the keyboard stays where it is.
function set(changes) {
  history.replaceState(null, "", address(changes));
  state = readState();
}

const SORTS = {
  iou: ["IoU", (unit) => -unit.iou],
  excess: ["IoU beyond the location level (excess)", (unit) => -(known(unit.excess) ? Number(unit.excess) : -Infinity)],
  q: ["q", (unit) => (known(unit.q) ? Number(unit.q) : Infinity)],
  unit: ["number", (unit) => unit.unit],
  concept: ["concept", (unit) => (unit.top_concept ? ownConcept(unit) : Infinity)],
};

// Whether any of the subgroups that are asked for has the verdict.
function leans(unit) {
  return unit.bias.some((row) => (state.group === "any" || `${row.concept}: ${row.group}` === state.group)
    && row.verdict === state.verdict);
}

// What each filter lets through, and what it is called. The verdict belongs to the subgroup.
const PASSES = {
  text: ["Search", (unit) => state.text.toLowerCase().split(/\s+/).filter(Boolean).every((word) => unit.words.includes(word))],
  concept: ["Concept", (unit) => unit.top_concept === state.concept],
  region: ["Region", (unit) => unit.region === state.region],
  type: ["Type", (unit) => unit.type === state.type],
  standing: ["Standing", (unit) => standing(unit) === state.standing || (state.standing === "detectors" && unit.isDetector)],
  group: ["Leans towards", leans],
  least: ["IoU from", (unit) => unit.iou >= Number(state.least)],
  leastx: ["Excess from", (unit) => known(unit.excess) && Number(unit.excess) >= Number(state.leastx)],
  mostq: ["q up to", (unit) => known(unit.q) && Number(unit.q) <= Number(state.mostq)],
};
const filtersAsked = () => Object.keys(PASSES).filter((name) => state[name] !== USUAL[name]);
const passing = (filters) => units.filter((unit) => filters.every((name) => PASSES[name][1](unit)));

function chosenUnits() {
  const [, key] = SORTS[state.sort] || SORTS.iou;
  return passing(filtersAsked())
    .map((unit) => [key(unit), unit])
    .sort(([one, first], [other, second]) => (one < other ? -1 : one > other ? 1 : second.iou - first.iou || first.unit - second.unit))
    .map(([, unit]) => unit);
}
