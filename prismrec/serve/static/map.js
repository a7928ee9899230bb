// The map of items: a canvas to look over, with a pointer or with the arrow keys.

import { get, make, named, picture } from "./api.js";

const byId = (id) => document.getElementById(id);
const radius = 3.2;

export class ItemMap {
  constructor(open) {
    this.open = open;
    this.canvas = byId("map");
    this.tip = byId("tip");
    this.view = { x: 0, y: 0, scale: 1 };
    this.data = null;
    this.at = -1;
    this.marks = { taken: new Set(), listed: new Set() };
    this.listen();
  }

  async load(where, by) {
    this.where = where; this.by = by;
    const data = await get("map", { export: where, by: by === "fused" ? null : by });
    if (this.where !== where || this.by !== by) return;
    const moved = this.data === null || this.data.method !== data.method || this.data.by !== data.by || this.data.export !== data.export;
    this.data = data;
    this.place = new Map(data.items.map((item, at) => [item, at]));
    if (moved) { this.at = -1; this.all(); }
    const method = data.method === "t-SNE" ? "t-SNE" : `the first two principal components${data.awaited ? "; t-SNE follows when it is ready" : ""}`;
    byId("map-note").textContent = `${data.items.length.toLocaleString("en")} items, near each other where they are alike (${method}). Rings: taken. Filled: recommended.`;
    byId("legend").replaceChildren(...data.groups.map((group, at) => {
      const dot = make("i"); dot.style.background = `var(--c${at})`;
      return make("li", {}, dot, group);
    }), ...(data.groups.length && data.group.includes(-1) ? [make("li", {}, make("i", { class: "rest" }), "others")] : []));
    this.draw();
    clearTimeout(this.again);
    if (data.awaited) this.again = setTimeout(() => this.load(where, by).catch(() => {}), 4000);
  }

  mark(taken, listed) { this.marks = { taken: new Set(taken), listed: new Set(listed) }; this.draw(); }
  all() { this.view = { x: 0, y: 0, scale: 1 }; this.draw(); }
  zoom(factor, x = 0, y = 0) {
    const scale = Math.min(40, Math.max(1, this.view.scale * factor)), change = scale / this.view.scale;
    this.view = { scale, x: x + (this.view.x - x) * change, y: y + (this.view.y - y) * change };
    this.draw();
  }

  // from −1..1 to pixels
  spot(at) {
    const { clientWidth: w, clientHeight: h } = this.canvas, half = Math.min(w, h) / 2 - 14;
    const wide = Math.min(w / 2 - 14, half * 1.9);
    return [w / 2 + this.view.x + this.data.x[at] * wide * this.view.scale, h / 2 + this.view.y - this.data.y[at] * half * this.view.scale];
  }

  draw() {
    if (!this.data || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const { canvas, data, marks } = this, ratio = devicePixelRatio || 1;
    const w = canvas.clientWidth, h = canvas.clientHeight;
    if (!w || !h) return;
    canvas.style.touchAction = this.view.scale > 1 ? "none" : "pan-y";
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
    const style = getComputedStyle(document.documentElement), tone = (name) => style.getPropertyValue(name).trim();
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const size = Math.min(6, radius * (0.75 + 0.25 * this.view.scale) * Math.min(1, Math.max(0.5, 55 / Math.sqrt(data.items.length))));
    const groups = new Map();
    data.group.forEach((group, at) => { if (!groups.has(group)) groups.set(group, []); groups.get(group).push(at); });
    for (const group of [...groups.keys()].sort((a, b) => a - b)) {
      c.fillStyle = group < 0 ? tone(data.groups.length ? "--muted" : "--c0") : tone(`--c${group}`);
      c.globalAlpha = group < 0 && data.groups.length ? 0.28 : 0.5;
      c.beginPath();
      for (const at of groups.get(group)) {
        const [x, y] = this.spot(at);
        if (x < -9 || y < -9 || x > w + 9 || y > h + 9) continue;
        c.moveTo(x + size, y); c.arc(x, y, size, 0, 7);
      }
      c.fill();
    }
    c.globalAlpha = 1;
    const ring = (items, fill, edge, r) => {
      for (const item of items) {
        const at = this.place.get(item);
        if (at === undefined) continue;
        const [x, y] = this.spot(at);
        c.beginPath(); c.arc(x, y, r, 0, 7);
        if (fill) { c.fillStyle = fill; c.fill(); }
        c.strokeStyle = edge; c.lineWidth = fill ? 1.5 : 2.2; c.stroke();
      }
    };
    ring(marks.taken, null, tone("--ink"), 6);
    ring(marks.listed, tone("--ink"), tone("--paper"), 5.5);
    if (this.at >= 0) {
      const [x, y] = this.spot(this.at);
      c.beginPath(); c.arc(x, y, 9, 0, 7); c.strokeStyle = tone("--accent"); c.lineWidth = 2.5; c.stroke();
    }
  }

  nearest(px, py, reach = 18) {
    let best = -1, least = reach * reach;
    if (this.data) this.data.items.forEach((_, at) => {
      const [x, y] = this.spot(at), d = (x - px) ** 2 + (y - py) ** 2;
      if (d < least) { least = d; best = at; }
    });
    return best;
  }

  show(at, spoken = false) {
    if (at === this.at && !this.tip.hidden) return;
    this.at = at;
    this.tip.hidden = at < 0;
    if (at >= 0) {
      const d = this.data, card = { item: d.items[at], title: d.titles[at], picture: d.pictures[at] };
      const group = d.groups[d.group[at]];
      this.tip.replaceChildren(picture(card, d.export, "medium"), make("span", {}, named(card), group ? make("small", {}, group) : ""));
      const [x, y] = this.spot(at), w = this.canvas.clientWidth;
      const wide = this.tip.offsetWidth, tall = this.tip.offsetHeight;
      this.tip.style.left = `${Math.min(Math.max(4, x - wide / 2), w - wide - 4)}px`;
      this.tip.style.top = `${y - tall - 14 > 0 ? y - tall - 14 : y + 14}px`;
      if (spoken) byId("here").textContent = `${named(card)}${group ? `, ${group}` : ""}`;
    }
    this.draw();
  }

  step(dx, dy) {
    if (!this.data) return;
    if (this.at < 0) { this.show(this.nearest(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2, 1e9), true); return; }
    const [px, py] = this.spot(this.at);
    let best = -1, least = Infinity;
    this.data.items.forEach((_, at) => {
      if (at === this.at) return;
      const [x, y] = this.spot(at), ahead = (x - px) * dx + (y - py) * dy, aside = Math.abs((x - px) * dy) + Math.abs((y - py) * dx);
      if (ahead <= 0.5) return;
      const far = ahead + 2.5 * aside;
      if (far < least) { least = far; best = at; }
    });
    if (best < 0) return;
    const [x, y] = this.spot(best), { clientWidth: w, clientHeight: h } = this.canvas;
    if (x < 8 || y < 8 || x > w - 8 || y > h - 8) { this.view.x += w / 2 - x; this.view.y += h / 2 - y; }
    this.show(best, true);
  }

  listen() {
    const { canvas } = this;
    const pointers = new Map();
    let far = 0, gone = 0;
    const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    canvas.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, where(event)); far = 0; gone = 0; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      const now = where(event), before = pointers.get(event.pointerId);
      if (!before) { this.show(this.nearest(...now)); return; }
      const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, spot]) => spot);
      if (others.length) {
        const [ox, oy] = others[0], wide = (s) => Math.hypot(s[0] - ox, s[1] - oy) || 1;
        this.zoom(wide(now) / wide(before), (now[0] + ox) / 2 - canvas.clientWidth / 2, (now[1] + oy) / 2 - canvas.clientHeight / 2);
      } else if (this.view.scale > 1) { this.view.x += now[0] - before[0]; this.view.y += now[1] - before[1]; this.draw(); }
      gone += Math.hypot(now[0] - before[0], now[1] - before[1]);
      far = Math.max(far, gone);
      pointers.set(event.pointerId, now);
    });
    const end = (event) => {
      if (event.type === "pointerup" && far < 6) {
        const at = this.nearest(...where(event));
        if (at >= 0 && (event.pointerType === "mouse" || at === this.at)) this.open(this.data.items[at], this.data.export);
        else this.show(at, true);
      }
      pointers.delete(event.pointerId);
    };
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
    canvas.addEventListener("pointerleave", () => { if (!pointers.size && document.activeElement !== canvas) this.show(-1); });
    canvas.addEventListener("blur", () => this.show(-1));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const [x, y] = where(event);
      this.zoom(Math.exp(-event.deltaY / 300), x - canvas.clientWidth / 2, y - canvas.clientHeight / 2);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way) this.step(...way);
      else if (event.key === "Enter" && this.at >= 0) this.open(this.data.items[this.at], this.data.export);
      else if (event.key === "+" || event.key === "=") this.zoom(1.5);
      else if (event.key === "-") this.zoom(1 / 1.5);
      else if (event.key === "0") this.all();
      else if (event.key === "Escape") this.show(-1);
      else return;
      event.preventDefault();
    });
    byId("zoom-in").addEventListener("click", () => this.zoom(1.6));
    byId("zoom-out").addEventListener("click", () => this.zoom(1 / 1.6));
    byId("zoom-all").addEventListener("click", () => this.all());
    new ResizeObserver(() => this.draw()).observe(canvas);
    document.addEventListener("colours", () => this.draw());
  }
}
