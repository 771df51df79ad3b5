// What the page shows: the object in #data (README.md in this folder describes it), with arrays
// of numbers decoded.

function decode(text, Type) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; ++i) bytes[i] = raw.charCodeAt(i);
  return new Type(bytes.buffer);
}

function readReport() {
  const report = JSON.parse(document.getElementById("data").textContent);
  for (const run of report.runs) {
    const side = run.model.image_size / run.model.patch;
    run.grid = side;
    run.patches = side * side;
    run.tokens = run.patches + (run.model.class_token ? 1 : 0);
    run.match = decode(run.match, Int32Array);
    run.flat = decode(run.flat, Uint8Array);
    run.parts = decode(run.parts, Uint8Array);
    for (const layer of run.layers) {
      layer.experts_of = decode(layer.experts_of, Int16Array);
      layer.gates = decode(layer.gates, Float32Array);
      layer.dropped = decode(layer.dropped, Uint8Array);
      layer.logits = decode(layer.logits, Float32Array);
      layer.view_probabilities = decode(layer.view_probabilities, Float32Array);
    }
  }
  return report;
}

// Layer number `at` of a run, or its last: two runs need not have the same layers.
function layerOf(run, at) {
  return run.layers[Math.min(at, run.layers.length - 1)];
}

// Where a patch went at a level of noise.
function routeOf(run, layer, level, image, patch) {
  const cell = (level * run.images.length + image) * run.patches + patch;
  return {
    first: layer.experts_of[2 * cell],
    second: layer.experts_of[2 * cell + 1],
    weightFirst: layer.gates[2 * cell],
    weightSecond: layer.gates[2 * cell + 1],
    dropped: (layer.dropped[cell] & 1) !== 0,
    droppedSecond: (layer.dropped[cell] & 2) !== 0,
  };
}

// How many patches have another first expert at level `b` than at level `a`.
function countFlips(run, layer, image, a, b) {
  let flips = 0;
  for (let p = 0; p < run.patches; ++p) {
    flips += routeOf(run, layer, a, image, p).first !== routeOf(run, layer, b, image, p).first;
  }
  return flips;
}

// A patch's router probabilities in view 0 or 1, without noise.
function viewVector(run, layer, image, view, patch) {
  const at = ((image * 2 + view) * run.patches + patch) * layer.experts;
  return Array.from(layer.view_probabilities.subarray(at, at + layer.experts));
}

// A token's router logits on the plain image.
function logitsOf(run, layer, image, token) {
  const at = (image * run.tokens + token) * layer.experts;
  return Array.from(layer.logits.subarray(at, at + layer.experts));
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const exps = logits.map((x) => Math.exp(x - largest));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((x) => x / sum);
}

function auditLayer(run, at) {
  return run.audit.layers[Math.min(at, run.audit.layers.length - 1)];
}
