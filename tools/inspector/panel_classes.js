// Panel 7: which classes, and which parts, go to which expert.

const kFirstRows = 100;  // classes shown before "all" is asked for

function shareTable(id, rowNames, counts, experts, order, sort, open, chosen) {
  const heat = getComputedStyle(document.documentElement).getPropertyValue("--heat");
  const head = html("tr", {}, html("th", {scope: "col"}, html("button", {type: "button",
                    onclick: () => sort(-1)}, id === "class-table" ? "class" : "part")),
    Array.from({length: experts}, (_, e) => html("th", {scope: "col"},
      html("button", {type: "button", "data-sort": e, onclick: () => sort(e),
                      "aria-label": `sort by expert ${e}`}, `${e}`))));
  const rows = order.map((c) => {
    const row = counts.slice(c * experts, (c + 1) * experts);
    const sum = row.reduce((a, b) => a + b, 0);
    return html("tr", {}, html("th", {scope: "row"}, rowNames[c]), row.map((n, e) => {
      const share = sum > 0 ? n / sum : 0;
      return html("td", {class: "heat" + (chosen && chosen.c === c && chosen.e === e ? " chosen" : ""),
                         style: `background:rgba(${heat}, ${(0.9 * share).toFixed(3)})`},
        html("button", {type: "button", "data-cell": `${c}-${e}`, title: `${n} patches`,
                        onclick: () => open(c, e)}, percent(share, 1)));
    }));
  });
  return html("table", {id}, html("thead", {}, head), html("tbody", {}, rows));
}

// Images of a class on this page, those first that send most patches to the expert.
function imagesOf(run, layer, c, e) {
  return run.images.map((entry, image) => {
    let patches = 0;
    for (let p = 0; p < run.patches; ++p) patches += routeOf(run, layer, 0, image, p).first === e;
    return {entry, image, patches};
  }).filter((found) => found.entry.label === c).sort((a, b) => b.patches - a.patches);
}

function drawGallery(run, layer, c, e) {
  const found = imagesOf(run, layer, c, e), cell = 112 / run.grid;
  return html("div", {class: "gallery", id: "class-images"},
    found.length === 0 ? html("p", {class: "note"}, "None of this page's images is of this class.") : null,
    found.map(({entry, image, patches}) => {
      const drawing = figure(112, 112, entry.name,
        svg("image", {href: entry.picture, width: 112, height: 112, preserveAspectRatio: "none",
                      "image-rendering": "pixelated"}));
      for (let p = 0; p < run.patches; ++p) {
        if (routeOf(run, layer, 0, image, p).first !== e) continue;
        drawing.append(svg("rect", {x: p % run.grid * cell, y: Math.floor(p / run.grid) * cell,
          width: cell, height: cell, style: `fill:${expertColour(e)};fill-opacity:0.6`}));
      }
      return html("figure", {style: "margin:0"}, html("button", {type: "button", "data-image": image,
                  onclick: () => change({image}), title: entry.name}, drawing),
                  html("figcaption", {class: "note"}, `${patches} patches`));
    }));
}

function buildClasses() {
  const body = addPanel({
    id: "classes", title: "7 Classes and experts",
    text: "The share of a class's patches whose first expert is the column's; choose a column to sort " +
          "and a cell to see images of the class with the patches that went there. Where the data set " +
          "knows the parts of its images, a second table does the same for background, edge and shape.",
    formula: "share(c, e) = patches of class c with first expert e / patches of class c; " +
             "I = sum p(c, e) ln(p(c, e) / (p(c) p(e)))",
    csv: () => {
      const run = report.runs[state.run], layer = auditLayer(run, state.layer), n = layer.experts;
      const rows = [["run", "block", "kind", "name", "expert", "patches"]];
      const add = (kind, names, counts) => counts.forEach((count, i) =>
        rows.push([run.label, layer.layer, kind, names[Math.floor(i / n)], i % n, count]));
      add("class", run.class_names, layer.class_expert);
      add("part", ["background", "edge", "shape"], layer.part_expert);
      return rows;
    },
  });
  const runs = runChoice("classes-run"), stage = html("div");
  let sorted = -1, all = false, chosen = null;
  body.append(runs.node, stage);
  const refresh = () => {
    const run = report.runs[state.run], layer = auditLayer(run, state.layer), n = layer.experts;
    const classes = layer.class_expert.length / n;
    const share = (c, e) => layer.class_expert[c * n + e] /
      (layer.class_expert.slice(c * n, (c + 1) * n).reduce((a, b) => a + b, 0) || 1);
    const order = Array.from({length: classes}, (_, c) => c);
    if (sorted >= 0) order.sort((a, b) => share(b, sorted) - share(a, sorted));
    const sort = (e) => {
      sorted = e;
      refresh();
    };
    const open = (c, e) => {
      chosen = {c, e};
      refresh();
    };
    runs.show(state.run);
    const shown = all ? order : order.slice(0, kFirstRows);
    stage.replaceChildren(
      html("p", {id: "class-information"}, "What the class says about the first expert: " +
           `${layer.class_information.toFixed(4)} nats.`),
      shareTable("class-table", run.class_names, layer.class_expert, n, shown, sort, open, chosen));
    if (shown.length < classes) {
      stage.append(html("button", {type: "button", onclick: () => {
        all = true;
        refresh();
      }}, `all ${classes} classes`));
    }
    if (chosen) {
      stage.append(html("h3", {}, `${run.class_names[chosen.c]}, expert ${chosen.e}`),
                   drawGallery(run, layerOf(run, state.layer), chosen.c, chosen.e));
    }
    if (layer.part_expert.length > 0) {
      stage.append(html("h3", {}, "Parts and experts"),
        html("p", {id: "part-information"}, "What the part says about the first expert: " +
             `${layer.part_information.toFixed(4)} nats.`),
        shareTable("part-table", ["background", "edge", "shape"], layer.part_expert, n, [0, 1, 2],
                   () => {}, () => {}, null));
    }
  };
  listeners.push(refresh);
}
