// A field that offers what fits while one writes: the pattern of a combobox with a list.

import { make } from "./api.js";

export function combobox(input, list, search, choose) {
  let at = -1, asked = 0, soon = 0;
  const options = () => [...list.children];
  const close = () => { list.hidden = true; at = -1; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const mark = (next) => {
    at = next;
    options().forEach((one, place) => one.setAttribute("aria-selected", String(place === at)));
    if (at >= 0) { input.setAttribute("aria-activedescendant", options()[at].id); options()[at].scrollIntoView({ block: "nearest" }); }
  };
  const take = (text) => { close(); input.value = text; choose(text); };

  async function offer() {
    const number = ++asked;
    let found;
    try { found = await search(input.value); } catch { return; }
    if (number !== asked || document.activeElement !== input) return;
    list.replaceChildren(...found.map((text, place) => make("li", {
      role: "option", id: `${list.id}-${place}`, "aria-selected": "false",
      onpointerdown: (event) => { event.preventDefault(); take(text); },
    }, text)));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
    at = -1;
  }

  input.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(offer, 120); });
  input.addEventListener("focus", () => { input.select(); offer(); });
  input.addEventListener("blur", () => { asked += 1; close(); });
  input.addEventListener("keydown", (event) => {
    const n = options().length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (list.hidden || !n) offer();
      else mark((at + (event.key === "ArrowDown" ? 1 : at < 0 ? 0 : -1) + n) % n);
    } else if (event.key === "Enter") {
      if (at >= 0) take(options()[at].textContent);
      else if (input.value.trim()) take(input.value.trim());
    } else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}
