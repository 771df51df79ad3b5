// Panel 3: corresponding patches of two views.

function pairsOf(run) {
  const pairs = [];
  for (let p = 0; p < run.patches; ++p) {
    const q = run.match[state.image * run.patches + p];
    if (q < 0) continue;
    const at = state.image * 2 * run.patches;
    pairs.push({p, q, flat: run.flat[at + p] !== 0 || run.flat[at + run.patches + q] !== 0});
  }
  return pairs;
}

function largest(vector) {
  return vector.indexOf(Math.max(...vector));
}

// Whether both patches have the same first expert.
function agrees(run, layer, pair) {
  return largest(viewVector(run, layer, state.image, 0, pair.p)) ===
         largest(viewVector(run, layer, state.image, 1, pair.q));
}

function pairColour(run, layer, pair) {
  return agrees(run, layer, pair) ? "#0072b2" : "#e69f00";
}

// The next pair in the direction of an arrow key: patches without a partner are passed over.
function walkPairs(key, pair, pairs, grid) {
  for (let at = pair.p;;) {
    at = walk(key, at, grid, grid * grid);
    if (at < 0) return null;
    const found = pairs.find((other) => other.p === at);
    if (found) return found;
  }
}

function drawPairs(run, layer, pairs, chosen, choose) {
  const cell = Math.max(16, Math.min(100, Math.floor(400 / run.grid))), side = cell * run.grid;
  const gap = 120, drawing = figure(2 * side + gap, side, "corresponding patches of two views");
  drawing.setAttribute("role", "group");
  const place = (patch, view) => ({x: (patch % run.grid + 0.5) * cell + view * (side + gap),
                                   y: (Math.floor(patch / run.grid) + 0.5) * cell});
  run.images[state.image].views.forEach((uri, view) => drawing.append(
      svg("image", {href: uri, x: view * (side + gap), y: 0, width: side, height: side,
                    preserveAspectRatio: "none", "image-rendering": "pixelated"})));
  // Bent by column: lines of one row would lie on each other where the views are alike.
  for (const pair of pairs) {
    const a = place(pair.p, 0), b = place(pair.q, 1);
    const top = (a.y + b.y) / 2 - 7 * (1 + pair.p % run.grid);
    drawing.append(svg("path", {
      d: `M${a.x},${a.y}Q${(a.x + b.x) / 2},${top} ${b.x},${b.y}`, "data-pair": pair.p, fill: "none",
      style: `stroke:${pairColour(run, layer, pair)};stroke-width:${pair === chosen ? 5 : 1.5};` +
             `stroke-dasharray:${agrees(run, layer, pair) ? "none" : "5 4"};` +
             `opacity:${pair.flat ? 0.25 : 0.9}`}));
  }
  for (const pair of pairs) {
    const a = place(pair.p, 0);
    const dot = svg("circle", {cx: a.x, cy: a.y, r: 7, role: "button",
                               style: `fill:${pairColour(run, layer, pair)};stroke:#fff;stroke-width:2`,
                               tabindex: pair === chosen ? 0 : -1, "data-patch": pair.p,
                               "aria-pressed": pair === chosen ? "true" : "false",
                               "aria-label": `patch ${pair.p} shows what patch ${pair.q} of view 2 ` +
                                 `does, ${agrees(run, layer, pair) ? "same" : "another"} first expert`});
    dot.addEventListener("click", () => choose(pair));
    dot.addEventListener("keydown", (event) => {
      if (event.key === " " || event.key === "Enter") {
        event.preventDefault();
        choose(pair);
      }
      const to = walkPairs(event.key, pair, pairs, run.grid);
      if (!to) return;
      event.preventDefault();
      choose(to);
    });
    drawing.append(dot);
  }
  for (const [view, patch] of chosen ? [[0, chosen.p], [1, chosen.q]] : []) {
    const at = place(patch, view);
    drawing.append(svg("rect", {class: "selected", x: at.x - cell / 2, y: at.y - cell / 2,
                                width: cell, height: cell, "pointer-events": "none"}));
  }
  return drawing;
}

function drawVectors(run, layer, pair) {
  const r1 = viewVector(run, layer, state.image, 0, pair.p);
  const r2 = viewVector(run, layer, state.image, 1, pair.q);
  const names = r1.map((_, e) => String(e));
  const outer = r1.flatMap((a) => r2.map((b) => a * b));
  const trace = r1.reduce((sum, a, e) => sum + a * r2[e], 0);
  return html("div", {class: "row"},
    html("div", {},
         html("h3", {}, "Router vectors"),
         barChart(names, [{name: "view 1", values: r1, colour: () => "#0072b2"},
                          {name: "view 2", values: r2, colour: () => "#e69f00"}],
                  {width: 480, high: 1, xLabel: "expert (left bar view 1, right bar view 2)",
                   yLabel: "probability"})),
    html("div", {}, html("h3", {}, "Outer product r1 r2^T"),
         heatMap(outer, layer.experts, largestOf(outer), "outer product"),
         html("p", {class: "note", id: "pairs-readout"},
              `patch ${pair.p} of view 1 and ${pair.q} of view 2: first experts ${largest(r1)} and ` +
              `${largest(r2)}, sum of the diagonal ${trace.toFixed(4)}` +
              (pair.flat ? "; of one colour, so audits leave it out" : ""))));
}

function buildPairs() {
  const needs = ["image", "layer", "run"];
  const body = addPanel({
    id: "pairs", title: "3 Corresponding patches of two views", needs,
    text: "Two augmented views of the image, with a line between patches that show the same place: " +
          "solid where both choose the same first expert, dashed where not. Choose a patch to see the " +
          "two router vectors and the outer product, whose mean over all pairs, times E, is S.",
    formula: "r = softmax(router logits) without noise; S = (E / N) sum over pairs of r1 r2^T",
    csv: () => {
      const run = report.runs[state.run], layer = layerOf(run, state.layer);
      const rows = [["run", "image", "block", "patch_1", "patch_2", "one_colour", "view", "expert",
                     "probability"]];
      for (const {p, q, flat} of pairsOf(run)) {
        [p, q].forEach((patch, view) =>
          viewVector(run, layer, state.image, view, patch).forEach((value, e) =>
            rows.push([run.label, run.images[state.image].index, layer.layer, p, q, Number(flat),
                       view + 1, e, value])));
      }
      return rows;
    },
  });
  const runs = runChoice("pairs-run"), stage = html("div"), vectors = html("div");
  const count = html("p", {id: "pairs-count"});
  body.append(runs.node, count, stage, vectors);
  let chosenPatch = -1;
  const refresh = () => {
    const run = report.runs[state.run], layer = layerOf(run, state.layer), pairs = pairsOf(run);
    const counted = pairs.filter((pair) => !pair.flat);
    const same = counted.filter((pair) => agrees(run, layer, pair)).length;
    const chosen = pairs.find((pair) => pair.p === chosenPatch) || pairs[0];
    const choose = (pair) => {
      chosenPatch = pair.p;
      refresh();
      stage.querySelector(`circle[data-patch="${pair.p}"]`).focus();
    };
    runs.show(state.run);
    count.textContent = `${same} of ${counted.length} pairs of this image agree on the first expert.`;
    stage.replaceChildren(drawPairs(run, layer, pairs, chosen, choose));
    vectors.replaceChildren(...(chosen ? [drawVectors(run, layer, chosen)] : []));
  };
  onChange(needs, refresh);
}
