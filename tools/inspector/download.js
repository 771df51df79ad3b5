// Panels as files: CSV of their numbers, PNG of their figures.

function save(name, url) {
  const link = html("a", {href: url, download: name});
  document.body.append(link);
  link.click();
  link.remove();
}

// Rows of cells; RFC 4180.
function csvText(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function saveCsv(name, rows) {
  const url = URL.createObjectURL(new Blob([csvText(rows)], {type: "text/csv"}));
  save(name + ".csv", url);
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// A table as a drawing.
function drawTable(node) {
  const rows = Array.from(node.rows, (row) => Array.from(row.cells, (c) => c.innerText.trim()));
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({length: columns}, (_, i) =>
    20 + 7.5 * Math.max(...rows.map((row) => (row[i] || "").length)));
  const drawing = figure(widths.reduce((a, b) => a + b, 0) + 10, rows.length * 22 + 10, "table");
  rows.forEach((row, y) => {
    let x = 5;
    row.forEach((text, i) => {
      const left = i === 0;
      drawing.append(svg("text", {x: left ? x : x + widths[i] - 10, y: y * 22 + 20,
                                  "text-anchor": left ? "start" : "end"}, text));
      x += widths[i];
    });
  });
  return drawing;
}

const kDrawnStyles = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size",
                      "font-family", "font-weight", "text-anchor", "paint-order", "fill-opacity",
                      "image-rendering"];

// A copy that needs no style sheet.
function standalone(drawing) {
  const copy = drawing.cloneNode(true);
  const from = [drawing, ...drawing.querySelectorAll("*")];
  const to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const name of kDrawnStyles) to[i].style.setProperty(name, style.getPropertyValue(name));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return copy;
}

// All figures and tables of a panel, one below the other, as one picture of twice their size.
async function panelPicture(panel) {
  const stage = html("div", {style: "position:absolute;left:-9999px"});
  document.body.append(stage);
  const drawings = Array.from(panel.querySelectorAll("svg, table"), (node) => {
    if (node instanceof SVGElement) return standalone(node);
    const drawn = drawTable(node);
    stage.append(drawn);
    return standalone(drawn);
  });
  const pictures = await Promise.all(drawings.map(async (drawing) => {
    const picture = new Image();
    picture.src = "data:image/svg+xml;charset=utf-8," +
                  encodeURIComponent(new XMLSerializer().serializeToString(drawing));
    await picture.decode();
    return picture;
  }));
  stage.remove();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * Math.max(1, ...pictures.map((p) => p.width));
  canvas.height = 2 * pictures.reduce((sum, p) => sum + p.height + 10, 10);
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  let y = 10;
  for (const picture of pictures) {
    context.drawImage(picture, 0, y);
    y += picture.height + 10;
  }
  return canvas.toDataURL("image/png");
}
