// What main.py left (shown) and what other scripts and layers add (beside), in the form that the views ask for.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const shown = read("shown");
const beside = read("beside");

const concepts = shown.concepts;
const conceptNumber = new Map(concepts.map((concept, place) => [concept.name, place]));
// What a concept's name means, such as that of an action unit; most names say it themselves.
const explained = (name) => (conceptNumber.has(name) ? concepts[conceptNumber.get(name)].explained : "");
const inText = (name) => readable(name) + (explained(name) && ` (${explained(name)})`);
const explanation = (name) => explained(name) && h("small", null, ` ${explained(name)}`);

const regions = [...new Set(concepts.map((concept) => concept.region))].filter((name) => name !== shown.unlocalizable);
const types = [...new Set(concepts.map((concept) => concept.type))];

// A unit is its line of <layer>_units.csv, under the names of that table's columns.
const units = shown.units.rows.map((row) =>
  Object.fromEntries(shown.units.columns.map((name, place) => [name, row[place]])));
for (const unit of units) {
  unit.iou = Number(unit.iou);
  unit.isConfirmed = unit.confirmed === 1 && unit.label === unit.top_concept;
  unit.isDetector = unit.interpretable === 1;
  unit.bias = beside.bias ? beside.bias.units[unit.unit] || [] : [];
  const own = conceptNumber.has(unit.top_concept) ? concepts[conceptNumber.get(unit.top_concept)] : null;
  unit.words = [`unit ${unit.unit}`, unit.unit, unit.top_concept, inText(unit.top_concept), unit.region, unit.label_plain, ...(own ? own.also : []),
    unit.isConfirmed ? "confirmed" : "", ...unit.bias.filter((row) => row.verdict === "biased").map((row) => `${row.concept} ${row.group}`)]
    .join(" ").toLowerCase();
}

const pictureOfRow = new Map(shown.pictures.map((picture, place) => [picture.row, place]));
// Of a unit, the places of the concepts whose figures the page has: of many concepts it has the first of each unit alone.
const placesOf = shown.pairs.concepts.map((numbers) => new Map(numbers.map((concept, place) => [concept, place])));
const pairOf = (name, unit, concept) => {
  const place = placesOf[unit].get(concept);
  return place === undefined || !shown.pairs[name] ? null : shown.pairs[name][unit][place];
};
const isPartial = placesOf.some((places) => places.size < concepts.length);

// The pictures of a unit's best images for a concept: [[picture, IoU in that image], ...].
const bestOf = (unit, concept) => (shown.best[unit] && shown.best[unit][concept]) || [];
const ownConcept = (unit) => conceptNumber.get(unit.top_concept);

const subgroups = [...new Set(units.flatMap((unit) => unit.bias.map((row) => `${row.concept}: ${row.group}`)))];
const VERDICTS = ["biased", "as without training", "not shown", "unbiased", "too few images", "not judged"];

function standing(unit) {
  if (!unit.top_concept) return "none";
  if (unit.isConfirmed) return "confirmed";
  return unit.isDetector ? "detector" : "below";
}

const STANDINGS = {
  confirmed: "confirmed: follows its concept beyond the location level",
  detector: "detector, not confirmed",
  below: "below the threshold",
  none: "without a concept",
};
