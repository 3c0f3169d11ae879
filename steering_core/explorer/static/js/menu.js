// A menu that is searched by typing: the library's vectors, recommended ones first.

import { called } from "./cards.js";
import { h, verdict } from "./dom.js";

const MOST = 60; // options that are shown at once
const RANKS = { works: 0, weak: 1 };

/** The group that a vector stands in: recommended, named by somebody, or found on the way. */
const group = (row) => (row.verdict || row.recommended_with ? "Recommended" : row.name ? "Named" : "Others");
const order = (row) => [["Recommended", "Named", "Others"].indexOf(group(row)), row.verdict ? (RANKS[row.verdict] ?? 2) : 0];

/** What a row says of a vector; two that say the same are told apart by where they are read, and by their pairs. */
const said = (row) => [called(row), row.method, row.layer].join("\n");

/** What a search looks in. */
const words = (row) => [called(row), row.concept, row.method.replaceAll("_", " "), `layer ${row.layer}`, row.position, row.verdict, row.gate_token === null ? "" : "gate", ...(row.tags ?? [])].join(" ").toLowerCase();

/** Vectors whose words hold every word of `query`, those first that were recommended, and then those with a name. */
export function found(library, query) {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = library.filter((row) => wanted.every((word) => words(row).includes(word)));
  return rows.map((row, place) => ({ row, place, at: order(row) }))
    .sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1] || a.place - b.place).map((one) => one.row);
}

/** A search box over the library; `chosen` hears the vector that was taken. `note` says more of each. */
export class Menu {
  constructor({ id, label, placeholder, chosen, note = () => "" }) {
    Object.assign(this, { id, chosen, note, library: [], rows: [], at: -1, placeholder });
    this.input = h("input", { id: `${id}-search`, role: "combobox", type: "search", autocomplete: "off", maxlength: 100, "aria-label": label, placeholder,
      "aria-expanded": "false", "aria-controls": `${id}-list`, "aria-autocomplete": "list" });
    this.list = h("ul", { id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true });
    this.element = h("div.menu", { id }, this.input, this.list);
    this.input.addEventListener("input", () => this.open());
    this.input.addEventListener("focus", () => this.open());
    this.input.addEventListener("click", () => this.list.hidden && this.open());
    this.input.addEventListener("blur", () => this.close());
    this.input.addEventListener("keydown", (event) => this.key(event));
  }

  fill(library) {
    this.library = library;
    this.input.placeholder = library.length ? this.placeholder : "The library is empty";
    this.input.disabled = !library.length;
    if (!this.list.hidden) this.open(); // a library that grew meanwhile
  }

  open() {
    const all = found(this.library, this.input.value);
    this.rows = all.slice(0, MOST);
    const parts = [];
    let last;
    for (const [i, row] of this.rows.entries()) {
      if (group(row) !== last) parts.push(h("li.group", { role: "presentation" }, (last = group(row))));
      parts.push(this.option(row, i));
    }
    if (!all.length) parts.push(h("li.group", { role: "presentation" }, `nothing in the library says “${this.input.value}”`));
    if (all.length > MOST) parts.push(h("li.group", { role: "presentation" }, `${all.length - MOST} more: type to find them`));
    this.list.replaceChildren(...parts);
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.point(this.input.value && this.rows.length ? 0 : -1);
  }

  option(row, i) {
    const alone = this.library.filter((other) => said(other) === said(row)).length === 1;
    const about = [`layer ${row.layer}`, row.recommended_with ? "with other layers" : "", row.method.replaceAll("_", " "), alone ? "" : `read at ${row.position}, ${row.n_pairs} pairs`, this.note(row)].filter(Boolean).join(" · ");
    const take = (event) => (event.preventDefault(), this.take(i)); // before the box loses the focus
    return h("li", { id: `${this.id}-${i}`, role: "option", "aria-selected": "false", onmousedown: take },
      h("b", {}, called(row)), verdict(row.verdict), h("span.small.soft", {}, about));
  }

  close() {
    this.at = -1; // Enter takes nothing from a list that is not shown
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  point(at) {
    this.at = at;
    for (const option of this.list.querySelectorAll("[role=option]")) option.setAttribute("aria-selected", option.id === `${this.id}-${at}`);
    const option = this.list.querySelector("[aria-selected=true]");
    if (option) this.input.setAttribute("aria-activedescendant", option.id);
    else this.input.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  }

  take(i) {
    const row = this.rows[i];
    this.input.value = "";
    this.close();
    if (row) this.chosen(row);
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.list.hidden) this.open();
    if (step && this.rows.length) this.point((this.at + step + this.rows.length) % this.rows.length);
    else if (event.key === "Enter" && this.at >= 0) this.take(this.at);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
  }
}
