// Two texts that grow side by side, their tokens coloured by projection.

import { h } from "./dom.js";

const QUANTILE = 0.95;

/** A pane a row, and the numbers behind the colours. */
export class Output {
  constructor() {
    this.panes = { base: this.pane("Base", "the model as it is"), steered: this.pane("Steered", "") };
    this.element = h("div.panes", {}, this.panes.base.element, this.panes.steered.element);
    this.own = h("input", { type: "checkbox", checked: true, onchange: () => this.paint() });
    const own = h("label.check.small", { title: "Take away what the steering itself adds at this layer: what is left is the text's own" }, this.own, "less the push");
    this.legend = h("div.legend.small.soft", { hidden: true }, h("span.swatch"), (this.says = h("span")), own);
    this.probe = 0;
    this.clear();
  }

  pane(title, about) {
    const text = h("div.text", { "aria-live": "off", tabindex: 0, role: "region", "aria-label": `${title} text` });
    const note = h("span.small.soft.note", {}, about);
    const element = h("article.card.pane", {}, h("header", {}, h("h2", {}, title), note), text);
    return { element, text, note };
  }

  clear() {
    this.tokens = [];
    this.rows = [];
    this.probes = [];
    for (const { text, element } of Object.values(this.panes)) {
      text.replaceChildren();
      element.classList.remove("done", "diverged");
    }
  }

  begin(start, names) {
    this.rows = start.rows;
    this.probes = start.probes.map((probe) => ({ ...probe, name: names[probe.use] }));
    this.panes.base.element.hidden = !start.rows.includes("base");
    for (const row of start.rows) this.panes[row].element.classList.add("growing");
    this.paint();
  }

  add({ row, text, projections, finish }) {
    const pane = this.panes[this.rows[row]];
    if (text) {
      const span = h("span.token", {}, text);
      this.tokens.push({ row, projections, span });
      pane.text.append(span);
      pane.text.scrollTop = pane.text.scrollHeight;
    }
    if (finish) {
      pane.element.classList.remove("growing");
      pane.element.classList.add(finish === "diverged" ? "diverged" : "done");
      if (finish === "diverged") pane.text.append(h("span.error", {}, " ⚠ the residual stream overflowed: less alpha"));
      else if (finish === "length") pane.text.append(h("span.soft", { title: "the token limit" }, " …"));
    }
    this.soon();
  }

  ended() {
    for (const { element } of Object.values(this.panes)) element.classList.remove("growing");
  }

  failed(message) {
    this.ended();
    this.panes.steered.text.append(h("p.error", {}, message));
  }

  /** Colour by another vector. */
  colourBy(use) {
    this.chosen = use;
    this.paint();
  }

  soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.paint();
    });
  }

  /** Colours: how far each projection lies from the base text's mean, on the scale of the largest. */
  paint() {
    const place = Math.max(0, this.probes.findIndex((probe) => probe.use === this.chosen));
    const probe = this.probes[place];
    this.legend.hidden = !probe;
    if (!probe) return;
    const pushed = (token) => (this.own.checked && this.rows[token.row] === "steered" ? probe.pushed : 0);
    const of = (token) => token.projections[place] - pushed(token);
    const base = this.tokens.filter((token) => this.rows[token.row] === "base").map(of);
    const all = this.tokens.map(of);
    const centred = base.length ? base : all;
    const centre = centred.reduce((sum, value) => sum + value, 0) / (centred.length || 1);
    const far = all.map((value) => Math.abs(value - centre)).sort((a, b) => a - b);
    const scale = far[Math.floor((far.length - 1) * QUANTILE)] || 1;
    for (const token of this.tokens) {
      const value = (of(token) - centre) / scale;
      token.span.style.setProperty("--heat", `${Math.round(Math.min(1, Math.abs(value)) * 100)}%`);
      token.span.classList.toggle("against", value < 0);
      const [seen, added] = [token.projections[place], pushed(token)];
      const share = (seen / probe.residual_norm).toFixed(2);
      token.span.title = `projection ${seen.toFixed(2)}, ${share} of the residual norm${added ? `; ${added.toFixed(2)} of it is the push` : ""}`;
    }
    this.says.textContent = `projection on ${probe.name}, against the base text's mean`;
  }
}
