// The frame that every panel has: a heading, two sentences, a formula, the figures, downloads.

const state = {image: 0, layer: 0, level: 0, patch: 0, run: 0, frame: -1};
const listeners = [];

function change(update) {
  Object.assign(state, update);
  for (const refresh of listeners) refresh();
}

// spec: {id, title, text, formula, csv() -> rows}. Returns the element that takes the figures.
function addPanel(spec) {
  const body = html("div", {class: "body"});
  const panel = html("section", {class: "panel", id: spec.id, "aria-labelledby": spec.id + "-title"},
    html("div", {class: "tools"},
         html("button", {type: "button", class: "csv", onclick: () => saveCsv(spec.id, spec.csv())},
              "CSV"),
         html("button", {type: "button", class: "png", onclick: async () =>
           save(spec.id + ".png", await panelPicture(panel))}, "PNG")),
    html("h2", {id: spec.id + "-title"}, spec.title),
    html("p", {}, spec.text),
    html("p", {class: "formula"}, spec.formula),
    body);
  panel.csvRows = spec.csv;
  document.getElementById("panels").append(panel);
  return body;
}

// Buttons that say which of two runs a panel shows; nothing where there is one.
function runChoice(id) {
  const runs = report.runs;
  if (runs.length < 2) return {node: html("span"), show: () => {}};
  return choice(id, runs.map((run) => run.label), (run) => change({run}));
}

function blockName(layer) {
  return `block ${layer.layer}`;
}
