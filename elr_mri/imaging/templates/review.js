"use strict";
const form = document.querySelector("form"), list = document.querySelector("ol"), items = [...list.children];
const told = items.map(item => ({
  item, verdict: item.dataset.verdict, id: item.id, text: (item.id + " " + item.querySelector(".reasons").textContent).toLowerCase(),
  numbers: Object.fromEntries([...item.querySelectorAll("dd")].map(cell => [cell.dataset.n, Number(cell.textContent)])),
}));
function show() {
  const wanted = new Set([...form.querySelectorAll("[name=verdict]:checked")].map(box => box.value));
  const text = form.elements.text.value.trim().toLowerCase();
  let n = 0;
  for (const one of told) {
    const here = wanted.has(one.verdict) && one.text.includes(text);
    one.item.hidden = !here;
    n += here;
  }
  form.querySelector("output").textContent = n.toLocaleString("en") + " shown";
}
function sort() {
  const by = form.elements.order.value, sign = form.elements.down.checked ? -1 : 1;
  const order = [...told];
  if (by === "id") order.sort((a, b) => sign * (a.id < b.id ? -1 : 1));
  else if (by) order.sort((a, b) => (by in b.numbers) - (by in a.numbers) || sign * (a.numbers[by] - b.numbers[by]) || 0);
  list.append(...order.map(one => one.item));
}
form.addEventListener("input", event => { if (["order", "down"].includes(event.target.name)) sort(); show(); });
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
show();
