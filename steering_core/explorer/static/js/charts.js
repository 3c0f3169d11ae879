// Charts come from the server as Vega-Lite; here they get the page's colours and run without eval.

import { notice } from "./dom.js";

const drawn = new Map();

/** Nine colours from one through the middle to another, near enough to each other for any interpolation. */
function ramp(from, middle, to) {
  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const mix = (a, b, share) => `rgb(${rgb(a).map((value, i) => Math.round(value + (rgb(b)[i] - value) * share)).join(",")})`;
  return [0, 0.25, 0.5, 0.75].map((share) => mix(from, middle, share)).concat([0, 0.25, 0.5, 0.75, 1].map((share) => mix(middle, to, share)));
}

/** The page's colours as a Vega configuration. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { labelColor: of("soft"), titleColor: of("soft"), gridColor: of("line"), domainColor: of("line"), tickColor: of("line"), titleFontWeight: 500, labelFontSize: 11, titleFontSize: 11 };
  return {
    background: "transparent", font: style.getPropertyValue("--sans"), view: { stroke: "transparent" }, axis,
    legend: { labelColor: of("soft"), titleColor: of("soft"), titleFontWeight: 500 }, title: { color: of("ink"), anchor: "start" },
    header: { labelColor: of("soft"), titleColor: of("soft") }, rule: { color: of("faint") }, text: { color: of("ink") }, rect: { color: of("faint") },
    range: { diverging: ramp(of("against"), of("sunk"), of("along")), heatmap: ramp(of("sunk"), of("along"), of("along")).slice(0, 5) },
  };
}

const NONE = new Set([null, undefined, "", "null", "undefined", "NaN"]); // what Vega makes of a number that is not there

/** A mark's tooltip: its title, and a row for each number that there is. `written` writes a value without markup. */
function told(value, written) {
  if (typeof value !== "object" || value === null) return written(value);
  const { title, ...rest } = value;
  const rows = Object.entries(rest).filter(([, one]) => !NONE.has(one));
  const table = rows.map(([name, one]) => `<tr><td class="key">${written(name)}</td><td class="value">${written(one)}</td></tr>`);
  return `${title ? `<h2>${written(title)}</h2>` : ""}<table>${table.join("")}</table>`;
}

/** Draw a Vega-Lite chart into `place`; `clicked` hears the data of a mark. */
export async function draw(place, chart, clicked) {
  drawn.get(place)?.result?.finalize();
  drawn.set(place, { chart, clicked });
  const { config: _, ...spec } = { width: "container", ...chart };
  const options = { actions: false, ast: true, renderer: "svg", config: colours(), tooltip: { theme: document.documentElement.dataset.theme, formatTooltip: told } };
  const result = await globalThis.vegaEmbed(place, spec, options);
  drawn.set(place, { chart, clicked, result });
  if (clicked) result.view.addEventListener("click", (event, item) => item?.datum && clicked(item.datum));
  return result.view;
}

/** Run `fill` when `place` comes near the window; what is never looked at is neither asked for nor drawn. */
export function whenSeen(place, fill) {
  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    watch.disconnect();
    fill().catch((error) => notice(error.message));
  }, { rootMargin: "200px" });
  watch.observe(place);
}

addEventListener("themechange", () => {
  for (const [place, { chart, clicked }] of drawn) {
    if (place.isConnected) draw(place, chart, clicked);
    else drawn.delete(place);
  }
});
