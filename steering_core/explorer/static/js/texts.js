// The texts of a cell of the heat map, and an offer to sample them where a run did not.

import { get, stream } from "./api.js";
import { h, table } from "./dom.js";

/** Show a cell's texts in `element`. `cell` is {model, model_id, concept_id, intervention_id}; `sampled` hears of new ones. */
export async function showTexts(element, cell, where, sampled) {
  element.dataset.cell = cell.intervention_id;
  element.setAttribute("aria-busy", "true");
  const { model, ...ids } = cell;
  const isLatest = () => element.dataset.cell === cell.intervention_id; // no other cell was chosen meanwhile
  const rows = await get("/api/rows/texts_of_intervention", ids).finally(() => isLatest() && element.removeAttribute("aria-busy"));
  if (!isLatest()) return;
  element.hidden = false;
  element.replaceChildren(...(rows.length ? found(rows, where) : offer(element, cell, where, sampled)));
  element.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function found(rows, where) {
  const columns = [["prompt", (row) => row.prompt], ["base", (row) => h("span.said", {}, row.base ?? "–")], ["steered", (row) => h("span.said", {}, row.steered)]];
  return [h("header", {}, h("h2", {}, "Texts"), h("span.small.soft.num", {}, where(rows[0]))), table(columns, rows)];
}

function offer(element, cell, where, sampled) {
  const status = h("span.small.soft.num", { role: "status" });
  const button = h("button.button", { onclick: async () => {
    button.disabled = true;
    status.textContent = "asking…";
    try {
      await sample(cell, (text) => (status.textContent = text));
      await sampled();
      await showTexts(element, cell, where, sampled);
    } catch (error) {
      status.textContent = error.message;
      button.disabled = false;
    }
  } }, "Sample them now");
  const about = "No texts were sampled for this cell: a run samples them for its shortlist alone.";
  return [h("header", {}, h("h2", {}, "Texts"), h("span.small.soft", {}, about)), h("div.row", {}, button, status)];
}

async function sample({ model, concept_id, intervention_id }, told) {
  for await (const event of stream("/api/texts", { model, concept_id, intervention_id })) {
    if (event.event === "error") throw new Error(event.message);
    told(`${event.done} of ${event.of} prompts answered, with and without the steering`);
  }
}
