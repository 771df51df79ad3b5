// Panel 5: load over training.

const kStarved = 0.1, kOverloaded = 2;  // in fair shares

// Events of this layer or of none, in their order; the same one again and again is one.
function eventsOf(run, layer) {
  const events = run.history.event
    .filter((e) => !/block \d+/.test(e.text) || e.text.includes(`block ${layer.layer}:`))
    .map((e) => ({x: e.step, name: `${e.event} ${e.text}` +
                                   (e.times > 1 ? ` (${e.times} times, until step ${e.last_step})` : "")}));
  const rates = run.history.train.learning_rate || [], steps = run.history.train.step || [];
  const peak = rates.indexOf(largestOf(rates));
  if (peak > 0) events.push({x: steps[peak], name: "largest learning rate"});
  return events.sort((a, b) => a.x - b.x);
}

function loadLines(run, layer) {
  const loads = run.history.train[`block_${layer.layer}_load`] || [];
  return Array.from({length: layer.experts}, (_, e) => ({
    name: `expert ${e}`,
    values: loads.map((load) => (Array.isArray(load) ? load[e] : null)),
    mark: String(e), colour: expertColour(e), dash: expertDash(e)}));
}

function loadCharts(run, layer) {
  const history = run.history.train, x = history.step || [], fair = 1 / layer.experts;
  const lines = loadLines(run, layer), events = eventsOf(run, layer), key = `block_${layer.layer}_`;
  const most = largestOf(lines.flatMap((line) => line.values), 2.2 * fair);
  const share = lineChart({x, lines, low: 0, high: most, width: 760, height: 320, xLabel: "step",
    yLabel: "share of served choices", events, levels: [{value: fair, name: "fair share"}],
    bands: [{low: 0, high: kStarved * fair, name: "dead or starved"},
            {low: kOverloaded * fair, high: most, name: "overloaded"}]});
  const single = (name, column, options) => lineChart({
    x, lines: [{name, values: history[key + column] || [], colour: "#0072b2"}], low: 0, width: 370,
    height: 200, xLabel: "step", yLabel: name, events, ...options});
  return html("div", {}, share, legend(lines), html("div", {class: "row"},
    single("effective experts", "effective_experts", {high: layer.experts}),
    single("dropped share", "dropped_share",
           {high: largestOf(history[key + "dropped_share"] || [], 0.01)}),
    single("dead experts", "dead", {high: largestOf(history[key + "dead"] || [], 1)})));
}

function buildLoad() {
  const needs = ["layer", "run"];
  const body = addPanel({
    id: "load", title: "5 Load over training", needs,
    text: "The share of tokens that each expert served; the dotted line is the fair share 1/E, and " +
          "shaded bands are experts below a tenth of it (starved, at 0 dead) and above twice it " +
          "(overloaded). Dashed vertical lines mark events: a resumed run, warnings of the router " +
          "watch, the largest learning rate.",
    formula: "load_e = served choices of expert e / all served choices; effective experts = " +
             "exp(-sum_e load_e ln load_e)",
    csv: () => {
      const run = report.runs[state.run], layer = layerOf(run, state.layer);
      const lines = loadLines(run, layer), history = run.history.train;
      const rows = [["run", "block", "step", ...lines.map((line) => line.name.replace(" ", "_")),
                     "effective_experts", "dropped_share", "dead"]];
      (history.step || []).forEach((step, i) => rows.push(
          [run.label, layer.layer, step, ...lines.map((line) => line.values[i]),
           ...["effective_experts", "dropped_share", "dead"].map(
               (name) => (history[`block_${layer.layer}_${name}`] || [])[i])]));
      return rows;
    },
  });
  const runs = runChoice("load-run"), stage = html("div"), events = html("ul", {id: "load-events"});
  const text = html("p", {id: "load-readout"});
  body.append(runs.node, text, stage, events);
  onChange(needs, () => {
    const run = report.runs[state.run], layer = layerOf(run, state.layer);
    runs.show(state.run);
    const loads = (run.history.train[`block_${layer.layer}_load`] || []).filter(Array.isArray);
    text.textContent = loads.length === 0
      ? "The run has no history of its load."
      : `${run.history.shown_lines} of ${run.history.lines} lines of the log. At the end: busiest ` +
        `${(Math.max(...loads.at(-1)) * layer.experts).toFixed(2)}, emptiest ` +
        `${(Math.min(...loads.at(-1)) * layer.experts).toFixed(2)} fair shares.`;
    stage.replaceChildren(...(loads.length === 0 ? [] : [loadCharts(run, layer)]));
    events.replaceChildren(...eventsOf(run, layer).map((e) => html("li", {}, `step ${e.x}: ${e.name}`)));
  });
}
