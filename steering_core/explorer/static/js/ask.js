// Ask: SQL over the store's views, with the named queries as examples.

import { file, get, post } from "./api.js";
import { h, notice, table } from "./dom.js";

const FIRST = "SELECT model, concept, method, array_to_string(layers, ', ') AS layers, round(dose, 2) AS dose, round(effect, 3) AS effect,\n       round(over_controls, 3) AS over_controls, n\nFROM leaderboard\nWHERE control IS NULL\nORDER BY over_controls DESC NULLS LAST\nLIMIT 20";
const SHORT = 28; // letters of a value that stays on one line
let page, box, answer, cell;
let asked = 0; // an answer that another question overtook is not shown

async function start(element, given) {
  page = given;
  box = h("textarea.mono", { id: "sql", rows: 8, spellcheck: "false", maxlength: 20000, "aria-label": "SQL" });
  box.value = FIRST;
  box.addEventListener("keydown", (event) => event.key === "Enter" && (event.metaKey || event.ctrlKey) && run());
  answer = h("div", { id: "answer", "aria-live": "polite" });
  const [queries, cells] = await Promise.all([get("/api/queries"), get("/api/rows/leaderboard")]);
  cell = cells.find((row) => row.model === page.model.name) ?? cells[0] ?? {};
  const examples = h("div.stack.examples", {}, h("h2", {}, "Named queries"), h("p.small.soft", {}, "Reports, CLI and this page ask these."),
    queries.map((query) => h("button.example", { onclick: () => ((box.value = filled(query)), run()) }, h("b.mono", {}, query.name), h("span.small.soft", {}, query.says))));
  const buttons = h("div.row", {}, h("button.primary.button", { id: "ask-run", title: "Ctrl or ⌘ + Enter", onclick: run }, "Ask"),
    h("span.small.soft", {}, "one SELECT, read-only, 10 s"), h("span.grow"), ...["csv", "parquet"].map((form) => h("button.quiet", { onclick: () => download(form) }, form.toUpperCase())));
  element.append(h("div.bench.asking", {}, h("div.stack", {}, h("div.card.stack", {}, box, buttons), answer), examples));
  run();
}

/** A named query with its parameters written in, from the best candidate of this model. */
function filled(query) {
  const lines = query.sql.split("\n");
  const at = lines.findIndex((line) => !line.startsWith("--"));
  let place = 0;
  const quoted = (value) => (typeof value === "number" ? value : `'${String(value ?? "").replaceAll("'", "''")}'`);
  const sql = lines.slice(at).join("\n").replace(/\?/g, () => quoted(cell[query.parameters[place++]]));
  return [...lines.slice(0, at), sql].join("\n").trim();
}

async function run() {
  const turn = ++asked;
  const show = (...shown) => turn === asked && answer.replaceChildren(h("section.card", {}, ...shown));
  try {
    const found = await post("/api/sql", { sql: box.value, max_rows: 200 });
    const numeric = (name) => /int|float|double|decimal/.test(found.types[name]) && !found.types[name].startsWith("list");
    const columns = found.columns.map((name) => [name, (row) => shown(row[name]), numeric(name)]);
    const count = found.cut ? `the first ${found.rows.length} rows; more were left out` : `${found.rows.length} rows`;
    show(h("header", {}, h("span.small.soft", {}, count)), table(columns, found.rows));
  } catch (error) {
    show(h("pre.error", {}, error.message));
  }
}

function shown(value) {
  if (value === null || value === undefined) return h("span.soft", {}, "–");
  if (Array.isArray(value) && value.length > 6) return `[${value.slice(0, 4).map((one) => JSON.stringify(one)).join(", ")}, … ${value.length}]`;
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  const text = typeof value === "object" ? JSON.stringify(value) : String(value).slice(0, 600);
  return text.length > SHORT ? h("span.long", {}, text) : text;
}

async function download(format) {
  try {
    const { blob, cut } = await file("/api/sql/download", { sql: box.value, format });
    const url = URL.createObjectURL(blob);
    const link = h("a", { href: url, download: `steerflow.${format}` });
    link.click();
    if (cut) notice(`The file has the first ${Number(cut).toLocaleString("en")} rows; more were left out. \`steer sql\` writes all of them.`);
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } catch (error) {
    notice(error.message);
  }
}

export const ask = { start };
