// Steer: vectors with a slider each, a prompt, and what the model says without and with them.

import { stream } from "./api.js";
import { Card, called, libraryOf } from "./cards.js";
import { asCommand, asCurl, asExpression, asPython, asSpec, described } from "./copy.js";
import { $, field, h, notice } from "./dom.js";
import { evidence } from "./evidence.js";
import { Output } from "./output.js";

const cards = [];
const output = new Output();
let page, library, running, colour;
let ui = {};

async function start(element, given) {
  page = given;
  ui = controls();
  element.append(h("div.bench", {}, h("div.stack.side", {}, ui.vectors, ui.add), h("div.stack.stage", {}, ui.ask, ui.under, output.element, ui.evidence)));
  await modelChanged();
}

function controls() {
  const prompt = h("textarea", { id: "prompt", rows: 2, maxlength: 50000, "aria-label": "Prompt" });
  prompt.value = "Tell me about your day at the seaside.";
  prompt.addEventListener("keydown", (event) => event.key === "Enter" && (event.metaKey || event.ctrlKey) && run());
  const phase = h("select", {}, ["generation", "all", "prompt"].map((value) => h("option", { value }, value)));
  const number = (value, min, max, step) => h("input", { type: "number", value, min, max, step });
  const chat = h("input", { type: "checkbox", checked: true });
  const live = h("input", { type: "checkbox", checked: true });
  const go = h("button.primary.button", { id: "run", title: "Ctrl or ⌘ + Enter", onclick: () => (running ? running.abort() : run()) }, "Steer");
  const system = h("textarea", { rows: 1, maxlength: 50000, placeholder: "none" });
  const parts = { prompt, system, phase, chat, live, go, tokens: number(60, 1, 2048, 1), temperature: number(0.7, 0, 5, 0.1), seed: number(0, 0, 4294967295, 1) };
  const again = h("button.icon", { title: "Another seed", "aria-label": "Another seed", onclick: () => ((parts.seed.value = Math.floor(Math.random() * 1e6)), run()) }, "⚄");
  const settings = h("div.row.settings", {}, field("System prompt", system, { class: "field system" }), field("Phase", phase), field("Tokens", parts.tokens), field("Temperature", parts.temperature),
    field("Seed", h("span.row.tight", {}, parts.seed, again)), h("label.check", {}, chat, "chat template"), h("label.check", { title: "Run again when a slider is let go" }, live, "live"));
  const ask = h("div.card.ask", {}, h("div.promptline", {}, prompt, go), settings);
  const status = h("span.small.soft.num", { id: "status", role: "status" });
  const copies = h("span.row.tight", {}, h("span.small.soft", {}, "Copy as"), ...["CLI", "Python", "curl", "Expression", "Spec"].map((kind) => h("button.quiet.small", { onclick: () => copy(kind) }, kind)));
  const picker = h("select", { id: "picker", "aria-label": "Add a vector of the library", onchange: () => pick(picker) });
  const typed = h("button.button", { id: "type-contrast", onclick: () => addCard({ contrast: true }, true) }, "Type a contrast");
  return { ...parts, ask, status, under: h("div.row.under", {}, output.legend, h("span.grow"), status, copies), vectors: h("div.stack", { id: "vectors" }),
    picker, add: h("div.row.adders", {}, picker, typed), evidence: h("div", { id: "evidence" }) };
}

async function modelChanged() {
  running?.abort();
  for (const card of [...cards]) removed(card, false);
  library = await libraryOf(page.model);
  fillPicker();
  const first = library.find((row) => row.verdict === "works") ?? library.find((row) => row.verdict) ?? library[0];
  addCard(first ? { vector: first } : { contrast: true, positive: "I love this, it is wonderful", negative: "I hate this, it is terrible" });
  output.clear();
  ui.status.textContent = "";
}

function fillPicker() {
  const groups = new Map();
  for (const row of library) groups.set(called(row), [...(groups.get(called(row)) ?? []), row]);
  const label = (row) => `layer ${row.layer} · ${row.method.replaceAll("_", " ")}${row.verdict ? ` · ${row.verdict}` : ""}`;
  const options = [...groups].map(([name, rows]) => h("optgroup", { label: name }, rows.map((row) => h("option", { value: row.vector_id }, `${name} · ${label(row)}`))));
  ui.picker.replaceChildren(h("option", { value: "" }, library.length ? "Add a vector…" : "The library is empty"), ...options);
}

function pick(picker) {
  const row = library.find((one) => one.vector_id === picker.value);
  picker.value = "";
  if (row) addCard({ vector: row }, true);
}

function addCard(given, focus) {
  if (cards.length >= 8) return notice("Eight vectors at once are the most.");
  const hooks = { changed: () => {}, settled, removed, coloured, saved: refresh };
  const card = new Card(given, page, hooks);
  cards.push(card);
  ui.vectors.append(card.element);
  coloured(card);
  if (focus) (card.positive ?? card.slider).focus();
  return card;
}

function removed(card) {
  cards.splice(cards.indexOf(card), 1);
  card.element.remove();
  if (colour === card && cards.length) coloured(cards[0]);
  if (!cards.length) ui.evidence.replaceChildren();
}

function coloured(card) {
  colour = card;
  $("input", card.swatch).checked = true;
  output.colourBy(cards.indexOf(card));
  evidence(ui.evidence, card, page);
}

function settled() {
  if (ui.live.checked && output.rows.length) run();
}

async function refresh() {
  library = await libraryOf(page.model);
  fillPicker();
}

function request() {
  for (const [name, input] of Object.entries({ Tokens: ui.tokens, Temperature: ui.temperature, Seed: ui.seed })) {
    if (!input.value || !input.checkValidity()) throw new Error(`${name}: ${input.validationMessage || "give a number"}`);
  }
  const steering = { vectors: cards.map((card) => card.use()), phase: ui.phase.value };
  const sampling = { max_tokens: Number(ui.tokens.value), temperature: Number(ui.temperature.value), seed: Number(ui.seed.value) };
  const system = ui.system.value.trim() ? { system: ui.system.value } : {};
  return { model: page.model.name, prompt: ui.prompt.value, ...system, chat: ui.chat.checked, steering, ...sampling };
}

async function run() {
  running?.abort();
  const mine = (running = new AbortController());
  output.clear();
  ui.go.textContent = "Stop";
  ui.status.textContent = "asking…";
  try {
    const body = request();
    for await (const event of stream("/api/steer", body, mine.signal)) if (running === mine) heard(event);
  } catch (error) {
    if (error.name !== "AbortError") output.failed(error.message);
    else if (running === mine) ui.status.textContent = "stopped";
  }
  if (running !== mine) return;
  running = null;
  output.ended();
  ui.go.textContent = "Steer";
}

function heard(event) {
  if (event.event === "queued") ui.status.textContent = event.position ? `${event.position} ahead in the queue` : "next in the queue";
  else if (event.event === "start") {
    ui.status.textContent = `${event.prompt_tokens} tokens read`;
    output.panes.steered.note.textContent = cards.map((card) => `${described(card)} ${card.value >= 0 ? "+" : "−"}${Math.abs(card.value).toFixed(2)}`).join(", ") || "by nothing";
    output.begin(event, cards.map(described));
  } else if (event.event === "token") output.add(event);
  else if (event.event === "done") ui.status.textContent = `${event.tokens.reduce((a, b) => a + b, 0)} tokens, ${(event.tokens.reduce((a, b) => a + b, 0) / event.seconds).toFixed(0)} a second`;
  else if (event.event === "error") {
    ui.status.textContent = "";
    output.failed(event.message);
  }
}

async function copy(kind) {
  try {
    const body = request();
    const forms = { CLI: () => asCommand(body), Python: () => asPython(body, location.origin), curl: () => asCurl(body, location.origin), Expression: () => asExpression(body), Spec: () => asSpec(body, cards) };
    await navigator.clipboard.writeText(await forms[kind]());
    notice(`Copied as ${kind}.`);
  } catch (error) {
    notice(error.message);
  }
}

/** Steer with the vector, or the sum of vectors, that another view chose. */
async function shown(given) {
  if (!given) return;
  await refresh();
  const wanted = given.vector_id ? [{ key: given.vector_id, dose: given.dose }] : summed(given.expression);
  const found = wanted.map(({ key, alpha, dose }) => ({ vector: library.find((one) => one.vector_id === key), alpha, dose }));
  if (!found.length) return notice("That is more than a sum of vectors: steer with it as an expression.");
  if (found.some((one) => !one.vector)) return notice("That vector is not in this model's library.");
  for (const card of [...cards]) removed(card);
  for (const { vector, alpha, dose } of found) addCard({ vector, dose: dose ?? (alpha * vector.norm) / vector.residual_norm });
  run();
}

/** The vectors of a sum such as `0.6*KEY - 0.4*KEY @generation`, with their alphas; none where it is more than that. */
function summed(expression) {
  const parts = expression.replace(/ @generation$/, "").replaceAll(" - ", " + -").split(" + ");
  const found = parts.map((part) => /^(-?[\d.]+(?:e[+-]?\d+)?)\*([0-9a-f]{20})$/.exec(part));
  return found.every(Boolean) ? found.map(([, alpha, key]) => ({ key, alpha: Number(alpha) })) : [];
}

export const steer = { start, shown, modelChanged };
