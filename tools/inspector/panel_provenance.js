// Panel 9: where all this comes from.

function provenanceRows(run) {
  const from = run.provenance, audit = run.audit;
  const data = Object.entries(from.training_data).map(([key, value]) => `${key} ${JSON.stringify(value)}`);
  return [
    ["run", run.label], ["recipe", from.recipe], ["checkpoint", from.checkpoint],
    ["finished steps", from.step], ["epoch", from.epoch], ["seed of the training", from.seed],
    ["hash of the config", from.config_hash], ["parameters", from.parameters],
    ["precision", from.precision], ["training data", data.join(", ")],
    ["data shown here", `${report.data} ${report.split}`],
    ["images shown here", run.images.length], ["seed of views and noise", report.seed],
    ["audit", `${audit.n_images} images of ${audit.data} ${audit.split}, seed ${audit.seed}`],
    ["weights", audit.weights === "ema" ? "averaged" : "last"],
    ["checksum of the weights' file (CRC-32)", audit.model_crc32 || "not known"],
    ["program version", from.program_version],
  ];
}

function curveCharts(run) {
  const history = run.history.train, x = history.step || [];
  if (x.length === 0) return html("p", {class: "note"}, "The run has no history of its training.");
  const evals = run.history.eval;
  const chart = (yLabel, lines, options) => html("div", {},
    lineChart({x, lines, low: 0, width: 370, height: 210, xLabel: "step", yLabel, ...options}),
    legend(lines, 2));
  const train = (key, name, colour, dash) =>
    ({name, values: history[key] || [], colour, dash});
  return html("div", {class: "row"},
    chart("loss", [train("loss", "loss", "#0072b2"), train("cross_entropy", "cross-entropy", "#e69f00", "7 3"),
                   train("prc", "PRC", "#d55e00", "2 3")]),
    chart("accuracy", [train("accuracy", "training views", "#0072b2"),
                       {name: "test", values: evals.map((line) => line.accuracy), colour: "#d55e00",
                        x: evals.map((line) => line.step)}], {high: 1}),
    chart("learning rate", [train("learning_rate", "learning rate", "#0072b2")]));
}

function buildProvenance() {
  const body = addPanel({
    id: "provenance", title: "9 Provenance", needs: [],
    text: "What was trained how, with which data, seeds and version of the program. The ledger lists the " +
          "settings in which the paper and its published code differ, and which of them this run took.",
    formula: "the same run, data and options give the same bytes of this page",
    csv: () => report.runs.flatMap((run) => [
      ...provenanceRows(run).map((row) => [run.label, ...row]),
      ...run.provenance.ledger.map((row) => [run.label, row.key, row.value, row.paper, row.code, row.note])]),
  });
  report.runs.forEach((run, r) => {
    body.append(
      html("h3", {}, run.label),
      table(["what", "value"], provenanceRows(run),
            {id: `provenance-table-${r}`, class: "text"}),
      html("h3", {}, "Training"), curveCharts(run),
      html("details", {}, html("summary", {}, "Ledger: paper, published code, this run"),
        table(["setting", "this run", "paper", "code", "where"], run.provenance.ledger.map((row) =>
          [row.key, row.value, row.paper, row.code, row.note]))),
      html("details", {}, html("summary", {}, "config.toml"),
        html("pre", {}, run.provenance.config)));
  });
}
