// Tables sort by a click or Enter on a column's head; a table without this script reads as it was written.
"use strict";
for (const table of document.querySelectorAll("main table")) {
  const heads = [...table.querySelectorAll("thead th")];
  if (!heads.length || table.querySelector("tr.total, td:empty:first-child")) continue;
  const bodies = [...table.tBodies].map((body) => {
    const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
    return { body, rows };
  });
  if (!bodies.some(({ rows }) => rows.length > 1)) continue;
  const value = (row, k) => {
    const text = (row.cells[k]?.firstChild?.textContent ?? "").trim() || (row.cells[k]?.textContent ?? "").trim();
    const number = parseFloat(text.replace(/−/g, "-").replace(/,/g, ""));
    return /^[−+-]?[\d.,]+(?: ?%)?(?:\s|$)/.test(text) ? number : text.toLowerCase();
  };
  heads.forEach((head, k) => {
    const button = document.createElement("span"); // with a real button, a head is not printed again on a table's next page
    button.role = "button";
    button.tabIndex = 0;
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("keydown", (press) => {
      if (press.key !== "Enter" && press.key !== " ") return;
      press.preventDefault();
      button.click();
    });
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const { body, rows } of bodies) {
        const sorted = [...rows].sort((one, other) => {
          const [a, b] = [value(one, k), value(other, k)];
          if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // words and dashes last
          return (a < b ? -1 : a > b ? 1 : 0) * (down && typeof a === "number" ? -1 : down ? 1 : typeof a === "number" ? 1 : -1);
        });
        body.append(...sorted);
      }
    });
  });
}

// The viewer is unpacked when it is asked for; until then, and where the browser has no WebGL2, the pictures stand.
async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
const holder = document.getElementById("viewer-holder");
const opener = holder?.querySelector("button");
if (opener) {
  opener.hidden = false;
  opener.addEventListener("click", async () => {
    const say = (words) => holder.replaceChildren(Object.assign(document.createElement("p"), { className: "absent", textContent: words }));
    if (!document.createElement("canvas").getContext("webgl2") || !globalThis.DecompressionStream) {
      say("This browser has no WebGL2, which the viewer needs; the pictures of this report show the same.");
      return;
    }
    opener.disabled = true;
    try {
      const script = document.createElement("script");
      script.textContent = await unpacked(document.getElementById("viewer-code").textContent.trim());
      document.head.append(script);
      await globalThis.elrViewer.open(holder, JSON.parse(document.getElementById("viewer-data").textContent));
    } catch (problem) {
      say(`The viewer could not start (${problem.message}); the pictures of this report show the same.`);
    }
  });
}

// Paper shows what is folded on the screen, but for the long lists.
const folded = () => document.querySelectorAll("details:not(.screen)");
addEventListener("beforeprint", () => folded().forEach((one) => { one.dataset.was = one.open ? "open" : ""; one.open = true; }));
addEventListener("afterprint", () => folded().forEach((one) => { one.open = one.dataset.was === "open"; }));
