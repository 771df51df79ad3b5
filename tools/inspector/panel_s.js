// Panel 4: PRC's matrix S through training.

function termsOf(s, n) {
  let diagonal = 0, off = 0;
  for (let i = 0; i < n; ++i) {
    for (let j = 0; j < n; ++j) {
      if (i === j) {
        diagonal += (1 - s[i * n + j]) ** 2 / n;
      } else {
        off += s[i * n + j] ** 2 / (n * (n - 1));
      }
    }
  }
  return {diagonal, off};
}

// The frames of a run that have S of a layer.
function framesOf(run, layer) {
  return run.history.s.filter((line) => Array.isArray(line[`block_${layer.layer}_s`]))
      .map((line) => ({step: line.step, s: line[`block_${layer.layer}_s`]}));
}

function drawFrames(run, layer, frames, at) {
  const terms = frames.map((frame) => termsOf(frame.s, layer.experts));
  const x = frames.map((frame) => frame.step);
  const lines = [{name: "diagonal term", values: terms.map((t) => t.diagonal), colour: "#0072b2"},
                 {name: "off-diagonal term", values: terms.map((t) => t.off), colour: "#d55e00",
                  dash: "7 3"}];
  return [lineChart({x, lines, low: 0, xLabel: "step", yLabel: "terms",
                     cursor: x[at]}), legend(lines)];
}

function buildS() {
  const needs = ["layer", "run", "frame"];
  const body = addPanel({
    id: "s-matrix", title: "4 The matrix S through training", needs,
    text: "S is what Pairwise Router Consistency shapes: its diagonal says how much probability " +
          "corresponding patches give the same expert, all else how much they give different ones. Move " +
          "the slider through training and compare with the identity, at which that loss aims.",
    formula: "diagonal term = sum_i (1 - S_ii)^2 / E; off-diagonal term = sum_(i != j) S_ij^2 / (E (E - 1))",
    csv: () => {
      const run = report.runs[state.run], layer = layerOf(run, state.layer), n = layer.experts;
      const rows = [["run", "block", "step", "row", "column", "s"]];
      const add = (step, s) => s.forEach((value, i) =>
        rows.push([run.label, layer.layer, step, Math.floor(i / n), i % n, value]));
      for (const frame of framesOf(run, layer)) add(frame.step, frame.s);
      add("audit", auditLayer(run, state.layer).s);
      return rows;
    },
  });
  const runs = runChoice("s-run"), stage = html("div", {class: "row"}), chart = html("div");
  const text = html("p", {id: "s-readout"});
  const input = html("input", {id: "s-frame", type: "range", min: 0, max: 0, step: 1});
  input.addEventListener("input", () => change({frame: Number(input.value)}));
  body.append(runs.node, html("label", {class: "field"}, "step of training", input), text, stage,
              chart);
  onChange(needs, () => {
    const run = report.runs[state.run], layer = layerOf(run, state.layer), n = layer.experts;
    const frames = framesOf(run, layer), last = frames.length - 1;
    const at = state.frame < 0 ? last : Math.min(state.frame, last);
    const audit = auditLayer(run, state.layer).s;
    runs.show(state.run);
    input.max = Math.max(0, last);
    input.value = Math.max(0, at);
    input.disabled = last < 1;
    input.setAttribute("aria-valuetext", last >= 0 ? `step ${frames[at].step}` : "none");
    const most = largestOf([...audit, ...(last >= 0 ? frames[at].s : [])], 1);
    const show = (name, s) => html("div", {}, html("h3", {}, name), heatMap(s, n, most, name));
    stage.replaceChildren(
        ...(last >= 0 ? [show(`step ${frames[at].step}`, frames[at].s)] : []),
        show("audit", audit),
        show("the aim", Array.from({length: n * n}, (_, i) => (i % (n + 1) === 0 ? 1 : 0))));
    const {diagonal, off} = termsOf(last >= 0 ? frames[at].s : audit, n);
    text.textContent = (last >= 0 ? `Step ${frames[at].step}: `
      : "The run kept no S of its training (one view an image, or log.s_matrices = 0). Audit: ") +
      `diagonal term ${diagonal.toFixed(4)}, off-diagonal term ${off.toFixed(4)}; both are 0 for the ` +
      `identity. The darkest shade is ${most.toFixed(2)}.` +
      (/^form = "(paper|fork)"/m.test(run.provenance.config) ? ""
        : " This run was not trained with PRC's loss: S is shown for comparison.");
    chart.replaceChildren(...(last >= 1 ? drawFrames(run, layer, frames, at) : []));
  });
}
