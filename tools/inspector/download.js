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

function cellText(cell) {
  const input = cell.querySelector("input");
  return (input ? input.value : cell.innerText).trim();
}

// A table as a drawing, with the colours of its cells.
function drawTable(node) {
  const rows = Array.from(node.rows, (row) => Array.from(row.cells));
  const columns = largestOf(rows.map((row) => row.length), 0);
  const widths = Array.from({length: columns}, (_, i) =>
    20 + 7.5 * largestOf(rows.map((row) => (row[i] ? cellText(row[i]).length : 0)), 1));
  const drawing = figure(widths.reduce((a, b) => a + b, 0) + 10, rows.length * 22 + 10, "table");
  const textual = node.classList.contains("text");
  rows.forEach((row, y) => {
    let x = 5;
    row.forEach((cell, i) => {
      const left = i === 0 || textual, colour = getComputedStyle(cell);
      if (cell.classList.contains("heat")) {
        drawing.append(svg("rect", {x, y: y * 22 + 4, width: widths[i], height: 22,
                                    style: `fill:${colour.backgroundColor}`}));
      }
      drawing.append(svg("text", {x: left ? x : x + widths[i] - 10, y: y * 22 + 20,
                                  "text-anchor": left ? "start" : "end",
                                  style: `fill:${colour.color}`}, cellText(cell)));
      x += widths[i];
    });
  });
  return drawing;
}

// A line of text as a drawing.
function drawText(text, size) {
  return figure(Math.max(60, 20 + text.length * size * 0.6), size + 12, "text",
                svg("text", {x: 0, y: size + 4, style: `font-size:${size}px;font-weight:600`}, text));
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
  const shown = Array.from(panel.querySelectorAll("h2, h3, .where, .readout, svg, table"))
      .filter((node) => !node.closest("details:not([open])"));
  const drawings = shown.map((node) => {
    if (node instanceof SVGElement) return standalone(node);
    const drawn = node.tagName === "TABLE" ? drawTable(node)
                                           : drawText(node.textContent, node.tagName === "H2" ? 20 : 15);
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
  canvas.width = 2 * largestOf(pictures.map((p) => p.width), 1);
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
