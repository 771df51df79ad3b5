// Panels 1 and 2: experts on the image, under noise; two runs side by side.

// |change of the class logits| of a step beyond twice the median of all steps.
function jumpsOf(run, image) {
  const steps = run.curves[image].logit_steps;
  const median = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)];
  return steps.flatMap((step, i) => (step > 2 * median ? [i + 1] : []));
}

function probabilityChart(run) {
  const curve = run.curves[state.image];
  const shown = curve.classes.length;
  const lines = curve.classes.map((c, i) => ({
    name: run.class_names[c],
    values: run.sigmas.map((_, level) => curve.probabilities[level * shown + i]),
    colour: expertColour(i),
    dash: expertDash(i),
  }));
  return [lineChart({x: run.sigmas, lines, low: 0, high: 1, xLabel: "standard deviation of the noise",
                     yLabel: "probability", cursor: run.sigmas[state.level],
                     jumps: jumpsOf(run, state.image).map((level) => run.sigmas[level])}),
          legend(lines)];
}

// Patches that changed since no noise, and changes of all steps so far.
function flipCounts(run) {
  const layer = layerOf(run, state.layer);
  let walked = 0;
  return run.sigmas.map((_, level) => {
    if (level > 0) walked += countFlips(run, layer, state.image, level - 1, level);
    return {flipped: countFlips(run, layer, state.image, 0, level), walked};
  });
}

function flipText(run) {
  const {flipped, walked} = flipCounts(run)[state.level];
  const curve = run.curves[state.image];
  const predicted = run.class_names[curve.predictions[state.level]];
  return `${flipped} of ${run.patches} patches have another first expert than without noise; ` +
         `${walked} changes on the way. Taken for: ${predicted}.`;
}

function routeRows(runs) {
  const rows = [["run", "image", "block", "sigma", "patch", "first_expert", "weight_first",
                 "second_expert", "weight_second", "dropped", "flipped"]];
  for (const run of runs) {
    const layer = layerOf(run, state.layer);
    for (let level = 0; level < run.sigmas.length; ++level) {
      for (let p = 0; p < run.patches; ++p) {
        const r = routeOf(run, layer, level, state.image, p);
        const was = routeOf(run, layer, 0, state.image, p);
        rows.push([run.label, run.images[state.image].index, layer.layer, run.sigmas[level], p,
                   r.first, r.weightFirst, r.second, r.weightSecond, Number(r.dropped),
                   Number(r.first !== was.first)]);
      }
    }
  }
  return rows;
}

function buildExperts() {
  const needs = ["image", "layer", "level", "run"];
  const body = addPanel({
    id: "experts", title: "1 Experts on the image", needs,
    text: "Each patch has the colour and number of the expert that its router ranks first; point at " +
          "it or walk with the arrow keys to see the second and both weights, and move the noise " +
          "slider to see where choices flip (framed). A patch whose first choice found no slot is " +
          "hollow, and triangles on the curves mark steps in which the output jumps.",
    formula: "weights = softmax(W x) of the patch's token x; noise: pixel + sigma z with one z for all " +
             "levels; jump: |change of the class logits| of a step above twice its median",
    csv: () => routeRows([report.runs[state.run]]),
  });
  const runs = runChoice("experts-run");
  const readout = html("p", {class: "readout", id: "experts-readout", "aria-live": "polite"});
  const flips = html("p", {id: "experts-flips"});
  const grids = report.runs.map((run, r) => new PatchGrid(run, `grid-${r}`, (p) => {
    state.patch = p;
    show();
  }));
  const stage = html("div"), curves = html("div");
  body.append(runs.node, html("div", {class: "row"}, stage, html("div", {class: "rest"}, flips, readout, curves)));
  const show = () => {
    const run = report.runs[state.run], layer = layerOf(run, state.layer);
    const p = Math.min(state.patch, run.patches - 1);
    readout.textContent = describeRoute(run, layer, p,
                                        routeOf(run, layer, state.level, state.image, p),
                                        routeOf(run, layer, 0, state.image, p));
  };
  onChange(needs, () => {
    const run = report.runs[state.run];
    if (stage.firstChild !== grids[state.run].node) stage.replaceChildren(grids[state.run].node);
    runs.show(state.run);
    grids[state.run].update();
    flips.textContent = flipText(run);
    curves.replaceChildren(...probabilityChart(run));
    show();
  });
}

function buildSideBySide() {
  if (report.runs.length < 2) return;
  const needs = ["image", "layer", "level"];
  const body = addPanel({
    id: "sides", title: "2 Two runs side by side", needs,
    text: "The same image under the same noise in both runs, with one slider for both. Fewer frames " +
          "and a flatter line mean that small changes of a picture change fewer experts.",
    formula: "flips(level) = number of patches p with argmax gates_p(level) not equal to argmax gates_p(0)",
    csv: () => routeRows(report.runs),
  });
  const grids = report.runs.map((run, r) => new PatchGrid(run, `side-${r}`, (p) => {
    state.patch = p;
  }));
  const texts = report.runs.map((_, r) => html("p", {id: `side-flips-${r}`}));
  const chart = html("div");
  body.append(html("div", {class: "row"}, report.runs.map((run, r) =>
                   html("div", {class: "side"}, html("h3", {}, run.label), grids[r].node, texts[r]))), chart);
  onChange(needs, () => {
    grids.forEach((grid) => grid.update());
    texts.forEach((text, r) => (text.textContent = flipText(report.runs[r])));
    const lines = report.runs.map((run, r) => ({
      name: run.label, values: flipCounts(run).map((c) => c.flipped / run.patches),
      colour: expertColour(r), dash: expertDash(8 * r)}));
    const sigmas = report.runs[0].sigmas;
    chart.replaceChildren(lineChart({x: sigmas, lines, low: 0, xLabel: "standard deviation of the noise",
                                     yLabel: "share of patches flipped",
                                     cursor: sigmas[state.level]}), legend(lines));
  });
}
