// The page: views, the model that all of them speak of, light and dark.

import { get } from "./api.js";
import { $, commandsAre, explain, h, notice } from "./dom.js";

const views = { steer: () => import("./steer.js"), look: () => import("./look.js"), ask: () => import("./ask.js") };
const started = new Map(); // each view's module, from when it was first shown
const page = { models: [], model: null, server: {}, show, choose };

/** The view that the address names; a link says more behind a question mark. */
const viewed = () => location.hash.slice(1).split("?")[0];
const isView = (name) => Object.hasOwn(views, name);

/** Show a view; `given` is what to look at in it. */
async function show(name, given) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.dataset.view === name;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(`#${tab.dataset.view}`).hidden = !chosen;
  }
  if (viewed() !== name) history.replaceState(null, "", `#${name}`);
  try {
    if (!started.has(name)) started.set(name, begun(name));
    await (await started.get(name)).shown?.(given);
  } catch (error) {
    notice(error.message);
  }
}

/** A view that has come and shows what it has. */
async function begun(name) {
  try {
    const view = (await views[name]())[name];
    await view.start($(`#${name}`), page);
    return view;
  } catch (error) {
    started.delete(name); // the next look at it begins anew
    $(`#${name}`).replaceChildren();
    throw error;
  }
}

function wireTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => show(tab.dataset.view));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      next.focus();
      show(next.dataset.view);
    });
  }
  addEventListener("hashchange", () => isView(viewed()) && show(viewed()));
}

function wireTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => localStorage.getItem("theme");
  const apply = () => {
    const theme = kept() ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    $("#theme").textContent = theme === "dark" ? "☀" : "☾";
    dispatchEvent(new Event("themechange"));
  };
  $("#theme").addEventListener("click", () => {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

async function chooseModel() {
  page.models = await get("/api/models");
  const select = $("#model");
  const short = (name) => name.replace(/\/+$/, "").split("/").pop();
  select.append(...page.models.map((model) => h("option", { value: model.name, title: model.name }, short(model.name))));
  const kept = localStorage.getItem("model");
  page.model = page.models.find((model) => model.name === kept) ?? page.models[0];
  select.value = page.model.name;
  select.addEventListener("change", () => choose(select.value));
}

/** Have all views but `by` speak of another model; whether it is another. */
function choose(name, by) {
  const model = page.models.find((one) => one.name === name);
  if (!model) throw new Error(`There is no model ${String(name).slice(0, 80)} here: give it to \`steer explore --model\`.`);
  if (model === page.model) return false;
  page.model = model;
  $("#model").value = name;
  localStorage.setItem("model", name);
  for (const [view, one] of started) if (view !== by) one.then((other) => other.modelChanged?.()).catch((error) => notice(error.message));
  return true;
}

wireTheme();
wireTabs();
await Promise.all([chooseModel(), get("/api/words").then(explain), get("/api/commands").then(commandsAre), get("/api/page").then((found) => (page.server = found))]).catch((error) => notice(error.message));
await show(isView(viewed()) ? viewed() : "steer");
document.documentElement.dataset.ready = "true";
