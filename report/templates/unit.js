// One unit: its images, every concept, how its activations are spread, bias, hierarchy, ablation.

function unitView() {
  const unit = units.find((one) => String(one.unit) === state.unit);
  if (!unit) return [h("h2", { tabindex: "-1" }, "No such unit"), h("p", null, `This layer's units are 0 to ${units.length - 1}.`)];
  const own = ownConcept(unit);
  const asked = state.of !== "" && conceptNumber.has(state.of) ? conceptNumber.get(state.of) : own;
  return [
    turning(unit),
    h("h2", { tabindex: "-1" }, `Unit ${unit.unit}: ${unit.top_concept ? readable(unit.top_concept) : "no concept"}`, explanation(unit.top_concept)),
    h("p", { class: "lead" }, inWords(unit).join(" ")),
    asked === undefined ? null : images(unit, asked, own),
    h("section", null, h("h3", null, "All concepts"), conceptTable(unit, asked)),
    formulaOf(unit),
    histogram(unit),
    unit.bias.length ? biasTable(unit) : null,
    hierarchyTable(unit), ablationTable(unit),
  ];
}

// Next and previous among the units that the wall shows, in its order.
function turning(unit) {
  const chosen = chosenUnits();
  const at = chosen.findIndex((one) => one.unit === unit.unit);
  const to = (step, text, key) => {
    const other = chosen[at + step];
    return other && at >= 0 ? h("a", { id: key, href: address({ unit: other.unit, of: "" }) }, text) : h("span", { class: "faint" }, text);
  };
  return h("nav", { class: "turning", "aria-label": "Units" }, to(-1, "← previous", "previous"),
    h("a", { id: "up", href: address({ view: "units", unit: "", of: "" }) }, at >= 0 ? `${at + 1} of ${chosen.length} units` : "all units"), to(1, "next →", "next"));
}

function inWords(unit) {
  if (!unit.top_concept) return ["It touches no concept of this dictionary."];
  const told = [`IoU ${number(unit.iou, 4)} with ${readable(unit.top_concept)}${known(unit.iou_low) ? ` (95 % ${interval(unit.iou_low, unit.iou_high)})` : ""}.`];
  if (!unit.isDetector) told.push(`That is not above ${shown.threshold}: it does not count as a detector.`);
  if (unit.label && unit.label !== unit.top_concept) told.push(`What follows is about ${readable(unit.label)}, its concept when all images count.`);
  if (known(unit.location_iou)) told.push(`Its location level, what its place in the ${shown.face ? "face" : "image"} alone gives, is ${number(unit.location_iou)}.`);
  const label = concepts[conceptNumber.get(unit.label)];
  if (label && label.whole) told.push("That label holds for whole images: it has no place in them, so that no location level tells what of it is chance.");
  else if (known(unit.q)) told.push(unit.isConfirmed ? `Confirmed: what lies above is not chance (q ${small(unit.q)}).` : `Not confirmed${unit.isDetector ? "" : ", as its IoU is not above the threshold"} (q ${small(unit.q)}).`);
  if (known(unit.heldout_iou)) told.push(`On photographs that did not choose the label: ${number(unit.heldout_iou)}${unit.label_holds === 0 ? ", and the two halves give different labels" : ""}.`);
  if (unit.label_plain && unit.label_plain !== unit.label) told.push(`It does not tell photographs that show ${readable(unit.label)} from others: plainly it is a unit of ${readable(unit.label_plain)}.`);
  return told;
}

function images(unit, asked, own) {
  const best = bestOf(unit.unit, asked);
  const options = concepts.map((concept, place) => [place, concept]).filter(([place]) => bestOf(unit.unit, place).length);
  const row = h("div", { class: "row", id: "images" });
  const draw = () => row.replaceChildren(...best.map(([place, score]) => h("figure", null,
    h("a", { href: address({ view: "image", image: shown.pictures[place].row, of: concepts[asked].name }), "aria-label": `Image ${shown.pictures[place].row}: which units are active in it` },
      picture(place, unit.unit, asked)),
    h("figcaption", null, `image ${shown.pictures[place].row}, IoU ${number(score)}`))));
  draw();
  return h("section", null, h("h3", null, `Best images for ${readable(concepts[asked].name)}`),
    h("div", { class: "switches" }, switches(draw),
      field("Images for", h("select", { name: "of", onchange: (event) => go({ of: event.target.value }, true) },
        options.map(([place, { name }]) => h("option", { value: name, selected: place === asked }, inText(name) + (place === own ? ", its own" : "")))))),
    best.length ? row : h("p", null, "None of its best images for this concept is among the photographs of this page."));
}

const SWITCHES = { outline: "unit's outline", mask: "concept's outline", dark: "darkening" };
function switches(draw) {
  return Object.entries(SWITCHES).map(([name, text]) => h("label", { class: `switch ${name}` },
    h("input", { type: "checkbox", name, checked: state[name] === "on", onchange: (event) => { set({ [name]: event.target.checked ? "on" : "off" }); draw(); } }),
    h("span", null, text)));
}

function conceptTable(unit, asked) {
  const of = (name, concept) => pairOf(name, unit.unit, concept);
  const order = [...placesOf[unit.unit].keys()].sort((one, other) => of("iou", other) - of("iou", one) || one - other);
  const most = Math.max(0.05, ...order.map((place) => Math.max(of("iou", place), of("high", place) || 0, of("location", place) || 0)));
  const rows = order.map((place) => ({
    marked: place === asked,
    cells: [[h("a", { href: address({ of: concepts[place].name }) }, readable(concepts[place].name)), explanation(concepts[place].name)],
      bar(of("iou", place), most, { tick: of("location", place), low: of("low", place), high: of("high", place) }),
      number(of("iou", place)), number(of("location", place)), interval(of("low", place), of("high", place)),
      known(of("auc", place)) ? `${number(of("auc", place), 2)} (${interval(of("auc_low", place), of("auc_high", place), 2)})` : "–",
      known(of("auc", place)) && shown.judged ? (of("tells", place) ? (of("auc", place) > 0.5 ? "more" : "less") : "no") : "–"],
  }));
  const means = (key) => ["concepts", key];
  const which = isPartial ? `IoU with the ${order.length} concepts of ${concepts.length} that come first or are told best; ${shown.layer}_iou.csv has all` : "IoU with every concept";
  return table(`${which}; the tick is the location level, the line the 95 % interval`, [{ name: "concept" }, { most: number(most, 2) },
    { name: "IoU", right: true, means: means("IoU") }, { name: "location level", right: true, means: means("location level") },
    { name: "95 % interval", right: true, means: means("95 % interval") }, { name: "AUC of presence", right: true, means: means("tells") },
    { name: "tells it", right: true, means: means("tells") }], rows, { class: "bars", id: "concepts" });
}

// The formula of concepts that the unit follows best, beside its label on the same photographs.
function formulaOf(unit) {
  const of = shown.formulas && shown.formulas.units[unit.unit];
  if (!of) return null;
  const label = readable(unit.label);
  const told = of.concepts === 1 && of.formula === unit.label
    ? [`No formula of several concepts fits it better than ${label} alone.`]
    : [h("strong", null, readable(of.formula)), `: IoU ${number(of.iou)} on the ${of.photographs} photographs that are annotated for all of it, where ${label} alone reaches ${number(of.label_iou)}. `,
      `A formula is chosen among thousands: chosen on one half of the photographs, it reaches ${number(of.heldout_iou)} on the other, ${label} ${number(of.heldout_label_iou)}: ${of.holds ? "it is better on both halves that did not choose it." : "so it may be an accident of the search."}`];
  return h("section", { id: "formula" }, h("h3", null, "As a formula"), h("p", null, told));
}

function histogram(unit) {
  const [low, high, ...heights] = shown.histograms.units[unit.unit];
  const most = Math.log1p(Math.max(...heights));
  const width = 400 / heights.length;
  const threshold = Number(unit.threshold);
  const at = (value) => (high > low ? (400 * (value - low)) / (high - low) : 0);
  const x = Math.min(Math.max(at(threshold), 0), 400);
  return h("section", null, h("h3", null, "Activations"), h("figure", null,
    s("svg", { class: "histogram", viewBox: "0 0 400 130", role: "img", "aria-label": `Histogram of activations from ${number(low)} to ${number(high)}, threshold ${number(threshold)}` },
      heights.map((count, place) => s("rect", { class: at(threshold) <= place * width ? "value" : "unsure", x: place * width, width: width - 1, y: 110 - (100 * Math.log1p(count)) / most, height: (100 * Math.log1p(count)) / most })),
      s("line", { class: "tick", x1: x, x2: x, y1: 0, y2: 110 }),
      s("text", { x: 0, y: 126 }, number(low, 2)), s("text", { x: 400, y: 126, "text-anchor": "end" }, number(high, 2))),
    h("figcaption", null, `Of ${shown.histograms.images} evenly chosen photographs, counts on a logarithmic scale. The line is the threshold ${number(threshold, 4)}${at(threshold) > 400 ? ", beyond the largest of them" : ""}: above it the unit counts as active.`)));
}

function biasTable(unit) {
  const rows = unit.bias.map((row) => [
    readable(`${row.concept}: ${row.group}`), bar(row.probability, 1, { low: row.low, high: row.high, kind: row.verdict === "biased" ? "biased" : "" }),
    number(row.probability), interval(row.low, row.high), `${number(row.auc, 2)} (${interval(row.auc_low, row.auc_high, 2)})`, small(row.q),
    known(row.twin) ? percent(Number(row.twin)) : "–", term(row.verdict, "bias", row.verdict)]);
  return h("section", null, h("h3", null, "Bias"), table("Probability of each subgroup. Intervals are of all its images; q is of images whose other labels agree, or of drawn faces that differ in the subgroup alone, and so may see more or less than they do.", [{ name: "subgroup" }, { most: "1" },
    { name: "P", right: true, means: ["bias", "probability"] }, { name: "95 % interval", right: true, means: ["bias", "95 % interval"] },
    { name: "AUC", right: true, means: ["bias", "AUC"] }, { name: "q", right: true, means: ["bias", "q"] },
    { name: "untrained units that far", right: true, means: ["bias", "twin"] }, { name: "verdict" }], rows, { class: "bars", id: "bias" }));
}

function hierarchyTable(unit) {
  const rows = (beside.hierarchy || {})[unit.unit];
  if (!rows) return null;
  return h("section", null, h("h3", null, `Within ${readable(unit.region)}`), table("P(concept | unit, region)", [{ name: "concept" }, { most: "1" }, { name: "P", right: true, means: ["hierarchy", "probability"] },
    { name: "95 % interval", right: true, means: ["concepts", "95 % interval"] }, { name: "detected", right: true, means: ["hierarchy", "detected"] },
    { name: "told apart", right: true, means: ["concepts", "tells"] }],
  rows.map((row) => [[readable(row.concept), explanation(row.concept)], bar(row.probability, 1, { low: row.low, high: row.high }), number(row.probability), interval(row.low, row.high),
    row.detected === "1" ? "yes" : "no", { 1: "yes", 0: "no" }[row.tells] || "–"]), { class: "bars", id: "hierarchy" }));
}

// Effects are the columns called "<measure>, <group>". What any unit of the layer does is the chance level of one.
function ablationTable(unit) {
  const [row] = (beside.ablation || {})[unit.unit] || [];
  if (!row) return null;
  const names = Object.keys(row).filter((name) => name.includes(", ") && known(row[name]));
  const others = Object.values(beside.ablation).map(([one]) => one);
  const reach = (name) => others.filter((one) => known(one[name]) && Math.abs(one[name]) >= Math.abs(row[name])).length / others.length;
  return h("section", null, h("h3", null, "Without this unit"), table("What changes when the unit's maps are set aside; beside it the share of the layer's units, itself included, that change as much",
    [{ name: "what" }, { name: "effect", right: true }, { name: "95 % interval", right: true }, { name: "units that reach it", right: true }],
    names.map((name, place) => [readable(name), number(row[name], 4), place === 0 ? interval(row.low, row.high, 4) : "–", percent(reach(name))]), { id: "ablation" }));
}
