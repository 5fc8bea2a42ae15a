// Conveniences only: without this file everything works.
"use strict";

// A short address: fields left blank mean the default and need not be named.
for (const form of document.querySelectorAll("form.ask")) {
  form.addEventListener("submit", () => {
    const blank = [...form.elements].filter((field) => field.name && field.value === "" && !field.disabled);
    for (const field of blank) field.disabled = true;
    // After "back" the form is there again and must be usable.
    addEventListener("pagehide", () => blank.forEach((field) => (field.disabled = false)), { once: true });
  });
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const link = new URL(button.dataset.copy, location.href).href;
    button.textContent = await navigator.clipboard.writeText(link).then(() => "Copied", () => "Not allowed");
    setTimeout(() => (button.textContent = label), 1500);
  });
}

// The grid is one stop for Tab; arrows, Home and End move from number to number in it.
for (const body of document.querySelectorAll("table.cohorts > tbody")) {
  const lines = [...body.rows].map((row) => [...row.cells].map((cell) => cell.querySelector("a")));
  const links = lines.flat().filter(Boolean);
  const stop = (at) => links.forEach((link) => (link.tabIndex = link === at ? 0 : -1));
  stop(links[0]);
  body.addEventListener("focusin", (event) => links.includes(event.target) && stop(event.target));
  body.addEventListener("keydown", (event) => {
    if (!links.includes(event.target) || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    let row = event.target.closest("tr").sectionRowIndex;
    let column = event.target.parentElement.cellIndex;
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    let to;
    if (event.key === "Home") to = lines[row].find(Boolean);
    else if (event.key === "End") to = lines[row].findLast(Boolean);
    // Over cells that hold no number, such as the line of a cohort of nobody.
    else if (down) while (!to && lines[(row += down)]) to = lines[row][column];
    else if (right) while (!to && lines[row][(column += right)] !== undefined) to = lines[row][column];
    else return;
    event.preventDefault();
    to?.focus();
  });
}
