// The wall of units: a card each, filtered and sorted by what the address says.

function unitsView() {
  const wall = h("div", { class: "wall", id: "wall" });
  const count = h("p", { id: "count" });
  const hints = h("div", { id: "hints" });
  const draw = () => {
    const chosen = chosenUnits();
    forget();
    wall.replaceChildren(...chosen.map(card));
    count.textContent = `${chosen.length} of ${units.length} units`;
    hints.replaceChildren(...(chosen.length ? [] : whatToLoosen()));
    announce(`${count.textContent} ${hints.textContent}`);
  };
  const change = (name) => (event) => { set({ [name]: event.target.value }); draw(); };
  const form = h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    field(PASSES.text[0], h("input", { type: "search", name: "text", value: state.text, oninput: change("text"), placeholder: "unit, concept, region" })),
    choice(PASSES.concept[0], "concept", [["", "any"], ...concepts.map(({ name }) => [name, inText(name)])], change),
    regions.length > 0 && choice(PASSES.region[0], "region", [["", "any"], ...[...regions, shown.unlocalizable].map((name) => [name, readable(name)])], change),
    choice(PASSES.type[0], "type", [["", "any"], ...types.map((name) => [name, name])], change),
    choice(PASSES.standing[0], "standing", [["", "any"], ["detectors", "all detectors"], ...Object.entries(STANDINGS)], change),
    beside.bias && choice(PASSES.group[0], "group", [["", "not asked"], ["any", "any subgroup"], ...subgroups.map((name) => [name, readable(name)])], change),
    beside.bias && choice("and is", "verdict", VERDICTS.map((name) => [name, name]), change),
    field(PASSES.least[0], h("input", { type: "number", name: "least", min: 0, max: 1, step: "0.01", value: state.least, oninput: change("least") })),
    field(PASSES.leastx[0], h("input", { type: "number", name: "leastx", min: -1, max: 1, step: "0.01", value: state.leastx, oninput: change("leastx") })),
    field(PASSES.mostq[0], h("input", { type: "number", name: "mostq", min: 0, max: 1, step: "0.01", value: state.mostq, oninput: change("mostq") })),
    choice("Sort by", "sort", Object.entries(SORTS).map(([name, [text]]) => [name, text]), change),
    h("button", { type: "button", onclick: () => go(Object.fromEntries(FILTERS.map((name) => [name, USUAL[name]]))) }, "Clear"));
  draw();
  return [h("h2", { tabindex: "-1" }, "Units"), form, count, hints, wall];
}

// Where nothing meets all filters: which one keeps units out that meet the others, and how many.
function whatToLoosen() {
  const filters = filtersAsked();
  const without = filters.map((name) => [name, passing(filters.filter((other) => other !== name)).length]).filter(([, count]) => count);
  const asked = (name) => `${PASSES[name][0]} “${readable(state[name])}${name === "group" ? `, ${state.verdict}` : ""}”`;
  return [
    h("p", null, without.length ? "No unit meets all that is asked. One filter less: " : "No unit meets what is asked, nor with any one filter less. "),
    h("ul", null, without.map(([name, count]) => h("li", null,
      h("a", { href: address({ [name]: USUAL[name] }) }, `without ${asked(name)}: ${counted(count, "unit")}`), ". "))),
  ];
}

const field = (text, input) => h("label", null, h("span", null, text), input);

function choice(text, name, options, change) {
  return field(text, h("select", { name, onchange: change(name) },
    options.map(([value, label]) => h("option", { value, selected: value === state[name] }, label))));
}

function card(unit) {
  const place = h("div", { class: "thumb" });
  const best = unit.top_concept ? bestOf(unit.unit, ownConcept(unit))[0] : null;
  if (best) later(place, () => picture(best[0], unit.unit, ownConcept(unit), { outline: "on", mask: "off", dark: "on" }));
  return h("a", { class: `card ${standing(unit)}`, href: address({ view: "unit", unit: unit.unit, of: "" }) },
    place,
    h("strong", null, `Unit ${unit.unit}`), " ", h("span", { class: "concept" }, unit.top_concept ? [readable(unit.top_concept), explanation(unit.top_concept)] : "no concept"),
    h("span", { class: "figures" }, `IoU ${number(unit.iou)}`, known(unit.location_iou) ? `, location level ${number(unit.location_iou)}` : "",
      known(unit.q) ? `, q ${small(unit.q)}` : ""),
    ["biased", ...(state.group && state.verdict !== "biased" ? [state.verdict] : [])].map((verdict) => {
      const towards = unit.bias.filter((row) => row.verdict === verdict).map((row) => readable(`${row.concept} ${row.group}`));
      return towards.length ? h("span", { class: "figures" }, `${verdict}: ${towards.join(", ")}`) : null;
    }),
    h("span", { class: "badge" }, STANDINGS[standing(unit)].split(":")[0]));
}
