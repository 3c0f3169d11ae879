// Look: what was found and how well it is proved. All rows and charts are the reports' own.

import { get } from "./api.js";
import { draw, whenSeen } from "./charts.js";
import { $, commandOf, fixed, h, meaning, notice, signed, table, termed, verdict } from "./dom.js";
import { showTexts } from "./texts.js";

const AGAIN = 10_000; // milliseconds between two looks at the store
let page, root, board, told;
let cut; // whether the store's leaderboard has more rows than the page was given
let opened; // the recommendation whose evidence is shown
const tell = (error) => notice(error.message);

async function start(element, given) {
  [root, page] = [element, given];
  await fill();
}

const asked = () => get("/api/look", { model: localStorage.getItem("model") });

async function fill(answer) {
  const found = answer ?? (await asked());
  told = JSON.stringify(found);
  const { recommended, runs, first } = found;
  [board, cut] = [found.leaderboard, found.leaderboard_cut];
  again();
  if (!recommended.length) {
    root.replaceChildren(h("div.stack.wide", {}, h("p.empty", { role: "status" }, none(found.so_far)), runs.length ? history(runs) : ""));
    return;
  }
  const detail = h("div.stack", { id: "detail" });
  root.replaceChildren(h("div.stack.wide", {}, h("div.tiles", { role: "list" }, tiles(recommended, detail)), detail, history(runs)));
  await open(mineFirst(recommended)[0], detail, first);
}

const mineFirst = (recommended) => [true, false].flatMap((mine) => recommended.filter((row) => (row.model === page.model.name) === mine));
const tiles = (recommended, detail) => mineFirst(recommended).map((row) => tile(row, detail));

let waiting;
/** Look again after a while, as long as this view is looked at. */
function again() {
  clearTimeout(waiting);
  waiting = setTimeout(() => (root.hidden || document.hidden ? again() : shown().catch(again)), AGAIN);
}

/** Show what the store holds now, where that is other than what is shown: a run may have gone on. */
async function shown() {
  const found = await asked();
  const detail = $("#detail", root);
  if (JSON.stringify(found) === told) again();
  else if (detail && found.recommended.length) await renew(found, detail);
  else await fill(found);
}

/** Show what has come to be recommended, and leave the evidence that is being read as it is, unless it is no longer what is recommended. */
async function renew(found, detail) {
  const before = JSON.parse(told).recommended.map((row) => row.recommendation_id);
  told = JSON.stringify(found);
  [board, cut] = [found.leaderboard, found.leaderboard_cut];
  again();
  const focused = document.activeElement?.dataset.key;
  $(".tiles", root).replaceChildren(...tiles(found.recommended, detail));
  if (focused) $(`.tile[data-key="${focused}"]`, root)?.focus();
  $("#runs", root).replaceWith(history(found.runs));
  const came = found.recommended.filter((row) => !before.includes(row.recommendation_id));
  if (came.length) notice(`Recommended just now: ${came.map((row) => row.concept).join(", ")}.`);
  const still = found.recommended.some((row) => row.recommendation_id === opened.recommendation_id);
  const same = found.recommended.find((row) => row.model_id === opened.model_id && row.concept_id === opened.concept_id);
  if (still) mark(opened);
  else await open(same ?? mineFirst(found.recommended)[0], detail);
}

/** What there is before the first recommendation. */
function none(soFar) {
  if (board.length) {
    const so = board.length === 1 ? "One intervention is" : `${board.length} interventions are`;
    return [`Nothing is recommended yet: ${so} measured so far, and a run recommends at its end (one that was stopped goes on with the same command). Ask shows the numbers: `, h("code", {}, "SELECT * FROM leaderboard"), "."];
  }
  if (soFar) return `Nothing is recommended yet. A run that is under way, or was stopped, has stored ${soFar} so far: its candidates stand here once they are scored. One that was stopped goes on with the same command.`;
  return ["Nothing was measured yet: ", h("code", {}, commandOf("run")), " fills this page."];
}

/** `layer 21, dose +0.30`, or `layers 15, 18, dose +0.30` where several are steered at once. */
function where(row) {
  return `layer${row.layers.includes(",") ? "s" : ""} ${row.layers}, dose ${dose(row)}`;
}

const dose = (row) => (row.dose === null ? "–" : signed(row.dose));

function tile(row, detail) {
  const interval = row.effect_low === null ? "" : ` [${signed(row.effect_low)}, ${signed(row.effect_high)}]`;
  const numbers = row.effect === null ? row.reason : where(row);
  return h("button.card.tile", { role: "listitem", "data-key": row.recommendation_id, onclick: () => open(row, detail).catch(tell) },
    h("span.row", {}, h("b", {}, row.concept), verdict(row.verdict)),
    h("span.effect.num", {}, signed(row.effect), h("small.soft", {}, interval)),
    h("span.small.soft.num", {}, numbers),
    h("span.small.soft", {}, row.model.split("/").pop()));
}

/** Have the tile of that recommendation be the one that is looked at. */
function mark(row) {
  for (const other of root.querySelectorAll(".tile")) other.setAttribute("aria-current", other.dataset.key === row.recommendation_id);
}

/** Show the evidence of a recommendation; `first` may hold its heat map already. */
async function open(row, detail, first) {
  opened = row;
  mark(row);
  const ids = { model_id: row.model_id, concept_id: row.concept_id };
  const [heat, response] = [chart("Layer and dose", "A click shows a cell's texts."), chart("Dose and effect", "The band is what random directions did.")];
  const [bound, profile] = [chart("Effect and damage", "The line is the bound on perplexity."), chart("By layer", "The greatest effect within the damage bounds.")];
  const [stable, alike] = [chart("Stability", "Two halves of the pairs, one direction?"), chart("Directions", `Cosine at layer ${row.first_layer}.`)];
  const beside = chart("Side effects", "What each recommendation does to every concept's items; a star is more than chance.", ".wide-chart");
  const tokens = chart("Tokens", "How far each lies along the vector, as the untouched model reads a sample text.");
  const texts = h("section.card", { id: "texts", hidden: true });
  const again = () => heat.fill("layer_by_dose", ids, cell);
  const cell = (datum) => datum.intervention_id && showTexts(texts, { ...ids, model: row.model, intervention_id: datum.intervention_id }, where, again).catch(tell);
  heat.element.classList.add("heat");
  heat.element.append(...reading());
  detail.replaceChildren(summary(row), h("div.pair", {}, heat.element, response.element), texts, leaderboard(row, cell), beside.element, tokens.element, h("div.pair", {}, bound.element, profile.element, stable.element, alike.element));
  const known = first?.model_id === ids.model_id && first.concept_id === ids.concept_id;
  await heat.fill("layer_by_dose", ids, cell, known ? first.layer_by_dose : undefined);
  for (const [one, name, given] of [
    [response, "dose_response", ids], [bound, "frontier", ids], [profile, "layer_profile", ids], [stable, "stability", ids],
    [beside, "side_effects", ids], [alike, "similarity", { model_id: row.model_id, layer: row.first_layer }], [tokens, "token_projection", { recommendation_id: row.recommendation_id }],
  ]) whenSeen(one.element, () => one.fill(name, given));
}

function summary(row) {
  const steer = h("button.button", { onclick: () => page.show("steer", { vector_id: row.vector_id, expression: row.intervention, dose: row.dose }) }, "Steer with it");
  return h("section.row.summary", {}, h("h2", {}, row.concept), verdict(row.verdict), h("span.grow"), steer, h("p.said", {}, h("b", {}, row.says), " ", h("span.soft", {}, row.numbers)));
}

/** How the heat map and the numbers beside it are read. */
function reading() {
  const key = h("p.small.soft.heat-key", {}, h("span.dot"), "texts were sampled", h("span.pale"), "hardly any effect", h("span.gap"), "no candidate was tried there");
  const terms = ["effect", "interval", "n", "dose", "over_controls", "perplexity_ratio"].map((word) => [h("dt", {}, word.replaceAll("_", " ")), h("dd", {}, meaning(word))]);
  return [key, h("details.small.reading", {}, h("summary", {}, "What the numbers say"), h("dl", {}, terms))];
}

function chart(title, about, kind = "") {
  const body = h(`div.chart${kind}`);
  const element = h("section.card", {}, h("header", {}, h("h2", {}, termed(title)), h("span.small.soft", {}, about)), h("div.scroll", {}, body));
  const missing = h("p.small.soft.not-drawn", { hidden: true });
  element.append(missing);
  const fill = async (name, parameters, clicked, known) => {
    const found = known ?? (await get(`/api/charts/${name}`, parameters));
    element.hidden = found.rows < (name === "similarity" ? 4 : 1);
    missing.textContent = found.not_drawn;
    missing.hidden = !found.not_drawn;
    if (!element.hidden) await draw(body, found.chart, clicked);
  };
  return { element, fill };
}

const SHOWN = 12; // rows of the leaderboard before all are asked for

/** Test before validation, then what more items were asked for, then the greatest effect: few items flatter. */
const order = (a, b) => a.split.localeCompare(b.split) || b.n + b.n_missing - (a.n + a.n_missing) || b.effect - a.effect;

/** A row's layers, and below them a word on the row that the recommendation is about. */
function layers(one, row) {
  if (one.intervention_id !== row.intervention_id) return one.layers;
  const mark = ["works", "weak"].includes(row.verdict) ? h("span.badge.works", {}, "recommended") : verdict(row.verdict);
  return [one.layers, h("span.mark-of", {}, mark)];
}

/** Candidates beside the recommended one; a phone shows the first three columns, the others behind a sideways scroll. */
function leaderboard(row, cell) {
  const rows = board.filter((one) => one.model_id === row.model_id && one.concept_id === row.concept_id).sort(order);
  const interval = (one) => h("small.soft", {}, one.effect_low === null ? "" : `[${signed(one.effect_low)}, ${signed(one.effect_high)}]`);
  const columns = [
    ["layers", (one) => layers(one, row)], ["dose", (one) => dose(one), true],
    ["effect", (one) => h("span.with-interval", {}, signed(one.effect, 3), " ", interval(one)), true],
    ["split", (one) => one.split], ["n", (one) => one.n, true], ["over controls", (one) => signed(one.over_controls, 3), true],
    ["perplexity ratio", (one) => fixed(one.perplexity_ratio), true], ["method", (one) => one.method.replaceAll("_", " ")],
  ];
  const body = h("div.board");
  const about = h("span.small.soft");
  const all = h("button.quiet.small", { hidden: rows.length <= SHOWN, onclick: () => show(rows.length) }, `Show all ${rows.length}`);
  const show = (n) => {
    about.textContent = `${n < rows.length ? `the first ${n} of ${rows.length}` : `all ${rows.length}`}: test before validation, more items before fewer; choose a row for its texts`;
    if (cut) about.textContent += `. Only the first ${board.length.toLocaleString("en")} candidates of the store are here, of all concepts together: Ask finds the others`;
    all.hidden = n >= rows.length;
    body.replaceChildren(table(columns, rows.slice(0, n), cell));
  };
  show(Math.min(SHOWN, rows.length));
  return h("section.card", { id: "leaderboard" }, h("header", {}, h("h2", {}, "Leaderboard"), about), body, all);
}

function history(runs) {
  const share = (run) => {
    const stages = Object.values(JSON.parse(run.stages));
    const [computed, reused] = ["computed", "reused"].map((what) => stages.reduce((sum, stage) => sum + stage[what], 0));
    const bar = h("span.bar-of", { title: `${computed} computed, ${reused} reused` });
    bar.style.setProperty("--share", `${(100 * reused) / Math.max(1, computed + reused)}%`);
    return h("span.row.tight", {}, bar, h("span.num.small.soft", {}, `${Math.round((100 * reused) / Math.max(1, computed + reused))} %`));
  };
  const columns = [["run", (run) => run.name], ["started", (run) => new Date(run.started_at).toLocaleString()], ["seconds", (run) => fixed(run.seconds, 1), true],
    ["outcome", (run) => run.outcome], ["recommendations", (run) => run.recommendations, true], ["reused", share]];
  return h("section.card", { id: "runs" }, h("header", {}, h("h2", {}, "Runs"), h("span.small.soft", {}, "what was reused was not computed again")), table(columns, runs.slice(0, 20)));
}

export const look = { start, shown, modelChanged: () => root && fill() };
