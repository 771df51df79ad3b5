// An image with its patches in the colours of their experts. Made once a run, then updated.

const kSide = 432;  // pixels of a drawn image, about

// Pictures with noise are drawn here; the noise is kept for the image at hand.
class NoisyPicture {
  constructor(run) {
    this.run = run;
    this.image = -1;
  }

  // A data URI of the image at a level, once its pixels are there.
  async at(image, level) {
    const entry = this.run.images[image];
    if (level === 0) return entry.picture;
    if (this.image !== image) {
      const picture = new Image();
      picture.src = entry.picture;
      await picture.decode();
      const size = this.run.model.image_size;
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d");
      context.drawImage(picture, 0, 0);
      this.pixels = context.getImageData(0, 0, size, size);
      this.noise = normals(entry.noise_key, this.run.model.channels * size * size);
      this.image = image;
    }
    return this.draw(this.run.sigmas[level]);
  }

  draw(sigma) {
    const size = this.run.model.image_size, plane = size * size;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    const out = context.createImageData(size, size);
    for (let i = 0; i < plane; ++i) {
      for (let c = 0; c < 3; ++c) {
        const z = this.noise[(this.run.model.channels === 3 ? c : 0) * plane + i];
        out.data[4 * i + c] = this.pixels.data[4 * i + c] + 255 * sigma * z;
      }
      out.data[4 * i + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    return canvas.toDataURL("image/png");
  }
}

class PatchGrid {
  // onPatch(p) is called when a patch is pointed at, focused or chosen with the keys.
  constructor(run, id, onPatch) {
    this.run = run;
    this.noisy = new NoisyPicture(run);
    this.cell = Math.max(24, Math.min(108, Math.floor(kSide / run.grid)));
    const side = this.cell * run.grid;
    this.picture = svg("image", {x: 0, y: 0, width: side, height: side, preserveAspectRatio: "none",
                                 "image-rendering": "pixelated"});
    this.patches = Array.from({length: run.patches}, (_, p) => this.makePatch(p, onPatch));
    this.node = figure(side, side, `experts of ${run.patches} patches`, this.picture,
                       this.patches.map((patch) => patch.group));
    this.node.id = id;
    this.node.classList.add("grid");
    this.node.setAttribute("role", "group");
    this.drawn = 0;
  }

  makePatch(p, onPatch) {
    const {cell, run} = this;
    const x = p % run.grid * cell, y = Math.floor(p / run.grid) * cell;
    const tint = svg("rect", {x: x + 1, y: y + 1, width: cell - 2, height: cell - 2});
    const flip = svg("rect", {class: "flip", x: x + 4, y: y + 4, width: cell - 8,
                              height: cell - 8});
    const inner = svg("rect", {class: "flip-inner", x: x + 4, y: y + 4, width: cell - 8,
                               height: cell - 8});
    const number = svg("text", {class: "number", x: x + cell / 2, y: y + cell / 2 + 5,
                                "text-anchor": "middle"});
    const title = svg("title");
    const group = svg("g", {tabindex: p === 0 ? 0 : -1, "data-patch": p, role: "button"}, title,
                      tint, flip, inner, number);
    group.addEventListener("mouseenter", () => onPatch(p));
    group.addEventListener("focus", () => onPatch(p));
    group.addEventListener("keydown", (event) => {
      if (event.key === " ") event.preventDefault();
      const to = walk(event.key, p, run.grid, run.patches);
      if (to < 0) return;
      event.preventDefault();
      this.patches[to].group.focus();
    });
    return {group, tint, flip, inner, number, title};
  }

  update() {
    const layer = layerOf(this.run, state.layer);
    const chosen = Math.min(state.patch, this.run.patches - 1);
    this.patches.forEach((patch, p) => {
      const now = routeOf(this.run, layer, state.level, state.image, p);
      const was = routeOf(this.run, layer, 0, state.image, p);
      const flipped = now.first !== was.first;
      const colour = expertColour(now.first);
      patch.tint.setAttribute("style", now.dropped
        ? `fill:none;stroke:${colour};stroke-width:3;stroke-dasharray:5 3`
        : `fill:${colour};fill-opacity:0.5;stroke:none`);
      for (const frame of [patch.flip, patch.inner]) {
        frame.setAttribute("style", flipped ? "" : "stroke:none");
      }
      patch.group.classList.toggle("flipped", flipped);
      patch.group.classList.toggle("dropped", now.dropped);
      patch.group.setAttribute("tabindex", p === chosen ? 0 : -1);
      patch.number.textContent = now.first;
      patch.title.textContent = describeRoute(this.run, layer, p, now, was);
      patch.group.setAttribute("aria-label", patch.title.textContent);
    });
    this.draw();
  }

  async draw() {
    const turn = ++this.drawn;
    const uri = await this.noisy.at(state.image, state.level);
    if (turn === this.drawn) this.picture.setAttribute("href", uri);
  }
}

function describeRoute(run, layer, patch, now, was) {
  const place = `row ${Math.floor(patch / run.grid)}, column ${patch % run.grid}`;
  const part = run.parts.length === 0
    ? "" : `, ${["background", "edge", "shape"][run.parts[state.image * run.patches + patch]]}`;
  const first = `first expert ${now.first}, weight ${now.weightFirst.toFixed(4)}`;
  const second = now.second < 0
    ? "" : `; second expert ${now.second}, weight ${now.weightSecond.toFixed(4)}`;
  const dropped = !now.dropped ? ""
    : layer.expert_choice ? "; the first did not take it" : "; the first choice found no slot";
  const flip = now.first === was.first ? "" : `; without noise it was ${was.first}`;
  return `Patch ${patch} (${place}${part}): ${first}${second}${dropped}${flip}`;
}
