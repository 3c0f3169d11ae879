// A card a vector: which, where, how strongly. The slider carries the measured safe range.

import { get, post } from "./api.js";
import { field, fixed, h, notice, term, verdict } from "./dom.js";

// As the server declares them: {name: {unit, least, most, start, step, says}}.
export const OPERATIONS = Object.fromEntries((await get("/api/operations")).map((operation) => [operation.name, operation]));
const TYPED = "Typed contrast";
const round = (value) => Math.round(value * 1000) / 1000;

/** What a vector of the library is called. */
export const called = (row) => row.name ?? row.concept ?? row.vector_id.slice(0, 8);

/** What is said of a vector without a range of its own: one of several that were recommended has theirs, together. */
const unmeasured = (row) => (row?.safe_together
  ? `Measured as safe up to a dose of ${fixed(row.safe_together)}, over its ${row.n_together} layers together.`
  : "No safe range measured for this vector.");

/** "10-14, 20" as layers. */
export function layersOf(text) {
  const layers = text.split(",").flatMap((part) => {
    const [, from, to = from] = /^\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*$/.exec(part) ?? [];
    if (from === undefined || Number(to) < Number(from)) throw new Error(`layers ${text}: write 12, or 10-14`);
    return Array.from({ length: to - from + 1 }, (_, i) => Number(from) + i);
  });
  return [...new Set(layers)].slice(0, 128);
}

/** One vector with its slider. `given` is {vector} or {contrast, layers}; hooks are changed(), settled(), removed(). */
export class Card {
  constructor(given, page, hooks) {
    Object.assign(this, { vector: given.vector ?? null, page, hooks, operation: "add" });
    this.slider = h("input", { type: "range", "aria-label": "Strength" });
    this.number = h("input", { type: "number", step: "any", "aria-label": "Strength as a number" });
    this.alpha = h("span.small.soft.num");
    this.range = h("p.small.soft");
    this.choice = h("select", { "aria-label": "Operation" }, Object.keys(OPERATIONS).map((name) => h("option", { value: name }, name)));
    const strength = h("div.strength", {}, h("div.track", {}, this.slider), h("div.row", {}, this.choice, this.number, this.alpha));
    this.element = h("article.card.vector", {}, this.head(), given.contrast ? this.contrastFields(given) : "", strength, this.range);
    this.slider.addEventListener("input", () => this.set(Number(this.slider.value), "slider"));
    this.slider.addEventListener("change", () => hooks.settled());
    this.number.addEventListener("input", () => this.set(Number(this.number.value), "number")); // what is said of it moves nothing later
    this.number.addEventListener("change", () => hooks.settled());
    this.choice.addEventListener("change", () => (this.operate(this.choice.value), hooks.settled()));
    this.operate(OPERATIONS[given.operation] ? given.operation : "add", given.dose ?? this.vector?.recommended_dose);
  }

  head() {
    const row = this.vector;
    const title = row ? called(row) : TYPED;
    const about = row ? [term("method", row.method.replaceAll("_", " ")), " · ", term("layer"), ` ${row.layer}`] : "";
    this.title = h("h2", {}, title);
    this.about = h("span.small.soft", {}, about);
    const remove = h("button.icon", { "aria-label": `Remove ${title}`, title: "Remove", onclick: () => this.hooks.removed(this) }, "×");
    this.swatch = h("label.check.colour", { title: "Colour the tokens by their projection on this vector" },
      h("input", { type: "radio", name: "colour", "aria-label": `Colour by ${title}`, onchange: () => this.hooks.coloured(this) }));
    return h("header", {}, this.swatch, h("div.title", {}, h("span.row.tight", {}, this.title, row ? verdict(row.verdict) : ""), this.about), remove);
  }

  contrastFields({ contrast, layers }) {
    const settled = () => (this.called(null), this.hooks.settled());
    const n = this.page.model.n_layers;
    this.positive = h("textarea", { rows: 2, maxlength: 8000, placeholder: "I love this, it is wonderful", onchange: settled });
    this.negative = h("textarea", { rows: 2, maxlength: 8000, placeholder: "I hate this, it is terrible", onchange: settled });
    this.positive.value = (contrast.positive ?? []).join("\n");
    this.negative.value = (contrast.negative ?? []).join("\n");
    this.layers = h("input", { size: 7, value: layers?.join(", ") ?? String(n ? Math.round(n * 0.45) : 8), onchange: settled });
    this.layers.setAttribute("aria-label", "Layers");
    this.chat = h("input", { type: "checkbox", checked: contrast.chat === true, onchange: settled });
    this.position = h("select", { onchange: settled }, h("option", { value: "last" }, "last token"), h("option", { value: "mean" }, "mean of tokens"));
    this.position.value = contrast.position === "mean" ? "mean" : "last";
    this.name = h("input", { size: 12, placeholder: "name", maxlength: 80 });
    this.name.setAttribute("aria-label", "Name in the library");
    const save = h("button.button", { onclick: () => this.save() }, "Save");
    return h("div.stack.contrast", {},
      h("div.sides", {}, field("Towards", this.positive), field("Away from", this.negative)),
      h("div.row.small", {}, field(n ? `Layer (0–${n - 1})` : "Layer", this.layers), field("Read at", this.position),
        h("label.check", {}, this.chat, "as chat"), h("span.grow"), h("span.row.tight", {}, this.name, save)));
  }

  /** Give a typed contrast the name that it was saved under; none once it says something else. */
  called(name) {
    this.saved = name;
    this.title.textContent = name ?? TYPED;
    this.about.textContent = name ? `saved · layer ${this.layers.value}` : "";
  }

  /** The contrast as the API has it: a pair a line. */
  contrast() {
    const lines = (box) => box.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const [positive, negative] = [lines(this.positive), lines(this.negative)];
    if (!positive.length && !negative.length) throw new Error("This contrast is empty: write what to steer towards and what away from, or remove its card.");
    if (positive.length !== negative.length) {
      throw new Error(`A contrast needs as many lines on either side: there are ${positive.length} and ${negative.length}.`);
    }
    return { positive, negative, chat: this.chat.checked, position: this.position.value };
  }

  operate(operation, value) {
    this.operation = this.choice.value = operation;
    const { least, most, start, step } = OPERATIONS[operation];
    const reach = Math.max(most, Math.ceil(Math.abs(value ?? 0) * 13) / 10, Math.abs(this.vector?.safe_to ?? 0) * 1.2);
    Object.assign(this.slider, { min: least < 0 ? -reach : least, max: reach, step });
    this.set(value ?? (operation === "add" && this.vector?.safe_to > 0 ? Math.min(start, this.vector.safe_to) : start));
  }

  set(value, by) {
    this.value = Number.isFinite(value) ? value : 0;
    if (by !== "slider") this.slider.value = this.value;
    if (by !== "number") this.number.value = round(this.value);
    const row = this.vector;
    const { unit, says } = OPERATIONS[this.operation];
    const alpha = row && unit === "dose" && this.operation === "add" ? [" · ", term("alpha"), ` ${round((this.value * row.residual_norm) / row.norm)}`] : [];
    this.alpha.replaceChildren(...(unit === "dose" ? [term("dose")] : []), ...alpha);
    this.slider.title = says;
    this.mark();
    this.hooks.changed();
  }

  /** Paint the measured safe range and the recommended dose on the track. */
  mark() {
    const row = this.vector;
    const track = this.slider.parentElement;
    const [least, most] = [Number(this.slider.min), Number(this.slider.max)];
    const share = (value) => `${(100 * (Math.min(most, Math.max(least, value)) - least)) / (most - least)}%`;
    const known = this.operation === "add" && row && (row.safe_to ?? row.safe_from) !== null && (row.safe_to ?? row.safe_from) !== undefined;
    track.classList.toggle("measured", Boolean(known));
    track.style.setProperty("--zero", share(0));
    track.style.setProperty("--from", share(known ? row.safe_from ?? 0 : 0));
    track.style.setProperty("--to", share(known ? row.safe_to ?? 0 : 0));
    track.style.setProperty("--best", share(row?.recommended_dose ?? 0));
    track.classList.toggle("recommended", this.operation === "add" && Boolean(row?.recommended_dose));
    const outside = known && (this.value > (row.safe_to ?? 0) + 1e-9 || this.value < (row.safe_from ?? 0) - 1e-9);
    this.element?.classList.toggle("outside", Boolean(outside));
    if (known) {
      const range = `measured safe from ${fixed(row.safe_from ?? 0)} to ${fixed(row.safe_to ?? 0)}`;
      this.range.textContent = outside ? `Beyond the range ${range}: expect damaged text.` : `Doses ${range}.`;
    } else this.range.textContent = this.operation === "add" ? unmeasured(row) : OPERATIONS[this.operation].says;
  }

  /** What its strength is counted in: dose or alpha. */
  get unit() {
    return OPERATIONS[this.operation].unit;
  }

  /** The vector as the API wants it. */
  use() {
    const strength = { [this.unit]: this.value, operation: this.operation };
    if (this.vector) return { vector: this.vector.vector_id, ...strength };
    return { contrast: this.contrast(), layers: layersOf(this.layers.value), ...strength };
  }

  /** Put the contrast's vectors into the library, under the name given. */
  async save() {
    try {
      const model = this.page.model.name;
      const layers = layersOf(this.layers.value);
      if (!this.name.value.trim()) throw new Error("Give it a name first.");
      const n = this.page.model.n_layers;
      const beyond = n ? layers.find((layer) => layer >= n) : undefined;
      if (beyond !== undefined) throw new Error(`layer ${beyond}: the model has layers 0..${n - 1}`);
      const drafts = await post("/api/contrasts", { model, contrast: this.contrast() });
      const vector_ids = drafts.filter((draft) => layers.includes(draft.layer)).map((draft) => draft.vector_id);
      if (vector_ids.length < layers.length) throw new Error("The two texts make no vector at some of these layers: leave those out.");
      await post("/api/vectors", { model, vector_ids, name: this.name.value.trim() });
      this.called(this.name.value.trim());
      notice(`Saved ${this.saved}: ${vector_ids.length === 1 ? `layer ${layers[0]}` : `${vector_ids.length} layers`}.`);
      this.hooks.saved();
    } catch (error) {
      notice(error.message);
    }
  }
}

/** The library's vectors of a model. */
export const libraryOf = (model) => get("/api/vectors", { model: model.name });
