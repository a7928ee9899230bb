// Asking the service, and the small things that every part of the page needs.

const slot = "prismrec-key";
const stored = (change) => { try { return change(sessionStorage); } catch { return null; } };
let key = stored((s) => s.getItem(slot)) || "";
let asking = null;

export class Problem extends Error {}

function askKey() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key"), value = document.getElementById("key-value");
    document.getElementById("key-form").addEventListener("submit", () => {
      key = value.value.trim();
      stored((s) => s.setItem(slot, key));
      asking = null;
      resolve();
    }, { once: true });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    value.value = "";
    dialog.showModal();
  });
  return asking;
}

async function reply(path, options = {}) {
  for (;;) {
    const headers = { ...(options.headers || {}), ...(key ? { "X-API-Key": key } : {}) };
    const used = key;
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service does not answer. Is it still running?");
    }
    if (answer.status === 401) {
      if (used === key) await askKey();
      continue;
    }
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Problem(said.detail || `The service answered ${answer.status}.`);
    }
    return answer;
  }
}

const query = (given) => {
  const known = Object.entries(given).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return known.length ? `?${new URLSearchParams(known)}` : "";
};

export const get = async (path, given = {}, signal) => (await reply(path + query(given), { signal })).json();

export const post = async (path, body, signal) => (await reply(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
})).json();

export function make(tag, attributes = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...inside.flat().filter((one) => one !== null && one !== undefined));
  return node;
}

export const named = (card) => card.title || card.item;

const hue = (text) => [...text].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 8, 7);

// The picture of an item, or a tile with its first letter. With a key pictures are fetched, since <img> cannot bring one.
export function picture(card, where, size = "") {
  const box = make("span", { class: `pic ${size}`, "aria-hidden": "true" });
  const letter = () => {
    box.textContent = (named(card).match(/[\p{L}\p{N}]/u) || ["·"])[0].toUpperCase();
    box.style.setProperty("--tone", `var(--c${hue(named(card).split(/\s/)[0])})`);
    box.classList.add("letter");
  };
  if (!card.picture) { letter(); return box; }
  const image = make("img", { alt: "", loading: "lazy", decoding: "async" });
  const path = `pictures/${encodeURIComponent(card.item)}${query({ export: where })}`;
  image.addEventListener("error", () => { image.remove(); letter(); });
  if (key) {
    reply(path).then((answer) => answer.blob()).then((blob) => {
      image.src = URL.createObjectURL(blob);
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    }).catch(() => { image.remove(); letter(); });
  } else image.src = path;
  box.append(image);
  return box;
}

const verbs = { image: "Looks", visual: "Looks", text: "Reads", textual: "Reads", audio: "Sounds", acoustic: "Sounds", video: "Moves" };
export const alike = (modality) => (modality === "fused" || !modality ? "Alike in all" : verbs[modality] ? `${verbs[modality]} alike` : `Alike by ${modality}`);

export const colour = (modality, modalities) => (modality === "fused" ? "var(--muted)" : `var(--c${[1, 0, 4, 6, 5, 7][modalities.indexOf(modality) % 6] ?? 7})`);
