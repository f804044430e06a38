// What was dissected and found: counts with their chance, bars, the face map, bias per subgroup.

function overview() {
  const words = { ...shown.about, images: shown.made_with };
  return [
    h("h2", { tabindex: "-1" }, "Overview"),
    h("p", { class: "lead" }, shown.sentences.join(" ")),
    beside.notes.map((note) => h("p", { class: "warning" }, note)),
    questions(),
    h("div", { class: "columns" }, counts(), shown.face ? faceMap() : null),
    h("div", { class: "columns" },
      regions.length ? groupBars("Detectors per region", "region", [...regions, shown.unlocalizable], (unit) => unit.region) : null,
      groupBars("Detectors per type", "type", types, (unit) => unit.type)),
    groupBars("Detectors per concept", "concept", concepts.map((concept) => concept.name), (unit) => unit.top_concept),
    beside.bias ? biasCounts() : null,
    h("h3", null, "What was dissected"), terms(Object.entries(words)),
    h("details", null, h("summary", null, "What the figures mean"), terms(Object.entries(beside.meaning.concepts)),
      beside.bias ? [h("h4", null, "Of bias"), terms(Object.entries(beside.meaning.bias))] : null,
      beside.hierarchy ? [h("h4", null, "Within a region"), terms(Object.entries(beside.meaning.hierarchy))] : null),
  ];
}

// What people ask first, one click from its answer.
function questions() {
  const where = shown.face ? "faces" : "images";
  const first = units.filter((unit) => unit.isDetector).sort((one, other) => other.iou - one.iou)[0];
  const asked = [
    [`Which units follow their concept, beyond being active where ${where} have it?`, { view: "units", standing: "confirmed", sort: "excess" }],
    [`Which detectors may be merely active where ${where} have it?`, { view: "units", standing: "detector" }],
    first && [`Which units detect ${inText(first.top_concept)}?`, { view: "concept", concept: first.top_concept }],
    beside.bias && ["Which units are biased by training, and towards whom?", { view: "units", group: "any", verdict: "biased" }],
    beside.bias && ["Which lean, but no more than an untrained network's?", { view: "units", group: "any", verdict: "as without training" }],
  ].filter(Boolean);
  return h("ul", { class: "questions" }, asked.map(([text, to]) => h("li", null, h("a", { href: address(to) }, text))));
}

function counts() {
  const detectors = units.filter((unit) => unit.isDetector);
  const sure = units.filter((unit) => unit.isConfirmed);
  const different = (some) => new Set(some.map((unit) => unit.top_concept)).size;
  const twins = (place) => shown.twins.map((of) => of[place]).join(", ") || "left out";
  const rows = [
    [`detectors (IoU > ${shown.threshold})`, `${detectors.length} of ${units.length}`, twins(0)],
    ["confirmed detectors", shown.judged ? `${sure.length}` : "left out", twins(1)],
    ["different concepts of detectors", `${different(detectors)}`, twins(2)],
    ["different concepts of confirmed ones", shown.judged ? `${different(sure)}` : "left out", twins(3)],
  ];
  const formulas = shown.formulas ? Object.values(shown.formulas.units) : [];
  if (formulas.length) rows.push(["follow a formula better than their label", `${formulas.filter((of) => of.holds).length} of ${formulas.length}`,
    shown.formulas.twin[0] ? `${shown.formulas.twin[1]} of ${shown.formulas.twin[0]}` : "–"]);
  return h("section", null, h("h3", null, "Counts"), table("Counts beside those of the same network without training",
    [{ name: "what" }, { name: "this network", right: true }, { name: "untrained twins", right: true, means: ["concepts", "untrained twins"] }], rows));
}

// Bars of detectors, the confirmed part darker, with the confirmed units of untrained twins beside the number.
function groupBars(title, filter, names, of) {
  const detectors = units.filter((unit) => unit.isDetector);
  const groups = names.map((name) => {
    const some = detectors.filter((unit) => of(unit) === name);
    return { name, all: some.length, sure: some.filter((unit) => unit.isConfirmed).length, twins: (shown.twin_groups[filter] || {})[name] };
  }).filter((group) => group.all || (group.twins || []).some(Boolean));
  const most = Math.max(1, ...groups.map((group) => group.all), ...groups.flatMap((group) => group.twins || []));
  const twins = (group) => (group.twins ? group.twins.join(", ") || "–" : "–");
  return h("section", null, h("h3", null, title),
    table(`By ${filter}. Blue: confirmed; grey: not confirmed; ticks: confirmed ones of untrained twins`,
      [{ name: filter }, { most: `${most}` }, { name: "detectors", right: true, means: ["concepts", "detector"] }, { name: "confirmed", right: true, means: ["concepts", "confirmed"] },
        { name: "twins' confirmed", right: true, means: ["concepts", "untrained twins"] }],
      groups.map((group) => [
        [h("a", { href: address(filter === "concept" ? { view: "concept", concept: group.name } : { view: "units", standing: "detectors", [filter]: group.name }) }, readable(group.name)),
          filter === "concept" ? explanation(group.name) : null],
        stackedBar(group, most), `${group.all}`, shown.judged ? `${group.sure}` : "–", twins(group),
      ]), { class: "bars" }));
}

function stackedBar({ all, sure, twins }, most) {
  const at = (count) => (100 * count) / most;
  return s("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "unsure", width: at(all), y: 1, height: 8 }), s("rect", { class: "value", width: at(sure), y: 1, height: 8 }),
    (twins || []).map((count) => s("line", { class: "tick", x1: at(count), x2: at(count), y1: 0, y2: 10 })));
}

// Steps of one colour, from few to many: told apart in grey too, and each region carries its number.
function faceMap() {
  const { rows, columns, jpeg, images, regions: lie } = shown.face;
  const number = Object.fromEntries(Object.keys(lie).map((region) => [region, units.filter((unit) => unit.isDetector && unit.region === region).length]));
  const most = Math.max(1, ...Object.values(number));
  const width = 256, height = (256 * rows) / columns;
  const transform = `scale(${width / 255} ${height / 255})`;
  const drawn = Object.entries(lie).filter(([, text]) => text).map(([region, text]) => {
    const shape = s("path", { d: pathOf(text), transform, class: "region", "fill-rule": "evenodd" }, s("title", null, `${readable(region)}: ${number[region]}`));
    shape.style.setProperty("fill-opacity", number[region] ? 0.08 + (0.77 * number[region]) / most : 0);
    return s("a", { href: address({ view: "units", region, standing: "detectors" }), "aria-label": `${readable(region)}: ${counted(number[region], "detector")}` }, shape);
  });
  return h("section", null, h("h3", null, "Where the detectors look"),
    h("figure", { class: "face" },
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Regions of the face, coloured by number of detectors" },
        jpeg ? s("image", { width, height, preserveAspectRatio: "none", href: `data:image/jpeg;base64,${jpeg}` }) : s("rect", { class: "blank", width, height }), drawn),
      h("figcaption", null, `${jpeg ? `Mean of ${images} photographs. ` : ""}The stronger the colour, the more detectors: `,
        Object.entries(number).map(([region, count]) => `${readable(region)} ${count}`).join(", "), ". Each place is given to the region that covers it in most photographs.")));
}

// Units per subgroup that reach the cut-off, and per verdict, each with the same of the untrained twins in brackets.
function biasCounts() {
  const names = VERDICTS.filter((verdict) => units.some((unit) => unit.bias.some((row) => row.verdict === verdict)));
  const rows = subgroups.map((group) => {
    const [own, ...twins] = beside.bias.counts.filter((row) => `${row.concept}: ${row.group}` === group);
    const ofTwins = (column) => (twins.length ? ` (${twins.map((row) => row[column]).join(", ")})` : "");
    const of = units.flatMap((unit) => unit.bias.filter((row) => `${row.concept}: ${row.group}` === group));
    return [readable(group), ...(own ? [`${own.cut_off}${ofTwins("cut_off")}`] : []), ...names.map((verdict) => {
      const count = of.filter((row) => row.verdict === verdict).length;
      const link = h("a", { href: address({ view: "units", group, verdict }), "aria-label": `${counted(count, "unit")}, ${readable(group)}: ${verdict}` }, `${count}`);
      return [count ? link : "0", ofTwins(verdict.replaceAll(" ", "_"))];
    })];
  });
  const twins = beside.bias.counts.some((row) => row.of !== "network");
  return h("section", null, h("h3", null, "Bias: units per subgroup and verdict"),
    h("p", null, "Biased: beyond the cut-off, beyond chance, and beyond what untrained twins of the network have. As without training: the twins have it too."),
    table(`Units per subgroup and verdict${twins ? "; in brackets those of each untrained twin, judged in the same way" : ""}`,
      [{ name: "subgroup" }, ...(beside.bias.counts.length ? [{ name: "reach the cut-off", right: true, means: ["bias", "cut-off"] }] : []),
        ...names.map((name) => ({ name, right: true, means: ["bias", name] }))], rows));
}
