// Showing the view that the address names, the header, and the keys.

const VIEWS = { overview: ["Overview", overview], units: ["Units", unitsView], concept: ["Concepts", conceptView], image: ["Images", imageView], unit: [null, unitView] };

function forget() {
  waiting.clear();
  if (observer) observer.disconnect();
}

const announce = (text) => { document.getElementById("status").textContent = text; };

function header() {
  const tabs = beside.layers.filter((layer) => layer.same_run);
  document.getElementById("layers").hidden = tabs.length < 2;
  const here = ["unit", "image"].includes(state.view) ? { view: "units", unit: "", image: "", of: "" } : {};
  document.getElementById("layers").replaceChildren(...(tabs.length > 1 ? tabs : []).map((layer) =>
    h("a", { href: `${encodeURIComponent(layer.page)}${address(here)}`, "aria-current": layer.layer === shown.layer ? "page" : null },
      layer.short, h("small", null, ` ${layer.detectors} of ${layer.units}`))));
  document.getElementById("views").replaceChildren(...Object.entries(VIEWS).filter(([, [name]]) => name).map(([view, [name]]) => {
    const to = { view, unit: "", image: "", of: "", ...(view === "concept" || state.view === "concept" ? { concept: "" } : {}) };
    return h("a", { href: address(to), "aria-current": view === state.view || (view === "units" && state.view === "unit") ? "page" : null }, name);
  }));
}

const announced = () => document.getElementById("status").textContent;

function show({ first = false, keep = false } = {}) {
  state = readState();
  const [, view] = VIEWS[state.view] || VIEWS.overview;
  forget();
  header();
  announce("");
  const main = document.getElementById("main");
  const field = keep && document.activeElement.name;
  main.replaceChildren(...[view()].flat(3).filter(Boolean));
  const title = main.querySelector("h2");
  document.title = `${title.textContent} – ${shown.layer}`;
  if (!announced()) announce(title.textContent);
  if (field) main.querySelector(`[name=${field}]`).focus({ preventScroll: true });
  else if (!first) {
    title.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

window.addEventListener("hashchange", () => show());
window.addEventListener("popstate", () => show());
window.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  if (event.target.matches(".scroll") || document.querySelector(":popover-open")) return;
  const key = { ArrowLeft: "previous", ArrowRight: "next", Escape: "up" }[event.key];
  const link = key && document.getElementById(key);
  if (link) link.click();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
document.getElementById("foot").replaceChildren(
  `${shown.about.program || ""}, ${shown.about.date || ""}. Keys in the view of a unit: ← previous, → next, Esc all units. The address of this page keeps what you see: copy it to share a view.`);
show({ first: true });
