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

function playTable(play, token, edited, options, onEdit) {
  const {k, sigma} = options, chosen = play.chosen[token];
  const gates = play.gates[token];
  const rows = edited.map((x, e) => {
    const rank = chosen.indexOf(e);
    const slot = rank < 0 ? null : play.slots[token][rank];
    const input = html("input", {type: "number", step: "0.1", value: x.toFixed(3), "data-logit": e,
                                 "aria-label": `logit of expert ${e}`});
    input.addEventListener("change", () => onEdit(e, Number(input.value)));
    return [`${e}`, input, (sigma > 0 ? play.noisy[token][e] - x : 0).toFixed(4),
            play.noisy[token][e].toFixed(4), gates[e].toFixed(4),
            rank < 0 ? "" : `${rank + 1} of ${k}`,
            slot === null ? "" : slot < 0 ? "0 (dropped)" : gates[e].toFixed(4),
            slot === null ? "" : slot < 0 ? "none left" : `${slot}`,
            `${play.asked[e]}`];
  });
  return table(["expert", "logit", "+ noise", "= noisy logit", "softmax", "top-k", "weight", "slot",
                "asked by"], rows, {id: "play-table"});
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
      : "5. Capacity is unlimited: nothing is dropped.",
    `6. The layer adds ${sum} to ${tokenName(run, token)}.`,
  ];
}

function buildPlayground() {
  const body = addPanel({
    id: "playground", title: "8 Router playground",
    text: "The router of the chosen block with the tokens of this image: change one token's logits, K, " +
          "the slots of an expert and the noise, and follow what happens step by step. Slots go to all " +
          "first choices first, so what one token asks for can cost another its second expert.",
    formula: "gates = softmax(logits + sigma z); choices = top-k of gates; weight = gate, 0 where there is " +
             "no slot left",
    csv: () => [["token", "expert", "gate", "rank", "slot"], ...play().gates.flatMap((row, t) =>
      row.map((gate, e) => {
        const result = last, rank = result.chosen[t].indexOf(e);
        return [t, e, gate, rank < 0 ? "" : rank + 1, rank < 0 ? "" : result.slots[t][rank]];
      }))],
  });
  const options = {k: 0, capacity: 0, sigma: 0, seed: "1", byPriority: false};
  let token = 0, edited = null, source = "", last = null;
  const runs = runChoice("play-run"), stage = html("div"), steps = html("ul", {id: "play-steps"});
  const refresh = () => {
    const run = report.runs[state.run], layer = layerOf(run, state.layer);
    runs.show(state.run);
    token = Math.min(token, run.tokens - 1);
    const now = [state.run, layer.layer, state.image, token].join();
    if (now !== source) edited = logitsOf(run, layer, state.image, token);
    source = now;
    if (options.k === 0) options.k = Math.min(layer.top_k, layer.experts);
    options.k = Math.min(options.k, layer.experts);
    fields.k.input.value = options.k;
    fields.token.input.max = run.tokens - 1;
    play();
    stage.replaceChildren(html("h3", {}, `Token ${token}: ${tokenName(run, token)}`),
      playTable(last, token, edited, options, (e, value) => {
        edited[e] = value;
        refresh();
        stage.querySelector(`input[data-logit="${e}"]`).focus();
      }));
    steps.replaceChildren(...playSteps(run, layer, last, token, options)
        .map((text) => html("li", {style: "list-style:none"}, text)));
  };
  const play = () => {
    const run = report.runs[state.run], layer = layerOf(run, state.layer);
    const logits = Array.from({length: run.tokens}, (_, t) => logitsOf(run, layer, state.image, t));
    last = playRouter(logits, token, edited, options);
    return last;
  };
  const set = (name) => (value) => {
    options[name] = value;
    refresh();
  };
  const fields = {
    token: numberField("play-token", "token", 0, 0, 1e6, 1, (value) => {
      token = Math.min(Math.round(value), report.runs[state.run].tokens - 1);
      refresh();
    }),
    k: numberField("play-k", "K", 1, 1, 1e6, 1, (value) => set("k")(Math.round(value))),
    capacity: numberField("play-capacity", "slots of an expert (0: no limit)", 0, 0, 1e6, 1,
                          (value) => set("capacity")(Math.round(value))),
    sigma: numberField("play-sigma", "noise", 0, 0, 100, 0.05, set("sigma")),
    seed: numberField("play-seed", "draw", 1, 0, 1e9, 1, (value) => set("seed")(String(Math.round(value)))),
  };
  const priority = html("input", {type: "checkbox", id: "play-priority"});
  priority.addEventListener("change", () => set("byPriority")(priority.checked));
  const reset = html("button", {type: "button", id: "play-reset", onclick: () => {
    source = "";
    refresh();
  }}, "as the model has it");
  body.append(runs.node, html("div", {class: "row"}, Object.values(fields).map((f) => f.node),
              html("label", {class: "field"}, priority, "batch priority"), reset), stage, steps);
  listeners.push(refresh);
}
