// Panel 8: a router to play with. Tokens are those of the image at hand; one token's logits can be
// edited.

// Slots in the order of moe/dispatch.h: all first choices, then all second ones; with batch priority
// tokens of a round by decreasing gate of their first choice. A refused request counts, too.
function giveSlots(gates, k, capacity, byPriority) {
  const experts = gates[0].length;
  const chosen = gates.map((row) => row.map((_, e) => e)
      .sort((a, b) => row[b] - row[a] || a - b).slice(0, k));
  const order = gates.map((_, t) => t);
  if (byPriority) order.sort((a, b) => gates[b][chosen[b][0]] - gates[a][chosen[a][0]] || a - b);
  const asked = new Array(experts).fill(0);
  const slots = gates.map(() => new Array(k).fill(-1));
  for (let j = 0; j < k; ++j) {
    for (const t of order) {
      const slot = asked[chosen[t][j]]++;
      if (capacity === 0 || slot < capacity) slots[t][j] = slot;
    }
  }
  return {chosen, slots, asked};
}

// The whole way of all tokens; `edited` replaces the logits of token `token`.
function playRouter(logits, token, edited, options) {
  const experts = edited.length;
  const noise = options.sigma > 0 ? normals(options.seed, logits.length * experts) : null;
  const noisy = logits.map((row, t) => (t === token ? edited : row).map((x, e) =>
    (noise === null ? x : x + options.sigma * noise[t * experts + e])));
  const gates = noisy.map(softmax);
  return {noisy, gates, ...giveSlots(gates, options.k, options.capacity, options.byPriority)};
}

function tokenName(run, token) {
  if (!run.model.class_token) return `patch ${token}`;
  return token === 0 ? "class token" : `patch ${token - 1}`;
}

// A row an expert; the inputs stay, so that the focus does, and update() fills in the rest.
class PlayTable {
  constructor(experts, onEdit) {
    this.inputs = Array.from({length: experts}, (_, e) => {
      const input = html("input", {type: "number", step: "0.1", "data-logit": e,
                                   "aria-label": `logit of expert ${e}`});
      input.addEventListener("change", () => onEdit(e, Number(input.value) || 0));
      return input;
    });
    this.cells = this.inputs.map(() => Array.from({length: 7}, () => html("span")));
    this.node = table(["expert", "logit", "+ noise", "= noisy logit", "softmax", "top-k", "weight",
                       "slot", "asked by"],
                      this.inputs.map((input, e) => [`${e}`, input, ...this.cells[e]]),
                      {id: "play-table"});
  }

  update(play, token, edited, options) {
    edited.forEach((x, e) => {
      const rank = play.chosen[token].indexOf(e), gate = play.gates[token][e];
      const slot = rank < 0 ? null : play.slots[token][rank];
      if (document.activeElement !== this.inputs[e]) this.inputs[e].value = x.toFixed(3);
      [(options.sigma > 0 ? play.noisy[token][e] - x : 0).toFixed(4),
       play.noisy[token][e].toFixed(4), gate.toFixed(4),
       rank < 0 ? "" : `${rank + 1} of ${options.k}`,
       slot === null ? "" : slot < 0 ? "0 (dropped)" : gate.toFixed(4),
       slot === null ? "" : slot < 0 ? "none left" : `${slot}`, `${play.asked[e]}`]
          .forEach((text, i) => (this.cells[e][i].textContent = text));
    });
  }
}

function numberField(id, name, value, least, most, step, onChange) {
  const input = html("input", {id, type: "number", min: least, max: most, step, value});
  input.addEventListener("change", () => {
    const read = Number(input.value);
    const wanted = Math.min(most, Math.max(least, Number.isFinite(read) ? read : least));
    input.value = wanted;
    onChange(wanted);
  });
  return {node: html("label", {class: "field", for: id}, name, input), input};
}

function playSteps(run, layer, play, token, options) {
  const dropped = play.slots.flat().filter((slot) => slot < 0).length;
  const chosen = play.chosen[token], gates = play.gates[token];
  const kept = chosen.filter((_, j) => play.slots[token][j] >= 0);
  const sum = kept.map((e) => `${gates[e].toFixed(4)} x expert ${e}`).join(" + ") || "nothing";
  return [
    `1. The router multiplies the token with a row for each of the ${layer.experts} experts: the logits.`,
    options.sigma > 0 ? `2. Noise of deviation ${options.sigma} is added, as in training.`
                      : "2. No noise is added, as in evaluation.",
    "3. A softmax over the experts gives the gates.",
    `4. The ${options.k} largest are chosen: ${chosen.join(", ")}. They are not renormalised.`,
    options.capacity > 0
      ? `5. Each expert has ${options.capacity} slots for this image's ${run.tokens} tokens: ${dropped} ` +
        `of ${run.tokens * options.k} choices find none and are dropped.`
      : "5. No limit is set here: nothing is dropped.",
    `6. The layer adds ${sum} to ${tokenName(run, token)}.`,
  ];
}

// What the model itself does, where that is not what is played here.
function playNote(run, layer) {
  if (layer.expert_choice) {
    return "In this model experts choose tokens (moe.chooser = experts), as many as they have slots for; " +
           "the panel plays the other way, tokens that choose experts.";
  }
  if (layer.capacity > 0) {
    return `In evaluation this model's experts have ${layer.capacity} slots for the tokens of a routing ` +
           "group of images; here the slots are for this image alone.";
  }
  return "";
}

// Everything the panel holds beside the state of the page.
class Playground {
  constructor() {
    this.options = {k: 0, capacity: 0, sigma: 0, seed: "1", byPriority: false};
    this.token = 0;
    this.edited = null;
    this.source = this.model = "";
    this.runs = runChoice("play-run");
    this.stage = html("div");
    this.note = html("p", {class: "note", id: "play-note"});
    this.title = html("h3");
    this.steps = html("ul", {id: "play-steps"});
    this.fields = this.makeFields();
    this.priority = html("input", {type: "checkbox", id: "play-priority"});
    this.priority.addEventListener("change", () => this.set({byPriority: this.priority.checked}));
    this.reset = html("button", {type: "button", id: "play-reset", onclick: () => {
      this.model = this.source = "";
      this.refresh();
    }}, "as the model has it");
  }

  makeFields() {
    const field = (name, text, least, most, step, update) =>
      numberField("play-" + name, text, least, least, most, step, update);
    return {
      token: field("token", "token", 0, 1e6, 1, (value) => {
        this.token = Math.round(value);
        this.refresh();
      }),
      k: field("k", "K", 1, 1e6, 1, (value) => this.set({k: Math.round(value)})),
      capacity: field("capacity", "slots of an expert (0: no limit)", 0, 1e6, 1,
                      (value) => this.set({capacity: Math.round(value)})),
      sigma: field("sigma", "noise", 0, 100, 0.05, (sigma) => this.set({sigma})),
      seed: field("seed", "draw", 0, 1e9, 1, (value) => this.set({seed: String(Math.round(value))})),
    };
  }

  set(update) {
    Object.assign(this.options, update);
    this.refresh();
  }

  // Takes over what has changed outside: another model's K, another token's logits.
  follow(run, layer) {
    const model = [state.run, layer.layer].join();
    if (model !== this.model) {
      this.options = {k: Math.min(layer.top_k, layer.experts), capacity: 0, sigma: 0, seed: "1",
                      byPriority: false};
      if (layer.expert_choice) this.options.k = Math.min(2, layer.experts);
      this.priority.checked = false;
      this.table = new PlayTable(layer.experts, (e, value) => {
        this.edited[e] = value;
        this.refresh();
      });
      this.stage.replaceChildren(this.table.node);
    }
    this.model = model;
    this.token = Math.min(this.token, run.tokens - 1);
    const source = [model, state.image, this.token].join();
    if (source !== this.source) this.edited = logitsOf(run, layer, state.image, this.token);
    this.source = source;
    this.options.k = Math.min(this.options.k, layer.experts);
    for (const [name, {input}] of Object.entries(this.fields)) {
      input.value = name === "token" ? this.token : this.options[name];
    }
  }

  play() {
    const run = report.runs[state.run], layer = layerOf(run, state.layer);
    const logits = Array.from({length: run.tokens}, (_, t) => logitsOf(run, layer, state.image, t));
    return playRouter(logits, this.token, this.edited, this.options);
  }

  refresh() {
    const run = report.runs[state.run], layer = layerOf(run, state.layer);
    this.runs.show(state.run);
    this.follow(run, layer);
    const play = this.play();
    this.note.textContent = playNote(run, layer);
    this.title.textContent = `Token ${this.token}: ${tokenName(run, this.token)}`;
    this.table.update(play, this.token, this.edited, this.options);
    this.steps.replaceChildren(...playSteps(run, layer, play, this.token, this.options)
        .map((text) => html("li", {style: "list-style:none"}, text)));
  }

  rows() {
    const play = this.play();
    return [["token", "expert", "gate", "rank", "slot"], ...play.gates.flatMap((row, t) =>
      row.map((gate, e) => {
        const rank = play.chosen[t].indexOf(e);
        return [t, e, gate, rank < 0 ? "" : rank + 1, rank < 0 ? "" : play.slots[t][rank]];
      }))];
  }
}

function buildPlayground() {
  const needs = ["image", "layer", "run"];
  const ground = new Playground();
  const body = addPanel({
    id: "playground", title: "8 Router playground", needs,
    text: "The router of the chosen block with the tokens of this image: change one token's logits, K, " +
          "the slots of an expert and the noise, and follow what happens step by step. Slots go to all " +
          "first choices first, so what one token asks for can cost another its second expert.",
    formula: "gates = softmax(logits + sigma z); choices = top-k of gates; weight = gate, 0 where there is " +
             "no slot left",
    csv: () => ground.rows(),
  });
  body.append(ground.runs.node, ground.note, html("div", {class: "row"},
              Object.values(ground.fields).map((f) => f.node),
              html("label", {class: "field"}, ground.priority, "batch priority"), ground.reset),
              ground.title, ground.stage, ground.steps);
  onChange(needs, () => ground.refresh());
}
