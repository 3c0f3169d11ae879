// Two texts that grow side by side, their tokens coloured by projection, with a track for each vector that reads along.

import { h } from "./dom.js";
import { scaleOf, Tracks } from "./tracks.js";

const QUANTILE = 0.95;

/** A pane a row, and the numbers behind the colours. */
export class Output {
  constructor() {
    this.panes = { base: this.pane("base", "Base", "the model as it is"), steered: this.pane("steered", "Steered", "") };
    this.element = h("div.panes", {}, this.panes.base.element, this.panes.steered.element);
    this.own = h("input", { type: "checkbox", checked: true, onchange: () => this.paint() });
    const own = h("label.check.small", { title: "Take away what the steering itself adds at this layer: what is left is the text's own" }, this.own, "less the push");
    this.legend = h("div.legend.small.soft", { hidden: true }, h("span.swatch"), (this.says = h("span")), own);
    this.panes.steered.element.querySelector("header").after((this.cautions = h("p.small.caution", { role: "status", hidden: true })));
    this.clear();
  }

  pane(row, title, about) {
    const past = h("div.past", { hidden: true, onscroll: () => past.classList.toggle("more", past.scrollTop > 1), tabindex: 0, role: "log", "aria-label": `${title} conversation` });
    const text = h("div.text", { "aria-live": "off", tabindex: 0, role: "region", "aria-label": `${title} text` });
    const note = h("span.small.soft.note", {}, about);
    const tracks = new Tracks(row, (at) => this.point(row, at));
    const element = h("article.card.pane", {}, h("header", {}, h("h2", {}, title), note), past, text, tracks.element);
    return { element, past, text, note, tracks, tokens: [] };
  }

  clear() {
    this.tokens = [];
    this.rows = [];
    this.probes = [];
    this.watched = [];
    this.cautioned([]);
    for (const pane of Object.values(this.panes)) {
      pane.tokens = [];
      pane.text.replaceChildren();
      pane.tracks.begin([]);
      pane.element.classList.remove("done", "diverged");
    }
  }

  /** Show the turns that are over, and what is asked now. */
  remember(turns, prompt) {
    for (const [row, { past }] of Object.entries(this.panes)) {
      const asked = (text) => h("p.asked", {}, text);
      past.replaceChildren(...turns.flatMap((turn) => [asked(turn.prompt), h("p.answered", {}, turn[row])]), ...(turns.length ? [asked(prompt)] : []));
      past.hidden = !turns.length;
      past.scrollTop = past.scrollHeight;
    }
  }

  /** `names` are those of the vectors that steer, `called` says what a watching vector goes by. */
  begin(start, names, called) {
    this.rows = start.rows;
    this.probes = start.probes.map((probe) => ({ ...probe, key: `use ${probe.use}`, called: names[probe.use] }));
    this.watched = start.watched.map((one) => ({ ...one, key: one.vector_id, called: called(one.vector_id) }));
    this.cautioned(start.warnings);
    this.panes.base.element.hidden = !start.rows.includes("base");
    for (const row of start.rows) {
      this.panes[row].element.classList.add("growing");
      this.panes[row].tracks.begin(this.watched);
    }
    this.paint();
  }

  /** Say what the server thinks is likely unwanted of the steering, such as a dose beyond what was measured as safe. */
  cautioned(warnings) {
    this.cautions.textContent = warnings.join(" ");
    this.cautions.hidden = !warnings.length;
  }

  add({ row, text, projections, finish, verdicts }) {
    const pane = this.panes[this.rows[row]];
    const token = { row, text, projections, span: null };
    const place = pane.tokens.push(token) - 1;
    pane.tracks.add(text, projections.slice(this.probes.length));
    if (text) {
      token.span = h("span.token", { onpointerenter: () => this.point(this.rows[row], place), onpointerleave: () => this.point(this.rows[row], null) }, text);
      this.tokens.push(token);
      pane.text.append(token.span);
      pane.text.scrollTop = pane.text.scrollHeight;
    }
    if (finish) {
      pane.element.classList.remove("growing");
      pane.element.classList.add(finish === "diverged" ? "diverged" : "done");
      if (finish === "diverged") pane.text.append(h("span.error", {}, " ⚠ the residual stream overflowed: less alpha"));
      else if (finish === "length") pane.text.append(h("span.soft", { title: "the token limit" }, " …"));
    }
    if (verdicts) pane.tracks.end(verdicts);
    this.soon();
  }

  /** The whole text of a row, as it was sampled. */
  textOf(row) {
    return this.panes[row].tokens.map((token) => token.text).join("");
  }

  /** Whether every text has come to its end. */
  get complete() {
    return this.rows.length > 0 && this.rows.every((row) => this.panes[row].element.classList.contains("done"));
  }

  ended() {
    for (const { element } of Object.values(this.panes)) element.classList.remove("growing");
  }

  failed(message) {
    this.ended();
    this.panes.steered.text.append(h("p.error", {}, message));
  }

  /** Look at a token of a text: in it, and on its tracks. */
  point(row, at) {
    const pane = this.panes[row];
    pane.text.querySelector(".seen")?.classList.remove("seen");
    if (at !== null) pane.tokens[at]?.span?.classList.add("seen");
    pane.tracks.point(at);
  }

  /** Colour by another vector: `use 0` for the first that steers, its key for one that reads along. */
  colourBy(key) {
    this.chosen = key;
    this.paint();
  }

  soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.paint();
    });
  }

  paint() {
    this.paintTokens();
    const scales = this.watched.map((one, i) => {
      const less = (row) => (this.own.checked && row === "steered" ? one.pushed : 0);
      const of = (row) => this.panes[row].tokens.map((token) => token.projections[this.probes.length + i]).filter(Number.isFinite).map((value) => value - less(row));
      return scaleOf(one, this.rows.includes("base") ? of("base") : [], this.rows.flatMap(of));
    });
    for (const row of this.rows) this.panes[row].tracks.paint(scales, this.own.checked);
  }

  /** Colours: how far each projection lies from the base text's mean, on the scale of the largest. */
  paintTokens() {
    const all = [...this.probes, ...this.watched];
    const place = Math.max(0, all.findIndex((probe) => probe.key === this.chosen));
    const probe = all[place];
    this.legend.hidden = !probe;
    if (!probe) return;
    const pushed = (token) => (this.own.checked && this.rows[token.row] === "steered" ? probe.pushed : 0);
    const of = (token) => token.projections[place] - pushed(token);
    const read = this.tokens.filter((token) => Number.isFinite(token.projections[place])); // null where the stream overflowed
    const base = read.filter((token) => this.rows[token.row] === "base").map(of);
    const every = read.map(of);
    const centred = base.length ? base : every;
    const centre = centred.reduce((sum, value) => sum + value, 0) / (centred.length || 1);
    const far = every.map((value) => Math.abs(value - centre)).sort((a, b) => a - b);
    const scale = far[Math.floor((far.length - 1) * QUANTILE)] || 1;
    for (const token of this.tokens) token.span.style.setProperty("--heat", "0%");
    for (const token of read) {
      const value = (of(token) - centre) / scale;
      token.span.style.setProperty("--heat", `${Math.round(Math.min(1, Math.abs(value)) * 100)}%`);
      token.span.classList.toggle("against", value < 0);
      const [seen, added] = [token.projections[place], pushed(token)];
      const share = (seen / probe.residual_norm).toFixed(2);
      token.span.title = `projection ${seen.toFixed(2)}, ${share} of the residual norm${added ? `; ${added.toFixed(2)} of it is the push` : ""}`;
    }
    this.says.textContent = `projection on ${probe.called}, against the base text's mean`;
  }
}
