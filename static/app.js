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
