// The frame that every panel has: a heading, two sentences, a formula, the figures, downloads.

const state = {image: 0, layer: 0, level: 0, patch: 0, run: 0, frame: -1};
const listeners = [];

// Calls refresh when one of these parts of the state changes.
function onChange(needs, refresh) {
  listeners.push({needs, refresh});
}

function change(update) {
  const changed = Object.keys(update).filter((key) => state[key] !== update[key]);
  Object.assign(state, update);
  for (const {needs, refresh} of listeners) {
    if (needs.some((key) => changed.includes(key))) refresh();
  }
}

// What a panel is about at the moment: run, block, image, noise, as far as it depends on them.
function whereText(needs) {
  const runs = needs.includes("run") ? [report.runs[state.run]] : report.runs;
  const parts = [];
  if (needs.includes("layer")) {
    parts.push(...runs.map((run) => `${run.label}, block ${layerOf(run, state.layer).layer}`));
  }
  if (needs.includes("image")) parts.push(`image ${report.runs[0].images[state.image].name}`);
  if (needs.includes("level")) parts.push(`noise ${report.runs[0].sigmas[state.level].toFixed(3)}`);
  return parts.join("; ");
}

// spec: {id, title, text, formula, needs, csv() -> rows}. Returns the element that takes the figures.
function addPanel(spec) {
  const body = html("div", {class: "body"});
  const where = html("p", {class: "where"});
  const panel = html("section", {class: "panel", id: spec.id, "aria-labelledby": spec.id + "-title"},
    html("div", {class: "tools"},
         html("button", {type: "button", class: "csv", "aria-label": "CSV of " + spec.title,
                         onclick: () => saveCsv(spec.id, spec.csv())}, "CSV"),
         html("button", {type: "button", class: "png", "aria-label": "PNG of " + spec.title,
                         onclick: async () => save(spec.id + ".png", await panelPicture(panel))},
              "PNG")),
    html("h2", {id: spec.id + "-title"}, spec.title),
    html("p", {}, spec.text),
    html("p", {class: "formula"}, spec.formula),
    where, body);
  panel.csvRows = spec.csv;
  document.getElementById("panels").append(panel);
  document.getElementById("contents").append(html("a", {href: "#" + spec.id}, spec.title));
  onChange(spec.needs, () => (where.textContent = whereText(spec.needs)));
  return body;
}

// Buttons that say which of two runs a panel shows; nothing where there is one.
function runChoice(id) {
  const runs = report.runs;
  if (runs.length < 2) return {node: html("span"), show: () => {}};
  return choice(id, "run", runs.map((run) => run.label), (run) => change({run}));
}

const kFocusKeys = ["data-cell", "data-sort", "data-image", "data-patch", "data-logit"];

// Does `work`, which may replace what is in `container`, and gives the focus back to what stands in
// the place of the element that had it.
function keepFocus(container, work) {
  const active = container.contains(document.activeElement) ? document.activeElement : null;
  const key = active && kFocusKeys.find((name) => active.hasAttribute(name));
  work();
  if (!key || container.contains(active)) return;
  const again = container.querySelector(`[${key}="${active.getAttribute(key)}"]`);
  if (again) again.focus();
}
