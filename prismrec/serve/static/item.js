// All about one item, and the items like it.

import { alike, get, make, named, picture } from "./api.js";

const byId = (id) => document.getElementById(id);

export function dialog({ modalities, take }) {
  const node = byId("item");
  let shown = null;
  byId("item-close").addEventListener("click", () => node.close());
  node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
  byId("item-take").addEventListener("click", () => { node.close(); take(shown.card); });

  async function like(by) {
    for (const button of byId("alike").children) button.setAttribute("aria-pressed", String(button.dataset.by === by));
    const { card, where } = shown;
    const found = await get("similar", { item: card.item, k: 12, by: by === "fused" ? null : by, export: where });
    if (shown.card !== card) return;
    byId("alikes").replaceChildren(...found.items.map((one) => make("li", {}, make("button", { type: "button", class: "mini tall", onclick: () => open(one.item, where) },
      picture(one, where), make("span", {}, named(one))))));
  }

  async function open(item, where) {
    const card = await get(`items/${encodeURIComponent(item)}`, { export: where });
    shown = { card, where };
    byId("item-title").textContent = named(card);
    byId("item-picture").replaceChildren(picture(card, where, "large"));
    const { picture: _, ...said } = card.fields;
    const fields = Object.entries({ item: card.item, ...said, "taken by": card.popularity })
      .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length));
    const text = (value) => {
      const whole = Array.isArray(value) ? value.join(", ") : String(value);
      return whole.length > 400 ? `${whole.slice(0, 400)} …` : whole;
    };
    byId("item-fields").replaceChildren(make("dl", {}, fields.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, text(value))])));
    byId("alike").replaceChildren(...["fused", ...modalities(where)].map((m) => make("button", { type: "button", class: "button", "data-by": m, "aria-pressed": "false", onclick: () => like(m) }, alike(m))));
    byId("alikes").replaceChildren();
    if (!node.open) node.showModal();
    node.scrollTop = 0;
    await like("fused");
  }
  return open;
}
