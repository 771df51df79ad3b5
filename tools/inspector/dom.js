// Small helpers to make elements. Text always goes through textContent, so that names of classes
// and files are shown and never run.

// Without the control characters that XML, and so a saved drawing, cannot hold.
function clean(text) {
  return String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd");
}

function largestOf(values, start = -Infinity) {
  return values.reduce((most, value) => (Number.isFinite(value) && value > most ? value : most), start);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) {
      node.addEventListener(name.slice(2), value);
    } else {
      node.setAttribute(name, value === true ? "" : clean(value));
    }
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : clean(child));
  }
  return node;
}

function html(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function figure(width, height, label, ...children) {
  return svg("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
                     "aria-label": label}, ...children);
}

function percent(share, digits = 2) {
  return (100 * share).toFixed(digits) + " %";
}

function slider(id, name, count, value, onChange, textOf) {
  const text = html("output", {id: id + "-text", for: id}, textOf(value));
  const input = html("input", {id, type: "range", min: 0, max: Math.max(0, count - 1), step: 1,
                               value, "aria-valuetext": textOf(value)});
  input.addEventListener("input", () => onChange(Number(input.value)));
  const show = (at) => {
    input.value = at;
    input.setAttribute("aria-valuetext", textOf(at));
    text.textContent = textOf(at);
  };
  return {node: html("label", {for: id}, name, input, text), show};
}

// Buttons of which one is pressed; `names` is a list of texts.
function choice(id, label, names, onChoose) {
  const buttons = names.map((name, i) => html("button", {type: "button", id: `${id}-${i}`,
                                                         onclick: () => onChoose(i)}, name));
  const show = (at) => buttons.forEach((b, i) => b.setAttribute("aria-pressed", i === at));
  return {node: html("span", {class: "field", role: "group", "aria-label": label}, ...buttons), show};
}

function table(head, rows, attributes) {
  return html("table", attributes || {},
              html("thead", {}, html("tr", {}, head.map((cell) => html("th", {scope: "col"}, cell)))),
              html("tbody", {}, rows.map((row) => html("tr", {}, row.map((cell, i) =>
                  html(i === 0 ? "th" : "td", i === 0 ? {scope: "row"} : {}, cell))))));
}

// Arrow keys walk over a grid of cells; returns the new place or -1.
function walk(key, at, columns, count) {
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns};
  if (!(key in steps)) return -1;
  const to = at + steps[key];
  return to >= 0 && to < count ? to : -1;
}
