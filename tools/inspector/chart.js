// Line charts, bars and heat maps.

// The class of a text on a shade this strong: where the usual colour of text is hard to read, in the
// dark from 0.57 on, in the light from 0.75 (equal contrast of black and white).
function onHeat(alpha) {
  return alpha > 0.75 ? " stronger" : alpha > 0.57 ? " strong" : "";
}

function niceTicks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let t = Math.ceil(low / step); t * step <= high + step * 1e-9; ++t) ticks.push(t * step);
  return ticks;
}

function tickText(value) {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(0)
                                                    : String(Number(value.toPrecision(4)));
}

// lines: {name, values, colour, dash, mark (a text at its end), x (of its own points, drawn as
// dots)}, null where there is no value. Also: x, low, high (of y),
// xLabel, yLabel, bands {low, high, name}, levels {value, name}, events {x, name}, cursor, jumps
// (places in x), width, height.
function lineChart(chart) {
  const width = chart.width || 560, height = chart.height || 240;
  const box = {left: 66, right: width - 30, top: 12, bottom: height - 40};
  const all = chart.lines.flatMap((line) => line.values).filter((v) => Number.isFinite(v));
  const low = chart.low ?? 0, high = chart.high ?? largestOf(all, low + 1e-9);
  const places = [chart.x, ...chart.lines.map((line) => line.x || [])].flat();
  const x0 = -largestOf(places.map((x) => -x), places.length > 0 ? -Infinity : 0);
  const last = largestOf(places, x0), x1 = last > x0 ? last : x0 + 1;
  const px = (x) => box.left + (x - x0) / (x1 - x0) * (box.right - box.left);
  const py = (y) => box.bottom - (y - low) / (high - low) * (box.bottom - box.top);
  const drawing = figure(width, height, chart.label || chart.yLabel);
  for (const band of chart.bands || []) {
    const top = py(Math.min(high, band.high)), bottom = py(Math.max(low, band.low));
    if (bottom <= top) continue;
    drawing.append(svg("rect", {class: "band", x: box.left, y: top, height: bottom - top,
                                width: box.right - box.left}, svg("title", {}, band.name)));
  }
  drawAxes(drawing, box, {x0, x1, low, high, px, py}, chart);
  for (const level of chart.levels || []) {
    drawing.append(svg("line", {class: "fair", x1: box.left, x2: box.right, y1: py(level.value),
                                y2: py(level.value)}, svg("title", {}, level.name)));
  }
  const marks = [];
  for (const line of chart.lines) drawing.append(...drawLine(line, chart.x, px, py, marks));
  drawMarks(drawing, marks);
  for (const event of chart.events || []) {
    if (event.x < x0 || event.x > x1) continue;
    drawing.append(svg("line", {class: "event", x1: px(event.x), x2: px(event.x), y1: box.top,
                                y2: box.bottom}, svg("title", {}, event.name)));
  }
  for (const at of chart.jumps || []) {
    drawing.append(svg("path", {class: "jump", d: `M${px(at)},${box.top + 10}l-6,-10h12z`},
                       svg("title", {}, "jump")));
  }
  if (chart.cursor !== undefined) {
    drawing.append(svg("line", {class: "cursor", x1: px(chart.cursor), x2: px(chart.cursor),
                                y1: box.top, y2: box.bottom}));
  }
  return drawing;
}

function drawAxes(drawing, box, scale, chart) {
  for (const t of niceTicks(scale.low, scale.high, 5)) {
    drawing.append(svg("line", {class: "axis", x1: box.left, x2: box.right, y1: scale.py(t),
                                y2: scale.py(t)}),
                   svg("text", {x: box.left - 6, y: scale.py(t) + 4, "text-anchor": "end"},
                       tickText(t)));
  }
  for (const t of niceTicks(scale.x0, scale.x1, 6)) {
    drawing.append(svg("text", {x: scale.px(t), y: box.bottom + 17, "text-anchor": "middle"},
                       tickText(t)));
  }
  drawing.append(
      svg("path", {class: "axis", d: `M${box.left},${box.top}V${box.bottom}H${box.right}`}),
      svg("text", {class: "soft", x: (box.left + box.right) / 2, y: box.bottom + 34,
                   "text-anchor": "middle"}, chart.xLabel || ""),
      svg("text", {class: "soft", x: 12, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
                   transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})`}, chart.yLabel || ""));
}

function drawLine(line, x, px, py, marks) {
  if (line.x) {
    return line.values.map((value, i) => svg("circle", {
      cx: px(line.x[i]), cy: py(value), r: 4, style: `fill:${line.colour}`},
      svg("title", {}, `${line.name}: ${value}`)));
  }
  let d = "", pen = "M", end = null;
  line.values.forEach((value, i) => {
    if (!Number.isFinite(value)) {
      pen = "M";
      return;
    }
    d += `${pen}${px(x[i]).toFixed(1)},${py(value).toFixed(1)}`;
    pen = "L";
    end = {x: px(x[i]), y: py(value)};
  });
  const casing = svg("path", {d, class: "casing", fill: "none", "stroke-width": 3.5,
                              "stroke-dasharray": line.dash});
  const path = svg("path", {d, fill: "none", "stroke-width": 2, "stroke-dasharray": line.dash,
                            style: `stroke:${line.colour}`}, svg("title", {}, line.name));
  if (line.mark && end !== null) marks.push({...end, text: line.mark, colour: line.colour});
  return [casing, path];
}

// The names of lines at their ends, pushed apart where they would overlap; none where they are too
// many for that.
function drawMarks(drawing, marks) {
  const bottom = Number(drawing.getAttribute("height")) - 44;
  if (marks.length * 11 > bottom - 12) return;
  let last = -Infinity, below = bottom;
  for (const mark of marks.sort((a, b) => b.y - a.y)) {
    mark.most = below;
    below -= 11;
  }
  for (const mark of marks.sort((a, b) => a.y - b.y)) {
    const y = Math.min(mark.most, Math.max(mark.y, last + 11));
    drawing.append(svg("path", {d: `M${mark.x},${mark.y}L${mark.x + 8},${y}`, fill: "none",
                                style: `stroke:${mark.colour}`}),
                   svg("text", {x: mark.x + 10, y: y + 4, style: "font-size:11px"}, mark.text));
    last = y;
  }
}

function legend(lines, columns = 4) {
  const width = 60 + 8 * Math.min(40, largestOf(lines.map((line) => line.name.length), 10));
  const drawing = figure(columns * width, 20 * Math.ceil(lines.length / columns) + 4, "legend");
  lines.forEach((line, i) => {
    const x = i % columns * width, y = Math.floor(i / columns) * 20 + 12;
    drawing.append(svg("line", {x1: x, x2: x + 26, y1: y, y2: y, "stroke-width": 3,
                                "stroke-dasharray": line.dash, style: `stroke:${line.colour}`}),
                   svg("text", {x: x + 32, y: y + 4}, line.name.length > 40 ? line.name.slice(0, 39) + "..." : line.name,
                       svg("title", {}, line.name)));
  });
  return drawing;
}

// Bars beside each other: values, names; series {name, values, colour}.
function barChart(names, series, options) {
  const width = options.width || 560, height = options.height || 200;
  const box = {left: 58, right: width - 10, top: 10, bottom: height - 38};
  const high = options.high ?? largestOf(series.flatMap((s) => s.values), 1e-9);
  const py = (y) => box.bottom - y / high * (box.bottom - box.top);
  const slot = (box.right - box.left) / names.length, bar = slot * 0.8 / series.length;
  const drawing = figure(width, height, options.yLabel);
  const scale = {low: 0, high, py, x0: 0, x1: 0, px: () => 0};
  drawAxes(drawing, box, {...scale, x0: NaN, x1: NaN}, options);
  series.forEach((s, k) => s.values.forEach((value, i) => {
    drawing.append(svg("rect", {x: box.left + slot * (i + 0.1) + bar * k, y: py(value), width: bar,
                                height: box.bottom - py(value), style: `fill:${s.colour(i)}`},
                       svg("title", {}, `${s.name}, ${names[i]}: ${value}`)));
  }));
  const every = Math.ceil(names.length / 24);
  names.forEach((name, i) => {
    if (i % every !== 0) return;
    drawing.append(svg("text", {x: box.left + slot * (i + 0.5), y: box.bottom + 16,
                                "text-anchor": "middle"}, name));
  });
  return drawing;
}

// The same as one picture: elements for each of so many cells would be too slow.
function manyCells(matrix, n, most, cell) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = n;
  const context = canvas.getContext("2d"), picture = context.createImageData(n, n);
  const heat = getComputedStyle(document.documentElement).getPropertyValue("--heat").split(",");
  for (let i = 0; i < n * n; ++i) {
    heat.forEach((value, c) => (picture.data[4 * i + c] = Number(value)));
    picture.data[4 * i + 3] = 255 * Math.max(0, Math.min(1, matrix[i] / most));
  }
  context.putImageData(picture, 0, 0);
  return svg("image", {href: canvas.toDataURL(), x: 26, y: 20, width: n * cell, height: n * cell,
                       "image-rendering": "pixelated"});
}

// A square matrix as shades; `most` is the value of the darkest. Numbers where they have room.
function heatMap(matrix, n, most, label, digits = 2) {
  const cell = n <= 8 ? 44 : n <= 16 ? 30 : Math.max(2, Math.floor(480 / n));
  const drawing = figure(n * cell + 30, n * cell + 26, label);
  if (n > 40) {
    drawing.append(manyCells(matrix, n, most, cell));
    return drawing;
  }
  for (let i = 0; i < n * n; ++i) {
    const y = Math.floor(i / n), x = i % n, value = matrix[i];
    const share = Math.max(0, Math.min(1, value / most));
    drawing.append(svg("rect", {x: 26 + x * cell, y: 20 + y * cell, width: cell, height: cell,
                                class: "axis", style: `fill:rgba(var(--heat), ${share.toFixed(3)})`},
                       svg("title", {}, `row ${y}, column ${x}: ${value}`)));
    if (cell < 30) continue;
    drawing.append(svg("text", {x: 26 + (x + 0.5) * cell, y: 24 + (y + 0.5) * cell,
                                "text-anchor": "middle", class: "cell" + onHeat(share),
                                style: cell < 40 ? "font-size:10px" : ""}, value.toFixed(digits)));
  }
  for (let i = 0; i < n; i += cell < 20 ? 2 : 1) {
    drawing.append(svg("text", {x: 26 + (i + 0.5) * cell, y: 14, "text-anchor": "middle"}, i),
                   svg("text", {x: 20, y: 24 + (i + 0.5) * cell, "text-anchor": "end"}, i));
  }
  return drawing;
}
