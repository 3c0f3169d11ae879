// Charts come from the server as Vega-Lite; here they get the page's colours and run without eval.

const FILES = ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"];
const drawn = new Map();
let loaded;

function load(file) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: `/static/vendor/${file}`, onload: resolve, onerror: () => reject(new Error(`${file} did not load`)) });
    document.head.append(script);
  });
}

const libraries = () => (loaded ??= FILES.reduce((before, file) => before.then(() => load(file)), Promise.resolve()));

/** The page's colours as a Vega configuration. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { labelColor: of("soft"), titleColor: of("soft"), gridColor: of("line"), domainColor: of("line"), tickColor: of("line"), titleFontWeight: 500, labelFontSize: 11, titleFontSize: 11 };
  return {
    background: "transparent", font: style.getPropertyValue("--sans"), view: { stroke: "transparent" }, axis,
    legend: { labelColor: of("soft"), titleColor: of("soft"), titleFontWeight: 500 }, title: { color: of("ink"), anchor: "start" },
    header: { labelColor: of("soft"), titleColor: of("soft") }, rule: { color: of("faint") }, text: { color: of("ink") }, rect: { color: of("faint") },
    range: { diverging: [of("against"), of("sunk"), of("along")], heatmap: [of("sunk"), of("along")] },
  };
}

/** Draw a Vega-Lite chart into `place`; `clicked` hears the data of a mark. */
export async function draw(place, chart, clicked) {
  await libraries();
  drawn.get(place)?.result?.finalize();
  drawn.set(place, { chart, clicked });
  const { config: _, ...spec } = chart;
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
