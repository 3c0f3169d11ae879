// Steer: vectors with a slider each, a prompt, and what the model says without and with them.

import { stream } from "./api.js";
import { Card, libraryOf } from "./cards.js";
import { asCommand, asCurl, asExpression, asPython, asSpec, described, toClipboard } from "./copy.js";
import { $, field, h, notice } from "./dom.js";
import { evidence } from "./evidence.js";
import { linked, linkTo } from "./link.js";
import { Menu, found } from "./menu.js";
import { Output } from "./output.js";
import { Probes } from "./probes.js";

const cards = [];
const turns = []; // of the conversation, those that are over: {prompt, base, steered}
const output = new Output();
const probes = new Probes({ changed: settled, coloured: (key) => output.colourBy(key) });
const picker = new Menu({ id: "picker", label: "Add a vector of the library", placeholder: "Add a vector…", chosen: (row) => addRecommended(row, true) });
let page, library, running, colour;
let answered; // the prompt that the texts on the page answer: its box may hold the next one already
let steering = []; // the cards that the texts on the page were asked for with, and what was said of them then
let ui = {};

async function start(element, given) {
  page = given;
  probes.most = page.server.most_vectors;
  ui = controls();
  element.append(h("div.bench", {}, h("div.stack.side", {}, ui.vectors, ui.add, probes.element), h("div.stack.stage", {}, ui.ask, ui.under, output.element, ui.evidence)));
  await modelChanged();
  addEventListener("hashchange", () => opened().catch((error) => notice(error.message)));
  await opened();
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
  const reply = h("button.button", { id: "reply", hidden: true, title: "Keep both answers, and say something to them", onclick: goOn }, "Reply");
  const fresh = h("button.quiet.small", { id: "start-over", hidden: true, onclick: startOver });
  const ask = h("div.card.ask", {}, h("div.promptline", {}, prompt, h("div.go", {}, go, reply)), settings);
  const status = h("span.small.soft.num", { id: "status", role: "status" });
  const copies = h("span.row.copies", {}, h("span.small.soft", {}, "Copy as"), ...["Link", "CLI", "Python", "curl", "Expression", "Spec"].map((kind) => h("button.quiet.small", { onclick: () => copy(kind) }, kind)));
  const typed = h("button.button", { id: "type-contrast", onclick: () => addCard({ contrast: {} }, true) }, "Type a contrast");
  return { ...parts, ask, reply, fresh, status, under: h("div.row.under", {}, output.legend, h("span.grow"), status, fresh, copies), vectors: h("div.stack", { id: "vectors" }),
    add: h("div.row.adders", {}, picker.element, typed), evidence: h("div", { id: "evidence" }) };
}

async function modelChanged() {
  running?.abort();
  for (const card of [...cards]) removed(card);
  await refresh();
  const [first] = found(library, "");
  if (first) addRecommended(first);
  else addCard({ contrast: { positive: ["I love this, it is wonderful"], negative: ["I hate this, it is terrible"] } });
  startOver();
  ui.status.textContent = "";
}

function addCard(given, focus) {
  const most = page.server.most_vectors;
  if (cards.length >= most) return notice(`${most} vectors at once are the most.`);
  const card = new Card(given, page, { changed: () => {}, settled, removed, coloured, saved: refresh });
  cards.push(card);
  ui.vectors.append(card.element);
  coloured(card);
  if (focus) (card.positive ?? card.slider).focus();
  return card;
}

/** A card for a vector of the library, or one for each of the vectors that were recommended together with it. */
function addRecommended(row, focus) {
  const parts = row.recommended_with ? stored(summed(row.recommended_with)) : [];
  if (!parts.length || parts.some((one) => !one.vector)) return addCard({ vector: row }, focus);
  parts.forEach(addStored);
}

/** Parts of a sum, each with its vector of the library. */
const stored = (parts) => parts.map((part) => ({ ...part, vector: library.find((one) => one.vector_id === part.key) }));

const addStored = ({ vector, alpha, dose }) => addCard({ vector, dose: dose ?? (alpha * vector.norm) / vector.residual_norm });

function removed(card) {
  cards.splice(cards.indexOf(card), 1);
  card.element.remove();
  if (colour === card && cards.length) coloured(cards[0]);
  if (!cards.length) ui.evidence.replaceChildren();
}

function coloured(card) {
  colour = card;
  $("input", card.swatch).checked = true;
  output.colourBy(placeOf(card));
  evidence(ui.evidence, card, page);
}

/** By which of the vectors that steered a card's colours go: cards may have come and gone since. */
const placeOf = (card) => `use ${steering.findIndex((one) => one.card === card)}`;

function settled() {
  if (ui.live.checked && output.rows.length) run();
}

async function refresh() {
  library = await libraryOf(page.model);
  picker.fill(library);
  probes.fill(library);
}

function request() {
  for (const [name, input] of Object.entries({ Tokens: ui.tokens, Temperature: ui.temperature, Seed: ui.seed })) {
    if (!input.value || !input.checkValidity()) throw new Error(`${name}: ${input.validationMessage || "give a number"}`);
  }
  const steering = { vectors: cards.map((card) => card.use()), phase: ui.phase.value };
  const sampling = { max_tokens: Number(ui.tokens.value), temperature: Number(ui.temperature.value), seed: Number(ui.seed.value) };
  const system = ui.system.value.trim() ? { system: ui.system.value } : {};
  const more = { ...(turns.length ? { history: turns } : {}), ...(probes.keys.length ? { probes: probes.keys } : {}) };
  return { model: page.model.name, prompt: ui.prompt.value, ...system, chat: ui.chat.checked, steering, ...sampling, ...more };
}

async function run() {
  running?.abort();
  const mine = (running = new AbortController());
  output.clear();
  ui.reply.hidden = true;
  ui.go.textContent = "Stop";
  ui.status.textContent = "asking…";
  try {
    const body = request();
    answered = body.prompt;
    steering = cards.map((card) => ({ card, name: described(card), says: `${described(card)} ${card.unit} ${card.value >= 0 ? "+" : "−"}${Math.abs(card.value).toFixed(2)}` }));
    if (colour && $("input", colour.swatch).checked) output.colourBy(placeOf(colour));
    output.remember(turns, body.prompt);
    let last;
    for await (const event of stream("/api/steer", body, mine.signal)) {
      if (running !== mine) return;
      heard((last = event));
    }
    if (running === mine && !["done", "error"].includes(last?.event)) throw new Error("The server stopped in the middle of the text: is `steer explore` still running?");
  } catch (error) {
    if (running !== mine) return;
    if (error.name !== "AbortError") refused(error.message);
    else ui.status.textContent = "stopped";
  }
  if (running !== mine) return;
  running = null;
  output.ended();
  ui.go.textContent = "Steer";
  ui.reply.hidden = !(output.complete && ui.chat.checked);
}

function refused(message) {
  ui.status.textContent = "refused";
  output.failed(message);
}

function heard(event) {
  if (event.event === "queued") ui.status.textContent = event.position ? `${event.position} ahead in the queue` : "next in the queue";
  else if (event.event === "start") {
    ui.status.textContent = `${event.prompt_tokens} tokens read`;
    output.panes.steered.note.textContent = steering.map((one) => one.says).join(", ") || "by nothing";
    output.begin(event, steering.map((one) => one.name), (key) => probes.called(key));
  } else if (event.event === "token") output.add(event);
  else if (event.event === "done") ui.status.textContent = `${event.tokens.reduce((a, b) => a + b, 0)} tokens, ${(event.tokens.reduce((a, b) => a + b, 0) / event.seconds).toFixed(0)} a second`;
  else if (event.event === "error") refused(event.message);
}

/** Keep what was asked and answered as a turn; the next prompt goes on from it, in either conversation. */
function goOn() {
  turns.push({ prompt: answered, base: output.textOf("base"), steered: output.textOf("steered") });
  output.clear();
  output.remember(turns, "");
  if (ui.prompt.value === answered) ui.prompt.value = "";
  ui.prompt.placeholder = "Your next message, to both";
  ui.reply.hidden = true;
  told();
  ui.prompt.focus();
}

function startOver() {
  running?.abort();
  turns.length = 0;
  output.clear();
  output.remember([], "");
  ui.reply.hidden = true;
  ui.prompt.placeholder = "";
  told();
}

/** Say how many turns there are, and offer to begin anew. */
function told() {
  ui.fresh.hidden = !turns.length;
  ui.fresh.textContent = `Start over (${turns.length === 1 ? "1 turn" : `${turns.length} turns`} so far)`;
}

async function copy(kind) {
  try {
    const body = request();
    const { token_from: token } = page.server;
    const forms = { Link: () => linkTo(body), CLI: () => asCommand(body), Python: () => asPython(body, location.origin, token), curl: () => asCurl(body, location.origin, token), Expression: () => asExpression(body), Spec: () => asSpec(body) };
    const made = await forms[kind]();
    await toClipboard(made.text ?? made);
    const reads = token && ["Python", "curl"].includes(kind) ? [`It reads the token that this address was opened with from ${token}.`] : [];
    notice([`Copied as ${kind}.`, ...reads, ...(made.left_out ?? []).map((one) => `Not in it: ${one}.`)].join(" "));
  } catch (error) {
    notice(error.message);
  }
}

/** Open what the address asks for: fill the page, and leave it to the person to run it. */
async function opened() {
  const body = linked();
  if (!body) return;
  if (page.choose(body.model, "steer")) await modelChanged();
  startOver();
  for (const card of [...cards]) removed(card);
  const lacking = [];
  for (const use of body.steering.vectors) {
    const vector = library.find((row) => row.vector_id === use.vector);
    if (use.vector && !vector) lacking.push(use.vector);
    else addCard({ ...(vector ? { vector } : { contrast: use.contrast, layers: use.layers }), operation: use.operation, dose: use.dose ?? use.alpha });
  }
  const texts = { prompt: body.prompt, system: body.system, phase: body.steering.phase, tokens: body.max_tokens, temperature: body.temperature, seed: body.seed };
  for (const [name, value] of Object.entries(texts)) ui[name].value = value ?? "";
  ui.chat.checked = body.chat !== false;
  turns.push(...(Array.isArray(body.history) ? body.history : []));
  output.remember(turns, body.prompt);
  told();
  lacking.push(...probes.keep(Array.isArray(body.probes) ? body.probes : []));
  if (lacking.length) notice(`This model's library lacks ${lacking.map((key) => String(key).slice(0, 8)).join(", ")}: what the link says of them is left out.`);
}

/** Steer with the vector, or the sum of vectors, that another view chose. */
async function shown(given) {
  if (!given) return;
  await refresh();
  const chosen = stored(given.vector_id ? [{ key: given.vector_id, dose: given.dose }] : summed(given.expression));
  if (!chosen.length) return notice("That is more than a sum of vectors: steer with it as an expression, `steer generate --steer`.");
  if (chosen.some((one) => !one.vector)) return notice("That vector is not in this model's library.");
  for (const card of [...cards]) removed(card);
  chosen.forEach(addStored);
  run();
}

/** The vectors of a sum such as `6%*KEY - 0.4*KEY @generation`, each with its dose or alpha; none where it is more. */
function summed(expression) {
  const parts = expression.replace(/ @generation$/, "").replaceAll(" - ", " + -").split(" + ");
  const found = parts.map((part) => /^(-?[\d.]+(?:e[+-]?\d+)?)(%?)\*([0-9a-f]{20})$/.exec(part));
  const strength = (value, percent) => (percent ? { dose: value / 100 } : { alpha: value });
  return found.every(Boolean) ? found.map(([, value, percent, key]) => ({ key, ...strength(Number(value), percent) })) : [];
}

export const steer = { start, shown, modelChanged };
