// What is on the page, as code that does the same elsewhere.

import { post } from "./api.js";
import { called } from "./cards.js";
import { h } from "./dom.js";

const WIDE = 100; // letters of a line
const text = (value) => JSON.stringify(value);
const shell = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;

/** A value as Python writes it, one entry a line where it does not fit in one. */
function literal(value, indent = "    ") {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = (deeper) => (Array.isArray(value) ? value.map((one) => literal(one, deeper)) : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one, deeper)}`));
  const line = `${open}${parts(indent).join(", ")}${close}`;
  const deeper = `${indent}    `;
  return line.length + indent.length <= WIDE && !line.includes("\n") ? line : `${open}\n${parts(deeper).map((part) => `${deeper}${part},\n`).join("")}${indent}${close}`;
}

/** Put a text into the clipboard; browsers hand it to pages from loopback and over https alone, and the old way to others. */
export async function toClipboard(copied) {
  if (navigator.clipboard) return navigator.clipboard.writeText(copied);
  const box = h("textarea", { value: copied, "aria-hidden": "true" });
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (!done) throw new Error("This browser lets no page copy that comes over plain http from another machine: open it through a tunnel, as http://127.0.0.1.");
}

/** Python: OpenAI's client on this server; `tokenFrom` is the variable with the token, where one is wanted. */
export function asPython(body, origin, tokenFrom) {
  const { model, prompt, system, chat, history = [], steering, probes, max_tokens, temperature, seed } = body;
  const messages = [...(system ? [{ role: "system", content: system }] : []),
    ...history.flatMap((turn) => [{ role: "user", content: turn.prompt }, { role: "assistant", content: turn.steered }]), { role: "user", content: prompt }];
  const told = chat ? `messages=${literal(messages)}` : `prompt=${literal(system ? `${system}\n\n${prompt}` : prompt)}`;
  return [
    ...(tokenFrom ? ["import os", ""] : []), "from openai import OpenAI", "",
    `client = OpenAI(base_url=${text(`${origin}/v1`)}, api_key=${tokenFrom ? `os.environ[${text(tokenFrom)}]` : text("none")})`,
    `answer = client.${chat ? "chat.completions" : "completions"}.create(`,
    `    model=${text(model)},`, `    ${told},`,
    `    max_tokens=${max_tokens},`, `    temperature=${temperature},`, `    seed=${seed},`,
    `    extra_body=${literal({ steering, ...(probes ? { probes } : {}) })},`, ")",
    chat ? "print(answer.choices[0].message.content)" : "print(answer.choices[0].text)", "",
  ].join("\n");
}

/** The same request, with curl. */
export function asCurl(body, origin, tokenFrom) {
  const token = tokenFrom ? ` -H "Authorization: Bearer $${tokenFrom}"` : "";
  return `curl -N ${origin}/api/steer${token} -H 'Content-Type: application/json' -d ${shell(JSON.stringify(body))}\n`;
}

/** A command line that draws the same text, or the expression in it: the server words them, as it steers by them. */
export const asCommand = async (body) => `${(await post("/api/command", body)).line}\n`;
export const asExpression = async (body) => (await post("/api/command", body)).expression;

/** A spec that measures what is on the page: {text, left_out}, as the server writes it. */
export const asSpec = (body) => post("/api/spec", body);

export const described = (card) => (card.vector ? `${called(card.vector)} (layer ${card.vector.layer})` : card.saved ?? "the typed contrast");
