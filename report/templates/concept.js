// One concept: its units here and in other layers. One image: what is active in it, and where.

function conceptsView() {
  const detectors = (name) => units.filter((unit) => unit.isDetector && unit.top_concept === name);
  const rows = concepts.map(({ name, region, type, images: carried }) => {
    const some = detectors(name);
    const ofTwins = ((shown.twin_groups.concept || {})[name] || []).join(", ") || "–";
    return [[h("a", { href: address({ view: "concept", concept: name }) }, readable(name)), explanation(name)], readable(region), type, `${carried}`, `${some.length}`,
      shown.judged ? `${some.filter((unit) => unit.isConfirmed).length}` : "–", ofTwins, `${elsewhere(name).reduce((sum, layer) => sum + layer.units.length, 0)}`];
  });
  const sides = concepts.some((concept) => concept.explained.includes("the person's"));
  return [h("h2", { tabindex: "-1" }, "Concepts"), sides ? h("p", null, "Left and right are those of the image: the left eye is the one on the left of the picture, the person's right eye.") : null, table("Concepts of the dictionary", [{ name: "concept" }, { name: "region" }, { name: "type" },
    { name: "images", right: true }, { name: "detectors here", right: true, means: ["concepts", "detector"] }, { name: "confirmed", right: true, means: ["concepts", "confirmed"] },
    { name: "twins' confirmed", right: true, means: ["concepts", "untrained twins"] }, { name: "in other layers", right: true }], rows)];
}

const elsewhere = (name) => beside.layers.filter((layer) => layer.layer !== shown.layer)
  .map((layer) => ({ ...layer, units: layer.concepts[name] || [] }));

function conceptView() {
  if (!conceptNumber.has(state.concept)) return conceptsView();
  const name = state.concept;
  const place = conceptNumber.get(name);
  const { region, type, images: carried } = concepts[place];
  const own = units.filter((unit) => unit.isDetector && unit.top_concept === name).sort((one, other) => other.iou - one.iou);
  const sure = own.filter((unit) => unit.isConfirmed).length;
  const ofTwins = (shown.twin_groups.concept || {})[name] || [];
  const others = units.filter((unit) => !own.includes(unit) && pairOf("iou", unit.unit, place) > 0)
    .sort((one, other) => pairOf("iou", other.unit, place) - pairOf("iou", one.unit, place));
  const above = others.filter((unit) => pairOf("iou", unit.unit, place) > shown.threshold);
  const runnersUp = above.length || own.length ? above : others.slice(0, 5);
  const telling = units.filter((unit) => pairOf("tells", unit.unit, place))
    .sort((one, other) => Math.abs(pairOf("auc", other.unit, place) - 0.5) - Math.abs(pairOf("auc", one.unit, place) - 0.5));
  const list = (some, figure) => h("ul", { class: "inline" }, some.map((unit) => h("li", null, h("a", { href: address({ view: "unit", unit: unit.unit, of: name }) }, `unit ${unit.unit}`), ` ${figure(unit)}`)));
  forget();
  return [
    h("h2", { tabindex: "-1" }, readable(name), explanation(name)),
    h("p", { class: "lead" }, `${own.length ? `${own.length} of ${units.length} units detect it` : "No detector of this layer has it as its concept"}${own.length && shown.judged ? `, ${sure} of them confirmed` : ""}`
      + `${ofTwins.length ? `; of untrained twins ${ofTwins.join(", ")} confirmed ones` : ""}${telling.length ? `; ${telling.length} tell photographs that show it from those that lack it` : ""}. `
      + `${regions.length ? `${readable(region)}, ` : ""}${type}; ${carried} photographs carry it.${isPartial ? " Of each unit the page knows its first concepts alone." : ""}`),
    h("div", { class: "wall" }, own.map(card)),
    runnersUp.length ? [h("h3", null, above.length ? "Also above the threshold, though another concept fits better" : "Closest to it, below the threshold"), list(runnersUp, (unit) => `IoU ${number(pairOf("iou", unit.unit, place))}, its own is ${readable(unit.top_concept)}`)] : null,
    telling.length ? [h("h3", null, "Tell photographs that show it from those that lack it"), list(telling, (unit) => `${pairOf("auc", unit.unit, place) > 0.5 ? "more" : "less"} active, AUC ${number(pairOf("auc", unit.unit, place), 2)}`)] : null,
    h("h3", null, "In other layers and networks"),
    elsewhere(name).length ? table(`Detectors of ${readable(name)} elsewhere`, [{ name: "layer" }, { name: "network" }, { name: "units that detect it, IoU" }],
      elsewhere(name).map((layer) => [layer.layer, [layer.network, layer.dictionary && `, ${layer.dictionary}`],
        layer.units.length ? h("ul", { class: "inline" }, layer.units.map(([unit, iou, confirmed]) => h("li", null, h("a", { href: `${encodeURIComponent(layer.page)}#view=unit&unit=${unit}` }, `unit ${unit}`), ` ${number(iou)}${layer.judged ? (confirmed ? ", confirmed" : ", not confirmed") : ""}`))) : "none"]))
      : h("p", null, "No other layer lies beside this page."),
  ];
}

function imageView() {
  const place = pictureOfRow.get(Number(state.image));
  if (state.image === "" || place === undefined) return imagesView();
  const { units: ofUnits, concepts: ofConcepts, whole: ofWhole } = shown.pictures[place];
  const unit = state.unit === "" ? null : Number(state.unit);
  const concept = conceptNumber.has(state.of) ? conceptNumber.get(state.of) : null;
  const active = units.filter((one) => ofUnits[one.unit]).sort((one, other) => other.iou - one.iou);
  const large = h("div", { class: "large" });
  const draw = () => large.replaceChildren(picture(place, unit, concept));
  draw();
  return [
    h("h2", { tabindex: "-1" }, `Image ${state.image}`),
    unit === null ? h("p", { class: "lead" }, `${active.length} of ${units.length} units are active in this photograph. Choose one to see where.`) : looksAt(place, unit, concept),
    h("div", { class: "columns image" }, h("figure", null, large, unit === null && concept === null ? null : h("div", { class: "switches" }, switches(draw))),
      h("div", null,
        h("h3", null, "Concepts that are annotated in it"),
        h("p", null, "A photograph has labels of some concepts alone: what is not listed may be there all the same."),
        h("ul", { class: "inline" }, Object.keys(ofConcepts).map(Number).map((one) => h("li", null,
          h("a", { href: address({ of: one === concept ? "" : concepts[one].name }), "aria-current": one === concept ? "true" : null }, readable(concepts[one].name)))),
          ofWhole.map((one) => h("li", null, h("a", { href: address({ view: "concept", concept: concepts[one].name }) }, readable(concepts[one].name)), " (whole image)"))),
        h("h3", null, `Units that are active in it (${active.length})`),
        h("ul", { class: "inline units" }, active.map((one) => h("li", null,
          h("a", { href: address({ unit: one.unit === unit ? "" : one.unit }), "aria-current": one.unit === unit ? "true" : null }, `unit ${one.unit}`), ` ${one.top_concept ? readable(one.top_concept) : ""}`))))),
  ];
}

function looksAt(place, unit, concept) {
  const one = units[unit];
  const link = h("a", { href: address({ view: "unit", image: "" }) }, `unit ${unit}`);
  if (!one || !shown.pictures[place].units[unit]) return h("p", { class: "lead" }, "In this photograph ", link, " is silent: it is nowhere above its threshold.");
  const covered = coveredBy(place, unit).filter(([, share]) => share >= 0.05);
  const parts = covered.slice(0, 5).map(([other, share]) => `${percent(share)} in ${readable(concepts[other].name)}`);
  return h("p", { class: "lead" }, "Here ", link, ` looks at the bright area: of it, about ${parts.length ? `${parts.join(", ")} (concepts overlap)` : "nothing lies in a concept that is marked here"}.`,
    one.top_concept ? ` Over all photographs its concept is ${readable(one.top_concept)}.` : "");
}

function imagesView() {
  forget();
  const wall = h("div", { class: "wall small" }, shown.pictures.map((one, place) => {
    const thumb = h("div", { class: "thumb" });
    later(thumb, () => picture(place, null, null));
    return h("a", { class: "card", href: address({ view: "image", image: one.row }) }, thumb, `image ${one.row}`);
  }));
  return [h("h2", { tabindex: "-1" }, "Images"), h("p", null, `${shown.pictures.length} photographs, the best of units and concepts. Choose one to see which units are active in it.`), wall];
}
