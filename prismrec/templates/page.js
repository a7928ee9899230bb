(() => {
  "use strict";
  // Colours: as the system has it, until the reader says otherwise; set before anything is painted.
  function make(tag, attributes, text) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // A table that sorts by its heads and filters by the words of its first column. Rows marked "last" stay at the end.
  function lively(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows], free = rows.filter((r) => !r.classList.contains("last"));
    const pinned = rows.filter((r) => r.classList.contains("last"));
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const value = (row, column) => {
      const cell = row.cells[column], given = cell.dataset.sort;
      if (given !== undefined) return given === "" ? null : Number(given);
      const text = cell.textContent.trim();
      if (column === 0 || !/^[<+−\-–]?\s?[\d[]|^–$/.test(text)) return text.toLowerCase();
      return text === "–" ? null : Number.parseFloat(text.replace(/[<[,\s]/g, "").replace("−", "-"));
    };
    heads.forEach((head, column) => {
      if (head.dataset.plain !== undefined) return;
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = free.some((r) => typeof value(r, column) === "number");
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : (numeric && head.dataset.small === undefined);
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const order = free.map((row) => [value(row, column), row]);
        order.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
        });
        body.append(...order.map(([, row]) => row), ...pinned);
      });
    });
    if (table.dataset.filter === undefined || free.length < 4) return;
    const find = make("div", { class: "find" }), label = make("label", {}, "Filter "), input = make("input", { type: "search" });
    const status = make("span", { role: "status" });
    input.placeholder = table.dataset.filter;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      free.forEach((row) => { row.hidden = !words.every((w) => row.cells[0].textContent.toLowerCase().includes(w)); });
      const shown = free.filter((row) => !row.hidden).length;
      status.textContent = words.length ? `${shown} of ${free.length} rows` : "";
    });
    label.append(input);
    find.append(label, status);
    table.closest(".scroll").parentElement.before(find);
  }

  function copyButton(command) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      const text = command.querySelector("pre").textContent;
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Select it by hand"; }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    command.append(button);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".bar").forEach((bar) => bar.append(make("button", { type: "button", class: "theme" })));
    document.querySelectorAll("table.lively").forEach(lively);
    document.querySelectorAll(".command").forEach(copyButton);
    const opened = [];
    addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((d) => { d.open = true; opened.push(d); }));
    addEventListener("afterprint", () => opened.splice(0).forEach((d) => { d.open = false; }));
  });
})();
