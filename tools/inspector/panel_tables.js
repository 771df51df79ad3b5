// Panel 6: the paper's tables 4 and 5, and margins.

const kMatchRows = [
  ["same first expert", "match_top1", true], ["by chance", "match_top1_chance", true],
  ["same first and second", "match_top2", true],
  ["the same two in any order", "match_top2_any_order", true],
  ["mutual information, nats", "mutual_information", false],
  ["effective experts", "effective_experts", false],
  ["mean probability, first", "confidence_first", false],
  ["mean probability, second", "confidence_second", false],
  ["mean probability, all others", "confidence_rest", false], ["margin, first - second", "margin_mean", false],
  ["S, mean of the diagonal", "s_diagonal_mean", false],
  ["S, mean off the diagonal", "s_offdiagonal_mean", false], ["dropped", "dropped_share", true],
];

function figureText(layer, key, share) {
  const value = layer[key];
  if (!Number.isFinite(value)) return "";
  const error = layer[key + "_se"];
  if (!share) return value.toFixed(4);
  return percent(value) + (Number.isFinite(error) ? ` ± ${(100 * error).toFixed(2)}` : "");
}

function buildTables() {
  const columns = report.runs.flatMap((run) => run.audit.layers.map((layer) => ({run, layer})));
  const head = ["", ...columns.map(({run, layer}) => `${run.label}, block ${layer.layer}`)];
  const body = addPanel({
    id: "tables", title: "6 Consistency and confidence", needs: ["layer"],
    text: "How often corresponding patches of two views choose the same experts (the paper's table 4) " +
          "and how sure routers are (table 5); shares with their standard error over images, patches of " +
          "one colour left out. Raw matching " +
          "also rises when a router collapses, so compare it with chance, and read the mutual " +
          "information beside the effective experts.",
    formula: "chance = sum_e p_e p'_e; I = sum_ij p_ij ln(p_ij / (p_i p'_j)); margin = first - second " +
             "probability",
    csv: () => [["run", "block", "figure", "value", "standard_error"],
                ...columns.flatMap(({run, layer}) => [
                  ...kMatchRows.map(([, key]) =>
                    [run.label, layer.layer, key, layer[key], layer[key + "_se"]]),
                  ...layer.margin_histogram.map((n, i) =>
                    [run.label, layer.layer, `margins_from_${i / layer.margin_histogram.length}`, n])])],
  });
  const grid = table(head, kMatchRows.map(([name, key, share]) =>
    [name, ...columns.map(({layer}) => figureText(layer, key, share))]), {id: "audit-table"});
  const facts = report.runs.map((run) => html("p", {class: "note"},
    `${run.label}: ${run.audit.n_images} images of ${run.audit.split}, ` +
    `${run.audit.layers[0].n_pairs} pairs of patches, accuracy ${percent(run.audit.accuracy)} ± ` +
    `${(100 * run.audit.accuracy_se).toFixed(2)}`));
  const stage = html("div");
  body.append(grid, ...facts, html("h3", {}, "Margins"), stage);
  onChange(["layer"], () => {
    const series = report.runs.map((run, r) => {
      const counts = auditLayer(run, state.layer).margin_histogram;
      const sum = counts.reduce((a, b) => a + b, 0) || 1;
      return {name: run.label, values: counts.map((n) => n / sum), colour: () => expertColour(r)};
    });
    const bins = series[0].values.length;
    stage.replaceChildren(
      barChart(Array.from({length: bins}, (_, i) => (i / bins).toFixed(2)), series,
               {width: 900, xLabel: "margin, from", yLabel: "share of tokens"}),
      ...(report.runs.length > 1
        ? [legend(series.map((s, r) => ({name: s.name, colour: expertColour(r)})))] : []));
  });
}
