// Panel 7: which classes, and which parts, go to which expert.

const kFirstRows = 100;  // classes shown before "all" is asked for

function shareCell(n, sum, content, chosen) {
  const share = sum > 0 ? n / sum : 0;
  const text = percent(share, 1);
  return html("td", {class: "heat" + (chosen ? " chosen" : "") + onHeat(0.9 * share),
                     title: `${n} patches`,
                     style: `background:rgba(var(--heat), ${(0.9 * share).toFixed(3)})`},
              content ? content(text) : html("span", {}, text));
}

// One cell can be reached with Tab, the others with the arrow keys. Without `actions` cells and
// headings are only text.
function shareTable(id, names, counts, experts, order, actions) {
  const head = html("tr", {}, html("th", {scope: "col"}, actions
      ? html("button", {type: "button", "data-sort": -1, onclick: () => actions.sort(-1)}, "class")
      : "part"),
    html("th", {scope: "col"}, "patches"),
    Array.from({length: experts}, (_, e) => html("th", {scope: "col"}, actions
      ? html("button", {type: "button", "data-sort": e, onclick: () => actions.sort(e),
                        "aria-label": `sort by expert ${e}`}, `${e}`) : `${e}`)));
  const rows = order.map((c, place) => {
    const row = counts.slice(c * experts, (c + 1) * experts);
    const sum = row.reduce((a, b) => a + b, 0);
    return html("tr", {}, html("th", {scope: "row"}, names[c]), html("td", {}, sum),
      row.map((n, e) => shareCell(n, sum, actions && ((text) => html("button", {
        type: "button", "data-cell": `${c}-${e}`, "data-place": place * experts + e,
        tabindex: place === 0 && e === 0 ? 0 : -1, "aria-label": `${names[c]}, expert ${e}: ${text}`,
        onclick: () => actions.open(c, e)}, text)),
        actions && actions.chosen && actions.chosen.c === c && actions.chosen.e === e)));
  });
  const result = html("table", {id}, html("thead", {}, head), html("tbody", {}, rows));
  result.addEventListener("keydown", (event) => {
    const place = event.target.getAttribute("data-place");
    const to = place === null ? -1 : walk(event.key, Number(place), experts, order.length * experts);
    if (to < 0) return;
    event.preventDefault();
    result.querySelector(`[data-place="${to}"]`).focus();
  });
  return html("div", {class: "scroll"}, result);
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
                  html("figcaption", {class: "note"}, `${patches} of ${run.patches} patches`));
    }));
}

function shareOf(counts, experts, c, e) {
  const row = counts.slice(c * experts, (c + 1) * experts);
  return row[e] / (row.reduce((a, b) => a + b, 0) || 1);
}

// Choices of the panel that another run may not have are forgotten.
function fitChoices(choices, classes, experts) {
  if (choices.sorted >= experts) choices.sorted = -1;
  const {chosen} = choices;
  if (chosen && (chosen.e >= experts || chosen.c >= classes)) choices.chosen = null;
}

function drawClasses(run, layer, choices, refresh) {
  const n = layer.experts, classes = layer.class_expert.length / n;
  fitChoices(choices, classes, n);
  const {sorted, chosen, all} = choices;
  const order = Array.from({length: classes}, (_, c) => c);
  if (sorted >= 0) {
    const shares = order.map((c) => shareOf(layer.class_expert, n, c, sorted));
    order.sort((a, b) => shares[b] - shares[a]);
  }
  const set = (update) => {
    Object.assign(choices, update);
    refresh();
  };
  const shown = all ? order : order.slice(0, kFirstRows);
  const parts = [
    html("p", {id: "class-information"}, "What the class says about the first expert: " +
         `${layer.class_information.toFixed(4)} nats.`),
    shareTable("class-table", run.class_names, layer.class_expert, n, shown,
               {sort: (e) => set({sorted: e}), open: (c, e) => set({chosen: {c, e}}), chosen})];
  if (shown.length < classes) {
    parts.push(html("button", {type: "button", onclick: () => set({all: true})},
                    `all ${classes} classes`));
  }
  if (chosen) {
    parts.push(html("h3", {}, `${run.class_names[chosen.c]}, expert ${chosen.e}; all patches`),
               drawGallery(run, layerOf(run, state.layer), chosen.c, chosen.e));
  }
  if (layer.part_expert.length > 0) {
    parts.push(html("h3", {}, "Parts and experts"),
      html("p", {id: "part-information"}, "What the part says about the first expert: " +
           `${layer.part_information.toFixed(4)} nats.`),
      shareTable("part-table", ["background", "edge", "shape"], layer.part_expert, n, [0, 1, 2]));
  }
  return parts;
}

function buildClasses() {
  const needs = ["layer", "run"];
  const body = addPanel({
    id: "classes", title: "7 Classes and experts", needs,
    text: "The share of a class's patches, those of one colour left out, whose first expert is the " +
          "column's; choose a column to sort and a cell to see images of the class with the patches " +
          "that went there. Where the data set knows the parts of its images, a second table does the " +
          "same for background, edge and shape.",
    formula: "share(c, e) = patches of class c with first expert e / counted patches of class c; " +
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
  const choices = {sorted: -1, all: false, chosen: null};
  body.append(runs.node, stage);
  const refresh = () => {
    const run = report.runs[state.run];
    runs.show(state.run);
    keepFocus(stage, () => stage.replaceChildren(
        ...drawClasses(run, auditLayer(run, state.layer), choices, refresh)));
  };
  onChange(needs, refresh);
}
