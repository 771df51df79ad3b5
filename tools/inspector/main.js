// Controls and the start of it all.

let report = null;

function buildStrip() {
  const run = report.runs[0];
  const buttons = run.images.map((entry, i) => html("button", {
    type: "button", "data-image": i, title: `${entry.name}: ${run.class_names[entry.label]}`,
    "aria-label": `image ${entry.name}, ${run.class_names[entry.label]}`,
    onclick: () => change({image: i})}, html("img", {src: entry.picture, alt: ""})));
  const strip = html("div", {id: "strip", role: "group", "aria-label": "images"}, buttons);
  strip.addEventListener("keydown", (event) => {
    const to = walk(event.key, state.image, 1, buttons.length);
    if (to < 0) return;
    event.preventDefault();
    change({image: to});
    buttons[to].focus();
  });
  onChange(["image"], () => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", i === state.image);
      button.tabIndex = i === state.image ? 0 : -1;
    });
    const chosen = buttons[state.image];
    strip.scrollLeft = chosen.offsetLeft - strip.offsetLeft - strip.clientWidth / 2;
  });
  return strip;
}

function buildControls() {
  const run = report.runs.reduce((a, b) => (b.layers.length > a.layers.length ? b : a));
  const alike = report.runs.every((other) =>
    other.layers.map((l) => l.layer).join() === run.layers.map((l) => l.layer).join());
  const layers = choice("layer", "MoE layer",
    run.layers.map((layer, i) => (alike ? `block ${layer.layer}` : `MoE layer ${i + 1}`)),
    (layer) => change({layer}));
  const noise = slider("noise", "noise", run.sigmas.length, 0, (level) => change({level}),
                       (level) => run.sigmas[level].toFixed(3));
  const name = html("span", {id: "image-name"});
  document.getElementById("controls").append(buildStrip(), layers.node, noise.node, name);
  onChange(["layer", "level", "image"], () => {
    layers.show(state.layer);
    noise.show(state.level);
    const entry = report.runs[0].images[state.image];
    name.textContent = `image ${entry.name}: ${report.runs[0].class_names[entry.label]}`;
  });
}

function main() {
  report = readReport();
  document.getElementById("subject").textContent =
      report.runs.map((run) => `${run.label} (${run.provenance.recipe}, step ${run.provenance.step})`)
          .join(" and ") + `, on ${report.data} ${report.split}`;
  const warnings = [...report.warnings];
  for (const run of report.runs) {
    if (run.model.depends_on_neighbours) {
      warnings.push(`${run.label}: experts have a capacity in evaluation, so what is dropped depends ` +
                    "on the other images of a batch; here each image is alone, and what is missing in " +
                    "its routing group is filled up with black images, which take slots, too.");
    }
  }
  document.getElementById("warnings").append(...warnings.map((text) => html("li", {}, text)));
  buildControls();
  for (const build of [buildExperts, buildSideBySide, buildPairs, buildS, buildLoad, buildTables,
                       buildClasses, buildPlayground, buildProvenance]) {
    build();
  }
  for (const {refresh} of listeners) refresh();
}
