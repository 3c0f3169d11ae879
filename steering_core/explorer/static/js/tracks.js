// Tracks: under a text, what each watching vector reads at each token, on the line that its gate draws.

import { commandOf, h, signed } from "./dom.js";

const HEIGHT = 46; // points of a track
const EDGE = 4; // of them above and below the farthest bar
const WIDEST = 16; // points of a bar with its gap
const LEAST = 2.5;
const QUANTILE = 0.98; // of the distances from the line; what lies beyond reaches the edge
const SVG = "http://www.w3.org/2000/svg";

const drawn = (tag, name) => {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute("class", name);
  return element;
};

/** A token as one line shows it. */
export const shown = (text) => (text ? text.replaceAll("\n", "↵").replaceAll("\t", "→") : "∎");

/** From where the bars of a watching vector grow, and how far the farthest reach, over the texts that are compared. */
export function scaleOf(one, base, all) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
  const line = one.threshold ?? mean(base.length ? base : all);
  const far = all.map((value) => Math.abs(value - line)).sort((a, b) => a - b);
  return { line, reach: far[Math.floor((far.length - 1) * QUANTILE)] || 1 };
}

/** One vector's track under one text. */
class Track {
  constructor(one, row, hooks) {
    Object.assign(this, { one, row, hooks, values: [], scale: { line: one.threshold ?? 0, reach: 1 }, less: 0 });
    this.pushed = row === "steered" && Math.abs(one.pushed) > 0.005 ? one.pushed : 0;
    this.svg = drawn("svg", "bars");
    this.above = this.svg.appendChild(drawn("path", "above"));
    this.below = this.svg.appendChild(drawn("path", "below"));
    this.rule = this.svg.appendChild(drawn("line", "rule"));
    this.mark = this.svg.appendChild(drawn("rect", "at"));
    this.box = h("div.lane", { role: "slider", tabindex: 0, "aria-label": `${one.called} along the ${row} text`, "aria-valuemin": 1, "aria-valuemax": 1, "aria-valuenow": 1 }, this.svg);
    this.says = h("span.reading.num");
    this.verdict = h("span.verdict.num");
    const gate = one.threshold === null ? "from the base text's mean" : `gate ${one.threshold.toFixed(2)}`;
    const rule = one.threshold === null ? `No gate was fitted: bars stand on the base text's mean. \`${commandOf("gate")}\` fits one.` : "Bars stand on the gate: above it, a token shows the vector.";
    this.element = h("div.probe-track", { "data-probe": one.name }, h("header", {}, h("b", {}, one.called), h("span.soft", { title: rule }, `layer ${one.layer} · ${gate}`), this.says), this.box, this.verdict);
    this.box.addEventListener("pointermove", (event) => hooks.point(this.tokenAt(event)));
    this.box.addEventListener("pointerleave", () => hooks.point(null));
    this.box.addEventListener("blur", () => hooks.point(null));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.box);
  }

  tokenAt(event) {
    const place = Math.floor((event.clientX - this.box.getBoundingClientRect().left + this.box.scrollLeft) / this.step);
    return Math.max(0, Math.min(this.values.length - 1, place));
  }

  key(event) {
    const last = this.values.length - 1;
    const to = { ArrowRight: (this.at ?? -1) + 1, ArrowLeft: (this.at ?? 1) - 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.hooks.point(Math.max(0, Math.min(last, to)));
  }

  /** Room for half as many tokens again, so that bars do not shrink at each of them; at the end for what there is. */
  get step() {
    const places = this.ended ? this.values.length : Math.max(24, 2 ** Math.ceil(Math.log2(this.values.length * 1.2 + 1)));
    return Math.max(LEAST, Math.min(WIDEST, (this.box.clientWidth || 300) / Math.max(1, places)));
  }

  paint() {
    const { line, reach } = this.scale;
    const half = (HEIGHT - 2 * EDGE) / 2;
    const middle = HEIGHT / 2;
    const step = this.step;
    const wide = Math.max(1, step - (step > 4 ? 1.5 : 0.5));
    const paths = { above: "", below: "" };
    for (const [i, read] of this.values.entries()) {
      if (!Number.isFinite(read)) continue;
      const value = read - this.less;
      const size = Math.max(0.75, Math.min(1, Math.abs(value - line) / reach) * half);
      const side = value > line ? "above" : "below";
      paths[side] += `M${(i * step).toFixed(1)} ${middle}h${wide.toFixed(1)}v${(side === "above" ? -size : size).toFixed(1)}h${(-wide).toFixed(1)}z`;
    }
    const width = Math.max(this.box.clientWidth, Math.ceil(step * this.values.length));
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", HEIGHT);
    this.above.setAttribute("d", paths.above);
    this.below.setAttribute("d", paths.below);
    for (const [name, value] of Object.entries({ x1: 0, x2: width, y1: middle, y2: middle })) this.rule.setAttribute(name, value);
    if (!this.ended) this.box.scrollLeft = width;
    this.place();
  }

  /** Read the token at a place; none where there is none. */
  point(at, text) {
    this.at = at;
    const value = at === null ? undefined : this.values[at];
    const side = this.one.threshold === null || !Number.isFinite(value) ? "" : value > this.one.threshold ? "above" : "below";
    const says = value === undefined ? "" : `${shown(text)} ${signed(value)}`;
    const own = this.pushed && Number.isFinite(value) ? h("span", {}, `, ${signed(value - this.pushed)} less the push`) : "";
    this.says.replaceChildren(...(says ? [h("i", {}, shown(text)), ` ${signed(value)}`, own] : []));
    this.says.className = `reading num ${side}`;
    this.box.setAttribute("aria-valuenow", (at ?? 0) + 1);
    this.box.setAttribute("aria-valuetext", says + (side && `, ${side} the gate`));
    this.place();
  }

  place() {
    const there = this.at !== null && this.at !== undefined;
    this.mark.style.display = there ? "" : "none";
    if (!there) return;
    for (const [name, value] of Object.entries({ x: this.at * this.step - 0.5, y: 0, width: this.step, height: HEIGHT })) this.mark.setAttribute(name, value);
  }

  /** What the vector says of the whole text. */
  end(said) {
    this.ended = true;
    const { mean, above, threshold, false_alarm_rate: alarms } = said;
    const pushed = this.pushed && mean !== null ? `; ${signed(mean - this.pushed)} less the push` : "";
    const badge = above === null ? "" : h(`span.badge.${above ? "shows" : "calm"}`, {}, above ? "above its gate" : "below its gate");
    const bound = threshold === null ? " · no gate" : `${above ? " > " : " ≤ "}${threshold.toFixed(2)}`;
    const wrong = above && alarms !== null ? ` · ${Math.round(100 * alarms)} % false alarms` : "";
    this.verdict.replaceChildren(badge, h("span.soft", {}, mean === null ? "nothing to read" : `mean ${signed(mean)}${bound}${wrong}${pushed}`));
    this.paint();
  }
}

/** The tracks under one text; `pointed` hears which token is looked at. */
export class Tracks {
  constructor(row, pointed) {
    Object.assign(this, { row, pointed, tracks: [], texts: [] });
    this.element = h("div.tracks", { hidden: true });
  }

  begin(watched) {
    for (const track of this.tracks) track.watch.disconnect();
    this.texts = [];
    this.tracks = watched.map((one) => new Track(one, this.row, { point: this.pointed }));
    this.element.replaceChildren(...this.tracks.map((track) => track.element));
    this.element.hidden = !watched.length;
  }

  add(text, values) {
    this.texts.push(text);
    for (const [i, track] of this.tracks.entries()) {
      track.values.push(values[i]);
      track.box.setAttribute("aria-valuemax", track.values.length);
    }
  }

  /** Draw the bars on those scales, `own` without what the steering itself adds. */
  paint(scales, own) {
    for (const [i, track] of this.tracks.entries()) {
      track.scale = scales[i];
      track.less = own ? track.pushed : 0;
      track.paint();
    }
  }

  point(at) {
    for (const track of this.tracks) track.point(at, at === null ? "" : this.texts[at]);
  }

  end(verdicts) {
    for (const track of this.tracks) track.end(verdicts[track.one.name]);
  }
}
