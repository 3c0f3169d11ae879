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

/** A labelled control. */
export const field = (label, control, more = {}) => h("label.field", more, label, control);

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
  return text ? h(`span.badge.${kind}`, {}, text) : "";
}

/** A table of rows: columns are [title, (row) => text or element, numeric]; `words` say what the titles mean. */
export function table(columns, rows, go, words = {}) {
  const says = (title) => words[title.replaceAll(" ", "_")];
  const named = (title) => (says(title) ? h("abbr", { title: says(title) }, title) : title);
  const head = columns.map(([title, , numeric]) => h(numeric ? "th.num" : "th", { scope: "col" }, named(title)));
  const body = rows.map((row) => {
    const cells = columns.map(([, show, numeric]) => h(numeric ? "td.num" : "td", {}, show(row)));
    const open = go && { tabindex: 0, "data-go": true, onclick: () => go(row), onkeydown: (e) => e.key === "Enter" && go(row) };
    return h("tr", open || {}, cells);
  });
  return h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}
