// The page: what is wanted (kept in the address), asking for it, and showing what came.

import { get, make, named, picture, post } from "./api.js";
import { dialog } from "./item.js";
import { draw } from "./lists.js";
import { ItemMap } from "./map.js";
import { combobox } from "./pick.js";

const byId = (id) => document.getElementById(id);
const wish = { user: "", beside: "", k: 20, weights: {}, diversity: 0, where: {}, taken: [] };
let served = null, running = null, usual = { key: "", items: null }, whole = false;

const about = (name) => served.exports.find((one) => one.name === name) || served.exports[0];
const mixed = () => Object.entries(wish.weights).some(([side, weight]) => weight !== (side === "fused" ? 1 : 0));

function problem(error) {
  if (error?.name === "AbortError") return;
  byId("problem").textContent = error ? error.message : "";
  byId("problem").hidden = !error;
}

// the address

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  Object.assign(wish, { user: given.get("user") || "", beside: given.get("beside") || "", k: Number(given.get("k")) || 20, diversity: Number(given.get("diversity")) || 0, weights: {}, where: {}, taken: given.getAll("taken").map((item) => ({ item })) });
  for (const [name, value] of given) {
    if (name.startsWith("w.") && Number.isFinite(Number(value))) wish.weights[name.slice(2)] = Number(value);
    if (name.startsWith("in.")) wish.where[name.slice(3)] = value;
  }
}

function write() {
  const kept = new URLSearchParams();
  if (wish.user) kept.set("user", wish.user);
  for (const { item } of wish.taken) kept.append("taken", item);
  if (wish.beside) kept.set("beside", wish.beside);
  if (wish.k !== 20) kept.set("k", wish.k);
  if (wish.diversity) kept.set("diversity", wish.diversity);
  for (const [side, weight] of Object.entries(wish.weights)) if (weight !== (side === "fused" ? 1 : 0)) kept.set(`w.${side}`, weight);
  for (const [column, value] of Object.entries(wish.where)) if (value) kept.set(`in.${column}`, value);
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
}

// asking

function body(name) {
  const sides = new Set(["fused", ...about(name).modalities]);
  const weights = Object.fromEntries(Object.entries(wish.weights).filter(([side]) => sides.has(side)));
  const columns = about(name).columns;
  const where = Object.fromEntries(Object.entries(wish.where).filter(([column, value]) => value && columns[column]));
  const asked = { k: Math.min(wish.k, served.max_k), export: name, diversity: wish.diversity, where };
  if (mixed()) asked.weights = weights;
  return wish.taken.length ? { ...asked, items: wish.taken.map((one) => one.item) } : { ...asked, user: wish.user, reasons: true };
}

async function show() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  write();
  if (!wish.user && !wish.taken.length) return;
  byId("lists").setAttribute("aria-busy", "true");
  try {
    const names = [served.exports[0].name, ...(wish.beside ? [wish.beside] : [])];
    const answers = await Promise.all(names.map((name) => post("recommend", body(name), signal)));
    const key = JSON.stringify([wish.user, wish.taken.map((one) => one.item), wish.k, wish.where, answers.map((one) => one.version)]);
    const changed = mixed() || wish.diversity > 0;
    if (!changed) usual = { key, items: answers.map((answer) => answer.items.map((card) => card.item)) };
    else if (usual.key !== key) {
      const plain = await Promise.all(names.map((name) => post("recommend", { ...body(name), weights: undefined, diversity: 0 }, signal)));
      usual = { key, items: plain.map((answer) => answer.items.map((card) => card.item)) };
    }
    byId("lists").replaceChildren(...answers.map((answer, at) => draw(answer, {
      about: about(answer.export), before: changed ? usual.items[at] : null, other: answers.length > 1 ? answers[1 - at] : null,
      wishes: { ...wish, k: Math.min(wish.k, served.max_k) }, open: opened,
    })));
    byId("lists").classList.toggle("two", answers.length > 1);
    map.mark(taken, answers[0].items.map((card) => card.item));
    problem(null);
  } catch (error) { problem(error); }
  finally { if (!signal.aborted) byId("lists").setAttribute("aria-busy", "false"); }
}

// whom

let taken = [];

function basket() {
  byId("session").hidden = !wish.taken.length;
  byId("basket").replaceChildren(...wish.taken.map((card) => make("li", {}, named(card),
    make("button", { type: "button", "aria-label": `Without ${named(card)}`, onclick: () => { wish.taken = wish.taken.filter((one) => one !== card); person(); } }, "✕"))));
}

async function past() {
  const where = served.exports[0].name;
  let found = { taken: 0, items: [] };
  basket();
  if (wish.taken.length) {
    taken = wish.taken.map((one) => one.item);
    const cards = await Promise.all(taken.map((item) => get(`items/${encodeURIComponent(item)}`, { export: where }).catch(() => ({ item }))));
    found = { taken: cards.length, items: cards };
    wish.taken = cards;
    basket();
  } else if (wish.user) {
    try { found = await get(`users/${encodeURIComponent(wish.user)}`, { limit: whole ? 1000 : 30, export: where }); }
    catch { found = { taken: 0, items: [] }; }
  }
  if (!wish.taken.length) taken = found.items.map((card) => card.item);
  byId("took").textContent = wish.taken.length ? "Supposed to have taken" : "Took";
  byId("took-note").textContent = found.taken ? `${found.taken.toLocaleString("en")} item${found.taken === 1 ? "" : "s"}${found.items.length < found.taken ? `, the first ${found.items.length}` : ""}` : "Nothing is known.";
  byId("more").hidden = found.items.length >= Math.min(1000, found.taken);
  byId("history").replaceChildren(...found.items.map((card) => make("li", {}, make("button", { type: "button", class: "mini", onclick: () => opened(card.item, where) }, picture(card, where), make("span", {}, named(card))))));
}

async function person() {
  byId("user").value = wish.user;
  byId("title").textContent = wish.taken.length ? "Recommendations for a session" : wish.user ? `Recommendations for ${wish.user}` : "Recommendations";
  try { await past(); } catch (error) { problem(error); }
  await show();
}

function choose(user) { wish.user = user; wish.taken = []; whole = false; person(); }

function take(card) {
  if (!wish.taken.some((one) => one.item === card.item)) wish.taken = [...wish.taken, card];
  person();
}

async function any() {
  try {
    const { users } = await get("users", { limit: 1000, export: served.exports[0].name });
    if (users.length) choose(users[Math.floor(Math.random() * users.length)]);
  } catch (error) { problem(error); }
}

// how

let soon = 0;
const later = () => { clearTimeout(soon); soon = setTimeout(show, 120); };

function slider(name, label, value, most, step, change) {
  const output = make("output", { for: `weight-${name}` }, value.toFixed(1));
  const input = make("input", { type: "range", id: `weight-${name}`, min: 0, max: most, step, value });
  input.addEventListener("input", () => { output.textContent = Number(input.value).toFixed(1); change(Number(input.value)); told(); later(); });
  return make("div", { class: "slider" }, make("label", { for: `weight-${name}` }, label), input, output);
}

function told() {
  const said = Object.entries(wish.weights).filter(([side, weight]) => weight !== (side === "fused" ? 1 : 0)).map(([side, weight]) => `${side} ${weight.toFixed(1)}`);
  if (wish.diversity) said.push(`diversity ${wish.diversity.toFixed(1)}`);
  byId("mixed").textContent = said.length ? `· ${said.join(", ")}` : "· as the model has it";
}

function controls() {
  const modalities = [...new Set(served.exports.flatMap((one) => one.modalities))];
  const sides = modalities.length ? ["fused", ...modalities] : [];
  byId("sliders").replaceChildren(
    ...sides.map((side) => slider(side, side, wish.weights[side] ?? (side === "fused" ? 1 : 0), 3, 0.1, (value) => { wish.weights[side] = value; })),
    slider("diversity", "diversity", wish.diversity, 1, 0.1, (value) => { wish.diversity = value; }));
  told();
  const lengths = [...new Set([10, 20, 50, 100, wish.k].map((k) => Math.min(k, served.max_k)))].sort((a, b) => a - b);
  byId("k").replaceChildren(...lengths.map((k) => make("option", { value: k, selected: k === wish.k }, String(k))));
  byId("filters").replaceChildren(...Object.entries(served.exports[0].columns).slice(0, 3).map(([column, values]) => {
    const select = make("select", { id: `in-${column}` }, make("option", { value: "" }, "any"), values.map((value) => make("option", { value, selected: wish.where[column] === value }, value)));
    select.addEventListener("change", () => { wish.where[column] = select.value; show(); });
    return make("div", { class: "field" }, make("label", { for: `in-${column}` }, column), select);
  }));
  byId("export-field").hidden = served.exports.length < 2;
  byId("beside").replaceChildren(make("option", { value: "" }, "nothing"), ...served.exports.slice(1).map((one) => make("option", { value: one.name, selected: one.name === wish.beside }, one.name)));
}

function facts() {
  const first = served.exports[0], said = [["", first.name], ["users", first.users.toLocaleString("en")], ["items", first.items.toLocaleString("en")]];
  const model = first.info.label || first.info.model;
  if (model) said.push(["model", model]);
  if (first.info.data) said.push(["data", first.info.data]);
  said.push(["stored as", first.dtype]);
  if (first.pictures) said.push(["pictures", first.pictures.toLocaleString("en")]);
  byId("facts").replaceChildren(...said.map(([name, value]) => make("li", {}, name ? `${name} ` : "", make("b", {}, String(value)))));
}

const open = dialog({ modalities: (name) => about(name).looks, take });
const opened = (item, where) => open(item, where).catch(problem);
const map = new ItemMap(opened);

async function start() {
  try { served = await get("exports"); } catch (error) { problem(error); return; }
  read();
  if (!served.exports.some((one) => one.name === wish.beside)) wish.beside = "";
  facts();
  controls();
  byId("mix").open = innerWidth > 900 || mixed() || wish.diversity > 0;
  combobox(byId("user"), byId("users"), async (part) => (await get("users", { q: part, limit: 12, export: served.exports[0].name })).users, choose);
  byId("any").addEventListener("click", any);
  byId("more").addEventListener("click", () => { whole = true; past().catch(problem); });
  byId("leave").addEventListener("click", () => choose(wish.user));
  byId("k").addEventListener("change", () => { wish.k = Number(byId("k").value); show(); });
  byId("beside").addEventListener("change", () => { wish.beside = byId("beside").value; show(); });
  byId("reset").addEventListener("click", () => { wish.weights = {}; wish.diversity = 0; controls(); show(); });
  addEventListener("hashchange", () => { read(); controls(); person(); });
  byId("map-by").replaceChildren(...["fused", ...served.exports[0].looks].map((by) => make("option", { value: by }, by === "fused" ? "everything" : by)));
  const place = () => map.load(served.exports[0].name, byId("map-by").value).catch(problem);
  byId("map-by").addEventListener("change", place);
  new IntersectionObserver((seen, watcher) => { if (seen.some((one) => one.isIntersecting)) { watcher.disconnect(); place(); } }, { rootMargin: "300px" }).observe(byId("map-part"));
  if (wish.user || wish.taken.length) await person();
  else {
    const { users } = await get("users", { limit: 1, export: served.exports[0].name });
    if (users.length) choose(users[0]); else problem(new Error("This export knows no users."));
  }
}

start();
