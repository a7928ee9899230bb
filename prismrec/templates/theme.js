// Colours: as the system has it, until the reader says otherwise; set before anything is painted.
(() => {
  "use strict";
  const root = document.documentElement, key = "prismrec-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = (change) => { try { return change(localStorage); } catch { return null; } };
  const saved = stored((s) => s.getItem(key));
  if (saved === "dark" || saved === "light") root.dataset.theme = saved;
  const now = () => root.dataset.theme || (system.matches ? "dark" : "light");
  document.addEventListener("DOMContentLoaded", () => {
    const buttons = document.querySelectorAll("button.theme");
    const say = () => {
      buttons.forEach((button) => { button.textContent = now() === "dark" ? "☀ Light" : "☾ Dark"; });
      document.dispatchEvent(new Event("colours"));
    };
    buttons.forEach((button) => button.addEventListener("click", () => {
      const next = now() === "dark" ? "light" : "dark";
      const own = next === (system.matches ? "dark" : "light");
      if (own) { delete root.dataset.theme; } else { root.dataset.theme = next; }
      stored((s) => (own ? s.removeItem(key) : s.setItem(key, next)));
      say();
    }));
    system.addEventListener("change", say);
    say();
  });
})();
