// Charts come from the server as Vega-Lite; here they get the page's colours and run without eval.

const FILES = ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"];
const drawn = new Map();
let loaded;

function load(file) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { async: false, src: `/static/vendor/${file}`, onload: resolve, onerror: () => reject(new Error(`${file} did not load`)) });
    document.head.append(script);
  });
}

/** Have the chart libraries come, all at once and in order; the first caller starts it. */
export const libraries = () => (loaded ??= Promise.all(FILES.map(load)));

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

/** Draw a Vega-Lite chart into `place`; `clicked` hears the data of a mark. */
export async function draw(place, chart, clicked) {
  await libraries();
  drawn.get(place)?.result?.finalize();
  drawn.set(place, { chart, clicked });
  const { config: _, ...spec } = { width: "container", ...chart };
  const options = { actions: false, ast: true, renderer: "svg", config: colours(), tooltip: { theme: document.documentElement.dataset.theme } };
  const result = await globalThis.vegaEmbed(place, spec, options);
  drawn.set(place, { chart, clicked, result });
  if (clicked) result.view.addEventListener("click", (event, item) => item?.datum && clicked(item.datum));
  return result.view;
}

addEventListener("themechange", () => {
  for (const [place, { chart, clicked }] of drawn) {
    if (place.isConnected) draw(place, chart, clicked);
    else drawn.delete(place);
  }
});
