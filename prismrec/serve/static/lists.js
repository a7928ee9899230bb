// Lists of recommendations: each item with its picture, what speaks for it, and where it stood before.

import { alike, colour, get, make, named, picture } from "./api.js";

const list = new Intl.ListFormat("en", { type: "conjunction" });

function evidence(card, modalities) {
  const kind = card.evidence;
  if (!kind || kind === "none by modality") return null;
  const own = kind.startsWith("unique ") ? kind.slice(7) : null;
  const agreeing = () => list.format(modalities.filter((m) => card.said[m].rank <= card.k));
  const words = own ? [`unique: ${own}`, `Of the modalities only ${own} would list it.`]
    : { redundant: ["redundant", `${agreeing()} would each list it alone.`],
        synergy: ["synergy", "No modality alone would list it; together they do."],
        "not listed": ["by your wishes", "The model as it stands would not list it; your wishes brought it here."] }[kind];
  if (!words) return null;
  const badge = make("span", { class: "badge", title: words[1] }, words[0]);
  badge.style.setProperty("--tone", own ? colour(own, modalities) : kind === "synergy" ? "var(--c3)" : kind === "redundant" ? "var(--c2)" : "var(--muted)");
  return badge;
}

function shares(card, modalities) {
  const known = modalities.filter((m) => card.shares && card.shares[m] > 0);
  const said = modalities.map((m) => `${m} ${Math.round(100 * (card.shares?.[m] ?? 0))} %`).join(", ");
  const bar = make("span", { class: "shares", role: "img", "aria-label": known.length ? `Share of the score: ${said}` : "No modality speaks for it", title: known.length ? said : "No modality speaks for it" });
  for (const m of known) {
    const part = make("i");
    part.style.width = `${100 * card.shares[m]}%`;
    part.style.background = colour(m, modalities);
    bar.append(part);
  }
  return bar;
}

function moved(place, before) {
  if (!before) return null;
  const was = before.indexOf(place.item) + 1;
  if (was === place.rank) return null;
  if (!was) return make("span", { class: "moved up" }, "new");
  const by = was - place.rank;
  return make("span", { class: `moved ${by > 0 ? "up" : "down"}` }, by > 0 ? `▲ ${by}` : `▼ ${-by}`,
    make("span", { class: "unseen" }, by > 0 ? " places up" : " places down"));
}

const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

// What is said of one item: rank and deviations by side, and the nearest items of the history.
export async function why(user, card, k, where, modalities, open) {
  const found = await get("explain", { user, item: card.item, k, export: where });
  const sides = Object.entries(found.said).sort(([a], [b]) => (a === "fused") - (b === "fused"));
  const rows = sides.map(([side, said]) => {
    const meter = make("span", { class: "meter" }, make("i"));
    meter.firstChild.style.width = `${Math.max(0, Math.min(100, 20 * said.deviations))}%`;
    meter.firstChild.style.background = side === "fused" ? "var(--ink)" : colour(side, modalities);
    return make("tr", {}, make("th", { scope: "row" }, side), make("td", { class: "wide-cell" }, meter),
      make("td", {}, `${number(said.deviations)} σ`), make("td", {}, `rank ${said.rank.toLocaleString("en")}`));
  });
  const near = Object.entries(found.near).filter(([, items]) => items.length);
  const blocks = near.map(([side, items]) => make("div", { class: "near" },
    make("h3", {}, side === "fused" ? "Nearest of what was taken" : `${alike(side)}: of what was taken`),
    make("ul", {}, items.map((one) => make("li", {}, make("button", { type: "button", class: "mini", onclick: () => open(one.item, where) },
      picture(one, where, "small"), make("span", {}, named(one)), make("small", {}, number(one.cosine))))))));
  return make("div", { class: "why" },
    make("table", {}, make("caption", { class: "unseen" }, "What each side of the score says"), make("tbody", {}, rows)),
    make("p", { class: "note" }, "σ: standard deviations above this user's mean score; rank: among items not yet taken."),
    make("div", { class: "nears" }, blocks));
}

export function draw(answer, { about, before, other, wishes, open }) {
  const modalities = about.modalities, k = answer.items.length;
  const personal = answer.basis === "user";
  const rows = answer.items.map((card, at) => {
    const place = { item: card.item, rank: at + 1 };
    card.k = wishes.k;
    const badge = evidence(card, modalities);
    const elsewhere = other ? other.items.findIndex((one) => one.item === card.item) + 1 : 0;
    const button = personal && make("button", { type: "button", class: "ask", "aria-expanded": "false", "aria-label": `Why ${named(card)}` }, "Why");
    const row = make("li", { "data-item": card.item },
      make("span", { class: "n" }, String(at + 1)),
      make("button", { type: "button", class: "open", onclick: () => open(card.item, answer.export), "aria-label": `About ${named(card)}` }, picture(card, answer.export)),
      make("div", { class: "what" }, make("span", { class: "name" }, named(card)),
        make("span", { class: "signs" }, answer.basis === "popular" ? make("span", { class: "note" }, `taken by ${card.score.toLocaleString("en")}`) : null,
          card.shares && modalities.length ? shares(card, modalities) : null, badge, moved(place, before),
          other ? make("span", { class: elsewhere ? "also" : "also only" }, elsewhere ? `${other.export}: ${elsewhere}` : "only here") : null)),
      button || "");
    if (button) button.addEventListener("click", async () => {
      const shown = row.querySelector(".why");
      button.setAttribute("aria-expanded", String(!shown));
      if (shown) { shown.remove(); return; }
      if (button.hasAttribute("aria-busy")) return;
      button.setAttribute("aria-busy", "true"); // not disabled, which would take the focus away
      try { row.append(await why(answer.user, card, wishes.k, answer.export, modalities, open)); }
      catch (error) { row.append(make("p", { class: "why note" }, error.message)); }
      finally { button.removeAttribute("aria-busy"); }
    });
    return row;
  });
  const heading = { user: "Recommended", session: "Recommended for these", popular: "What most took" }[answer.basis];
  const shared = other ? answer.items.filter((card) => other.items.some((one) => one.item === card.item)).length : null;
  const note = answer.basis === "popular" ? "Nothing is known of this user, so these are the items most taken."
    : other ? `${shared} of ${k} in both lists.` : modalities.length && personal ? "The bar is each modality's share of what speaks for an item." : "";
  return make("section", { class: "list", "aria-label": `${heading} · ${answer.export}` },
    make("h2", {}, heading, other ? make("span", { class: "on" }, ` ${answer.export}`) : ""),
    make("p", { class: "note" }, note),
    modalities.length && answer.basis === "user" ? make("ul", { class: "legend" }, modalities.map((m) => {
      const dot = make("i"); dot.style.background = colour(m, modalities);
      return make("li", {}, dot, m);
    })) : "",
    rows.length ? make("ol", { class: "items card" }, rows) : make("p", { class: "card notice" }, "No item is left: loosen the filters."));
}
