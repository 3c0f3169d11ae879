// The evidence beside the slider: dose-response, promoted tokens, nearest prompts of the vector in hand.

import { get } from "./api.js";
import { OPERATIONS } from "./cards.js";
import { draw } from "./charts.js";
import { commandOf, fixed, h, signed, termed } from "./dom.js";

let latest = 0;

/** How a vector that no concept's run made is measured: `name` is what it goes by. */
const measuring = (name) => `A spec measures it beside its own grid, on the items of its concept: generations: {expressions: ["${Math.round(100 * OPERATIONS.add.start)}%*${name}"]}, then ${commandOf("run")}`;

/** Fill `place` with what is known of the card's vector. */
export async function evidence(place, card, page) {
  const turn = ++latest;
  const row = card.vector;
  if (!row) return place.replaceChildren(h("p.small.soft.hint", {}, `A typed contrast is steered with at once. To have its effect and damage measured, save it under a name. ${measuring("NAME")}`));
  const parts = [response(row), meaning(row, page), prompts(row)];
  place.replaceChildren(h("div.evidence", {}, parts.map((part) => part.element)));
  for (const part of parts) {
    part.fill().catch((error) => {
      if (turn === latest) part.body.replaceChildren(h("p.small.soft", {}, error.message));
    });
  }
}

function section(title, fill) {
  const body = h("div");
  const element = h("section.card", {}, h("header", {}, h("h2", {}, termed(title))), body);
  return { element, body, fill: () => fill(body, element) };
}

function response(row) {
  return section("Dose and effect", async (body, element) => {
    if (!row.concept_id) return void body.replaceChildren(h("p.small.soft", {}, `Not measured by itself. ${measuring(row.name ?? row.vector_id)}`));
    const found = await get("/api/charts/dose_response", { model_id: row.model_id, concept_id: row.concept_id });
    if (found.not_drawn) element.append(h("p.small.soft.not-drawn", {}, found.not_drawn));
    if (found.chart) await draw(body, found.chart);
    else body.replaceChildren(h("p.small.soft", {}, "Not measured yet: a run measures it."));
  });
}

function prompts(row) {
  return section("Nearest stored prompts", async (body, element) => {
    const found = await get("/api/rows/prompts_along_vector", { vector_id: row.vector_id });
    if (!found.length) return void element.remove();
    const half = Math.ceil(found.length / 2);
    const side = (name, rows) => h("ol.near", {}, rows.map((one) => h("li", {}, h(`b.num.${name}`, {}, signed(one.projection, 1)), h("span", {}, one.text))));
    body.replaceChildren(h("h3", {}, "furthest along"), side("along", found.slice(0, half).slice(0, 5)), h("h3", {}, "furthest against"), side("against", found.slice(half).slice(-5)));
  });
}

function meaning(row, page) {
  return section("Tokens it promotes", async (body, element) => {
    const found = await get("/api/promoted", { model: page.model.name, vector: row.vector_id });
    if (!found.length) return void element.remove();
    const chips = (side) => h("p.chips", {}, found.filter((one) => one.side === side).map((one) => h(`span.chip.${side}`, { title: fixed(one.logit, 3) }, one.token)));
    body.replaceChildren(h("h3", {}, "promoted"), chips("promoted"), h("h3", {}, "suppressed"), chips("suppressed"));
  });
}
