// Elements, made from text alone: whatever a model or a store says is shown as it is, never read as markup.

/** An element: h("button.quiet", {onclick, title}, "text", child, …). Attributes that are undefined or false are left out. */
export function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (selector, root = document) => root.querySelector(selector);

let meanings = {}; // of the glossary's words and of the views' columns

/** Take what words mean, as /api/words says it. */
export const explain = (found) => (meanings = found);

let commands = {};
/** Take the server's commands, each with the store that the page shows. */
export const commandsAre = (found) => (commands = found);
/** The command of that name, as it is typed. */
export const commandOf = (name) => commands[name];

/** What a word or a column means, if anything. */
export const meaning = (word) => meanings[word.toLowerCase()] ?? meanings[word.toLowerCase().replaceAll(" ", "_")];

/** A word with its meaning behind it, where the glossary has one; `shown` is how it is written here. */
export const term = (word, shown = word) => (meaning(word) ? h("abbr", { title: meaning(word) }, shown) : shown);

/** A heading such as "Layer and dose", each of whose words has its meaning behind it; one that is a term is kept whole. */
export const termed = (text) => (meaning(singular(text)) ? term(singular(text), text) : text.split(" ").flatMap((word, i) => [i ? " " : "", term(word)]));

const singular = (text) => text.toLowerCase().replace(/s$/, "");

/** A labelled control. */
export const field = (label, control, more = {}) => h("label.field", more, h("span", {}, termed(label)), control);

/** A number with its sign and digits; a dash where there is none. */
export function signed(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}

export const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** Say something short at the foot of the page. */
export function notice(text) {
  const box = $("#notice");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => box.classList.remove("shown"), 4000);
}

/** A verdict as a badge. */
export function verdict(text) {
  const kind = { works: "works", weak: "weak", "no better than random": "no" }[text] ?? "few";
  return text ? h(`span.badge.${kind}`, { title: meaning("verdict") }, text) : "";
}

/** A table of rows: columns are [title, (row) => text or element, numeric]; what a title means is behind it. */
export function table(columns, rows, go) {
  const head = columns.map(([title, , numeric]) => h(numeric ? "th.num" : "th", { scope: "col" }, term(title)));
  const body = rows.map((row) => {
    const cells = columns.map(([, show, numeric]) => h(numeric ? "td.num" : "td", {}, show(row)));
    const open = go && { tabindex: 0, "data-go": true, onclick: () => go(row), onkeydown: (e) => e.key === "Enter" && go(row) };
    return h("tr", open || {}, cells);
  });
  return h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}
