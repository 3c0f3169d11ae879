// Probes: vectors of the library that read along and change nothing.

import { called } from "./cards.js";
import { commandOf, h, notice } from "./dom.js";
import { Menu } from "./menu.js";

/** What is known of a vector's gate, in a few words. */
const gateOf = (row) => (row.gate_token === null ? "no gate" : `gate ${row.gate_token.toFixed(2)}`);

/** The vectors that were picked, each with its gate, at most `most`; hooks are changed() and coloured(key). */
export class Probes {
  constructor(hooks) {
    Object.assign(this, { hooks, picked: [] });
    const note = gateOf;
    this.menu = new Menu({ id: "probe-picker", label: "Add a vector that reads along", placeholder: "Add a probe…", chosen: (row) => this.add(row), note });
    this.list = h("ul.picked", {});
    this.about = h("p.small.soft", {}, "Vectors that read along and change nothing: a track under each text, and a verdict.");
    this.element = h("section.card.reading-along", { id: "probes", "aria-label": "Probes" }, h("header", {}, h("h2", {}, "Read along")), this.about, this.list, this.menu.element);
  }

  fill(library) {
    this.library = library;
    this.menu.fill(library);
    this.keep(this.picked.map((row) => row.vector_id));
  }

  add(row) {
    if (this.picked.some((one) => one.vector_id === row.vector_id)) return notice(`${called(row)} reads along already.`);
    if (this.picked.length >= this.most) return notice(`${this.most} probes at once are the most.`);
    this.picked.push(row);
    this.show();
    this.hooks.changed();
  }

  /** Have just these vectors read along; what the library lacks is left out. Returns the keys that it lacks. */
  keep(keys) {
    const rows = keys.map((key) => this.library.find((row) => row.vector_id === key));
    this.picked = rows.filter(Boolean);
    this.show();
    return keys.filter((_, i) => !rows[i]);
  }

  remove(row) {
    this.picked = this.picked.filter((one) => one !== row);
    this.show();
    this.hooks.changed();
  }

  show() {
    this.about.hidden = this.picked.length > 0;
    this.list.replaceChildren(...this.picked.map((row) => this.item(row)));
  }

  item(row) {
    const title = `${called(row)}, layer ${row.layer}`;
    const colour = h("input", { type: "radio", name: "colour", "aria-label": `Colour by ${title}`, title: "Colour the tokens by their projection on this vector", onchange: () => this.hooks.coloured(row.vector_id) });
    const gate = h("span.small.soft", { title: row.gate_token === null ? `\`${commandOf("gate")}\` fits the threshold from which a text counts as showing it` : `a text's mean counts from ${row.gate_mean.toFixed(2)} on` }, `layer ${row.layer} · ${gateOf(row)}`);
    const remove = h("button.icon", { "aria-label": `Stop reading along with ${title}`, title: "Remove", onclick: () => this.remove(row) }, "×");
    return h("li", {}, h("label.check.colour", {}, colour), h("span.title", {}, h("b", {}, called(row)), " ", gate), remove);
  }

  get keys() {
    return this.picked.map((row) => row.vector_id);
  }

  called(key) {
    const row = this.picked.find((one) => one.vector_id === key);
    return row ? called(row) : key.slice(0, 8);
  }
}
