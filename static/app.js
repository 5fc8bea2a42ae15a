// Progressive enhancement: pages also work without this script.
"use strict";

// After "back" a page may be shown as it was left. Its form shows the question of its address again.
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) for (const form of document.querySelectorAll("form.ask")) form.reset();
});

// Blank fields mean the default, so leave them out of the address.
for (const form of document.querySelectorAll("form.ask")) {
  form.addEventListener("submit", () => {
    const blank = [...form.elements].filter((field) => field.name && field.value === "" && !field.disabled);
    for (const field of blank) field.disabled = true;
    // After "back" the browser restores the form, so enable the fields again.
    addEventListener("pagehide", () => blank.forEach((field) => (field.disabled = false)), { once: true });
  });
}

// Buttons that copy the address, the table, the picture of a chart, or the command beside them.
const copies = {
  copies: (_, button) => navigator.clipboard.writeText(button.previousElementSibling.textContent),
  copy: ({ copy }) => navigator.clipboard.writeText(new URL(copy, location.href).href),
  copyTable: () => copyAs({ "text/plain": tableAsText(), "text/html": tableAsHtml() }),
  copyImage: ({ copyImage }) =>
    copyAs({ "image/png": fetch(copyImage).then((answer) => (answer.ok ? answer.blob() : Promise.reject(answer.status))) }),
};

function copyAs(kinds) {
  const blobs = Object.entries(kinds).map(([type, of]) => [type, typeof of === "string" ? new Blob([of], { type }) : of]);
  return navigator.clipboard.write([new ClipboardItem(Object.fromEntries(blobs))]);
}

// Returns the texts of the page's table, row by row, without remarks in small letters. A wide cell fills its columns.
function tableTexts() {
  const text = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("small, svg, .fold-mark").forEach((remark) => remark.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const rows = [...document.querySelector("table.cohorts").rows];
  return rows.map((row) => [...row.cells].flatMap((cell) => [text(cell), ...Array(cell.colSpan - 1).fill("")]));
}

const tableAsText = () => tableTexts().map((row) => row.join("\t")).join("\n");

function tableAsHtml() {
  const row = (texts) => element("tr", {}, ...texts.map((text) => element("td", {}, text)));
  return element("table", {}, element("tbody", {}, ...tableTexts().map(row))).outerHTML;
}

for (const [kind, copy] of Object.entries(copies)) {
  for (const button of document.querySelectorAll(`button[data-${kind.replace(/[A-Z]/, (c) => `-${c.toLowerCase()}`)}]`)) {
    if (!navigator.clipboard) continue;
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.textContent = await copy(button.dataset, button).then(() => "Copied", () => "Not allowed");
      setTimeout(() => (button.textContent = label), 1500);
    });
  }
}

// Menus close as soon as something else is used, and on Escape.
addEventListener("pointerdown", ({ target }) => document.querySelectorAll(":is(.menu,.stores)[open]").forEach((menu) => menu.contains(target) || (menu.open = false)));
for (const menu of document.querySelectorAll("details:is(.menu,.stores)")) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

// The grid is a single tab stop. Arrow keys, Home and End move between its numbers.
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
    // Skip cells without a number, such as those of an empty cohort.
    else if (down) while (!to && lines[(row += down)]) to = lines[row][column];
    else if (right) while (!to && lines[row][(column += right)] !== undefined) to = lines[row][column];
    else return;
    event.preventDefault();
    to?.focus();
  });
}

// Escape closes the description of a cell until the pointer or the focus moves to another one.
for (const table of document.querySelectorAll("table.cohorts")) {
  let cell;
  addEventListener("keydown", ({ key }) => key === "Escape" && table.toggleAttribute("data-quiet", true));
  for (const come of ["pointerover", "focusin"]) {
    table.addEventListener(come, ({ target }) => {
      const next = target.closest("td");
      if (next !== cell) table.removeAttribute("data-quiet");
      cell = next;
    });
  }
}

// Charts answer the pointer, a finger and the keyboard: a rule at the column, and a card with what the server wrote into
// its hit area. The row or column of the table with the same numbers is highlighted, and the other way round.
const table = document.querySelector("table.cohorts");
const charts = [...document.querySelectorAll(".charts svg:has(.hits)")].map(chart);
const NUMBERS = 2; // The columns of a retention table before its numbers.

function make(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const attribute in attributes) made.setAttribute(attribute, attributes[attribute]);
  return made;
}

function chart(svg) {
  const hits = svg.querySelector(".hits");
  const areas = [...hits.children].map((area) => ({
    at: area.dataset.at,
    x: Number(area.dataset.x),
    top: Number(area.getAttribute("y")),
    bottom: Number(area.getAttribute("y")) + Number(area.getAttribute("height")),
    text: area.textContent,
  }));
  const said = [...svg.querySelectorAll(":scope > title, :scope > desc")].map((part) => part.textContent).join(". ");
  // The browser's own tooltips would cover the card.
  svg.querySelectorAll("title").forEach((title) => title.remove());
  svg.removeAttribute("aria-labelledby");
  const figure = svg.parentElement;
  const card = element("div", { className: "said", hidden: true });
  const drawn = { svg, areas, card, keys: hits.dataset.keys?.split(" ") ?? [], at: -1 };
  figure.append(card);
  const attributes = { tabindex: 0, role: "slider", "aria-roledescription": "chart", "aria-label": said,
    "aria-valuemin": 0, "aria-valuemax": Math.max(0, areas.length - 1), "aria-valuenow": 0, "aria-valuetext": areas[0]?.text ?? "" };
  for (const attribute in attributes) svg.setAttribute(attribute, attributes[attribute]);
  const nearest = ({ clientX }) => {
    const box = svg.getBoundingClientRect();
    const x = ((clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    return areas.reduce((best, area, i) => (Math.abs(area.x - x) < Math.abs(areas[best].x - x) ? i : best), 0);
  };
  let known;
  svg.addEventListener("pointerdown", (event) => {
    // A finger reads first; it opens what it reads by touching it again.
    known = event.pointerType !== "touch" || drawn.at === nearest(event);
    show(drawn, nearest(event));
  });
  svg.addEventListener("pointermove", (event) => show(drawn, nearest(event)));
  svg.addEventListener("pointerleave", ({ pointerType }) => pointerType !== "touch" && hide());
  svg.addEventListener("click", () => known && linkOf(areas[drawn.at]?.at)?.click());
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(drawn, Math.max(0, drawn.at)));
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const last = areas.length - 1;
    const to = { ArrowLeft: drawn.at - 1, ArrowRight: drawn.at + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) show(drawn, Math.min(last, Math.max(0, to)));
    else if (event.key === "Enter") linkOf(areas[drawn.at]?.at)?.click();
    else return;
    event.preventDefault();
  });
  return drawn;
}

const rowOf = (at) => table?.querySelector(`tbody tr[data-at="${CSS.escape(at)}"]`);

// Returns the link of a chart's column: the people of a row, or what the heading of a column leads to.
function linkOf(at) {
  if (at === undefined || !table) return undefined;
  return (rowOf(at) ?? table.tHead.rows[0].cells[Number(at) + NUMBERS])?.querySelector("a");
}

// Returns the cell of a row at a column of numbers, if it is no wider.
function cellAt(row, column) {
  let place = 0;
  for (const cell of row.cells) {
    if (place === column + NUMBERS) return cell.colSpan === 1 ? cell : undefined;
    place += cell.colSpan;
  }
  return undefined;
}

function clear() {
  document.querySelectorAll(".chart > .lit, .chart > .rule").forEach((old) => old.remove());
  document.querySelectorAll("table .lit").forEach((old) => old.classList.remove("lit"));
}

function hide() {
  clear();
  for (const drawn of charts) {
    drawn.card.hidden = true;
    if (document.activeElement !== drawn.svg) drawn.at = -1;
  }
}

// Draws the rule of a column, and copies of its marks, because SVG draws the last element on top.
function light({ svg, areas }, at) {
  const area = areas.find((area) => area.at === at);
  const top = make("g", { class: "lit" });
  for (const mark of svg.querySelectorAll(`:not(.hits) > [data-at="${CSS.escape(at)}"]`)) {
    const group = mark.parentNode.cloneNode(false);
    group.append(mark.cloneNode(true));
    top.append(group);
    for (const point of mark.getAttribute("points")?.trim().split(" ") ?? []) {
      const [cx, cy] = point.split(",");
      top.append(make("circle", { cx, cy, r: 6 }));
    }
  }
  if (area) svg.insertBefore(make("path", { class: "rule", d: `M${area.x} ${area.top}V${area.bottom}` }), svg.querySelector(".hits"));
  // The points of the lines at the rule.
  let heights = [];
  if (area) {
    for (const group of svg.querySelectorAll(".line, .dots")) {
      const points = [...(group.querySelector("path")?.getAttribute("d") ?? "").matchAll(/([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [x, y]);
      const dots = [...group.querySelectorAll("circle")].map((dot) => [dot.getAttribute("cx"), dot.getAttribute("cy")]);
      const found = [...points, ...dots].filter(([x]) => Math.abs(x - area.x) < 2);
      heights.push(...found.map(([, y]) => Number(y)));
      for (const [cx, cy] of group.matches(".pale, [data-at]") ? [] : found) {
        const point = make("g", { class: `point ${group.getAttribute("class")}` });
        point.append(make("circle", { cx, cy, r: 9 }));
        top.append(point);
      }
    }
  }
  if (top.firstChild) svg.append(top);
  return heights;
}

function show(drawn, index) {
  const { svg, areas, card, keys } = drawn;
  const area = areas[index];
  if (!area || (drawn.at === index && !card.hidden)) return;
  hide();
  drawn.at = index;
  svg.setAttribute("aria-valuenow", index);
  svg.setAttribute("aria-valuetext", area.text);
  const heights = light(drawn, area.at);
  const row = rowOf(area.at);
  if (row) row.classList.add("lit");
  else if (table) for (const row of table.rows) cellAt(row, Number(area.at))?.classList.add("lit");
  const [first, ...others] = area.text.split("\n").map((line) => line.split(" · "));
  const [name, value, ...more] = first;
  card.replaceChildren(element("p", {}, element("b", {}, name), ...(value ? [" ", element("strong", {}, value)] : []), " ", more.join(" · ")));
  const line = ([name, ...numbers], i) => {
    const key = keys[i] ? [element("i", { className: `key-of ${keys[i]}` })] : [];
    return element("tr", {}, element("th", { colSpan: numbers.length ? 1 : 4 }, ...key, name), ...numbers.map((number) => element("td", {}, number)));
  };
  if (others.length) card.append(element("table", {}, ...others.map(line)));
  card.hidden = false;
  card.classList.toggle("below", svg.matches(".snug"));
  // Beside the rule, where no line is. Below a narrow chart.
  const figure = svg.parentElement.getBoundingClientRect();
  const box = svg.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  const x = box.left - figure.left + area.x * scale;
  const isRight = area.x > svg.viewBox.baseVal.width / 2;
  const isLow = heights.length ? heights.reduce((a, b) => a + b) / heights.length > (area.top + area.bottom) / 2 : true;
  const offset = box.top - figure.top;
  card.style.left = svg.matches(".snug") ? "" : `${Math.max(4, Math.min(isRight ? x - card.offsetWidth - 10 : x + 10, figure.width - card.offsetWidth - 4))}px`;
  card.style.top = svg.matches(".snug") ? "" : `${isLow ? offset + area.top * scale : offset + area.bottom * scale - card.offsetHeight - 6}px`;
}

addEventListener("keydown", ({ key }) => key === "Escape" && hide());

// The other way round: from the table to the charts.
if (table && charts.length) {
  let lit;
  const point = (cell) => {
    const row = cell?.closest("tr");
    const at = row?.dataset.at;
    const column = cell?.querySelector("a") && cell.cellIndex >= NUMBERS ? String(cell.cellIndex - NUMBERS) : undefined;
    const what = [at, column].join();
    if (what === lit) return;
    lit = what;
    hide();
    // The other one of a wide and a narrow chart is not shown.
    for (const drawn of charts.filter(({ svg }) => svg.getClientRects().length)) {
      if (at) light(drawn, at);
      if (column !== undefined && !drawn.areas.some((area) => area.at === at)) light(drawn, column);
    }
  };
  const focused = () => table.contains(document.activeElement) && document.activeElement.closest("td, th");
  for (const come of ["pointerover", "focusin"]) table.addEventListener(come, (event) => point(event.target.closest("td, th")));
  for (const go of ["pointerleave", "focusout"]) table.addEventListener(go, () => point(focused() || undefined));
}

// Add and remove filters without a reload: filling "+ and" adds an empty field, × removes a filter.
for (const form of document.querySelectorAll("form.ask")) {
  form.addEventListener("input", ({ target: field }) => {
    if (!field.matches(".event.more") || !field.value.trim()) return;
    const cond = field.parentElement;
    const empty = field.cloneNode();
    const [, stem, number] = field.id.match(/^(.*?)(\d*)$/);
    empty.id = stem + (Number(number) + 1);
    empty.value = "";
    empty.setAttribute("aria-expanded", "false");
    for (const said of ["value", "aria-invalid", "aria-describedby", "aria-activedescendant"]) empty.removeAttribute(said);
    const remove = element("button", { type: "button", className: "remove", ariaLabel: "Remove this filter" }, "×");
    field.classList.remove("more");
    field.placeholder = "";
    cond.prepend("and ");
    cond.append(remove);
    const next = cond.cloneNode();
    next.append(empty);
    cond.after(" ", next);
    completes(empty);
  });
  form.addEventListener("click", (event) => {
    const cond = event.target.closest(".remove")?.closest(".cond");
    if (!cond || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const gone = cond.querySelector(".event");
    const fields = [...form.elements].filter((field) => field.name === gone.name);
    const at = fields.indexOf(gone);
    (fields[at + 1] ?? fields[at - 1] ?? form.querySelector(".event"))?.focus();
    cond.remove();
  });
}

// Returns the name at the caret of an expression, with its position. Adjacent words count as one name, although a name
// with spaces must be quoted. Returns undefined after `@`, a closing bracket or a complete name, and in numbers of functions.
function nameAt(text, caret) {
  let before = "";
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"?|[^&|^!()@"]+|./gsu)) {
    const blank = !token.trim();
    const end = index + token.length;
    if (caret <= end && (caret > index || !index) && (blank || !/^[&|^!()@]$/.test(token))) {
      if (/[@)"]/.test(before)) return undefined;
      if (blank) return { start: caret, end: caret, name: "" };
      if (token[0] === '"') return { start: index, end, name: token.replace(/^"|"$/g, "").replace(/\\(.)/g, "$1") };
      // Numbers before and after a comma are arguments of a function and no part of a name.
      const counts = /(within|atleast)\s*\(/.test(text.slice(0, index));
      const from = counts ? token.match(/^(\s*\d+\s*,)?\s*/)[0].length : token.search(/\S/);
      const until = Math.max(from, counts ? token.search(/\s*(,\s*[-\d.]*\s*)?$/) : token.trimEnd().length);
      if (counts && (caret < index + from || caret > index + until)) return undefined;
      return { start: index + from, end: index + until, name: token.slice(from, until) };
    }
    if (index >= caret) break;
    if (!blank) before = token.at(-1);
  }
  return /[@)"]/.test(before) ? undefined : { start: caret, end: caret, name: "" };
}

// Returns the events that match the text: first those that start with it, then those with a word that does, then others.
function fitting(events, written) {
  const words = written.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = (event) => {
    const known = `${event.label ?? ""}\n${event.name}`.toLowerCase();
    if (!words.every((word) => known.includes(word))) return 9;
    if (known.split("\n").some((text) => text.startsWith(words.join(" ")))) return 0;
    return known.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(words[0])) ? 1 : 2;
  };
  return [0, 1, 2].flatMap((wanted) => events.filter((event) => rank(event) === wanted));
}

// Autocompletion of event names: a combobox with one list for the page, loaded on first use.
const MOST_OFFERED = 50;
const offers = { shown: [], active: -1 };

function loadEvents() {
  // After a failure, the next focus tries again.
  offers.loading ||= fetch(fields[0].form.dataset.events)
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status)))
    .then(({ events, functions, when }) => Object.assign(offers, { events, functions, when }))
    .catch(() => (offers.loading = null))
    .finally(() => offers.field && showList());
}

function closeList() {
  if (!offers.field) return;
  offers.field.setAttribute("aria-expanded", "false");
  offers.field.removeAttribute("aria-activedescendant");
  offers.box.hidden = true;
  offers.field = undefined;
}

function activate(index) {
  const list = offers.box.firstChild;
  list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
  offers.active = index;
  const option = list.children[index];
  option?.setAttribute("aria-selected", "true");
  option?.scrollIntoView({ block: "nearest" });
  if (option) offers.field.setAttribute("aria-activedescendant", option.id);
  else offers.field.removeAttribute("aria-activedescendant");
}

function element(name, attributes, ...inside) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...inside);
  return made;
}

function option({ name, label, group, today, text, about }, index) {
  const hidden = (text) => element("span", { className: "sr" }, text);
  const what = element("span", {}, about ? text : (label ?? name));
  if (about) {
    what.append(" ", element("small", {}, about));
    return element("li", { id: `offer-${index}`, role: "option", ariaSelected: "false" }, what);
  }
  if (group) what.append(" ", element("small", {}, group));
  const count = today?.toLocaleString("en-GB") ?? "ever";
  const unit = today === null ? ": recorded without dates" : ` ${today === 1 ? "person" : "people"} ${offers.when}`;
  const number = element("b", {}, hidden(", "), count, hidden(unit));
  return element("li", { id: `offer-${index}`, role: "option", ariaSelected: "false" }, what, number);
}

function showList() {
  const { field, box, events, functions, typed } = offers;
  const at = nameAt(field.value, field.selectionStart);
  if (!at) return closeList();
  // A field that was just opened lists all events, not only those that match its value.
  const found = fitting(events ?? [], typed ? at.name : "");
  const shown = found.slice(0, MOST_OFFERED);
  const more = (found.length - shown.length).toLocaleString("en-GB");
  // Functions are few and stand after the events.
  const start = typed ? at.name.toLowerCase() : "";
  offers.shown = [...shown, ...(functions ?? []).filter(({ name }) => name.startsWith(start))];
  const [list, status] = box.children;
  list.replaceChildren(...offers.shown.map(option));
  list.hidden = !offers.shown.length;
  status.textContent = !events
    ? offers.loading ? "Loading events…" : "Could not load: type the name"
    : !offers.shown.length ? "No event has this in its name" : more !== "0" ? `… ${more} more: type on` : "";
  status.hidden = !status.textContent;
  box.hidden = false;
  field.setAttribute("aria-expanded", String(!list.hidden));
  activate(-1);
  list.scrollTop = 0;
  const place = field.getBoundingClientRect();
  const room = document.documentElement.clientWidth - box.offsetWidth - 8;
  box.style.left = `${Math.max(8, Math.min(place.left, room)) + scrollX}px`;
  box.style.top = `${place.bottom + scrollY + 4}px`;
}

function openList(field, typed) {
  if (offers.field !== field) closeList();
  Object.assign(offers, { field, typed });
  if (offers.loading === undefined) loadEvents();
  showList();
}

function choose(index) {
  const { field, shown } = offers;
  const { start, end } = nameAt(field.value, field.selectionStart);
  const { text } = shown[index];
  const before = field.value.slice(0, start).replace(/([&|^])$/, "$1 ");
  const after = field.value.slice(end);
  // The caret goes to where the event of a function belongs.
  const hole = text.indexOf("…");
  const whole = text.replace("…", "");
  field.value = before + whole + (text.endsWith("@ever") ? after.replace(/^@ever/, "") : after);
  field.selectionStart = field.selectionEnd = before.length + (hole < 0 ? text.length : hole);
  closeList();
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
}

function completes(field) {
  field.removeAttribute("list");
  const said = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "offers" };
  for (const attribute in said) field.setAttribute(attribute, said[attribute]);
  field.addEventListener("focus", loadEvents);
  field.addEventListener("blur", closeList);
  field.addEventListener("click", () => openList(field, false));
  // Ignores changes by the script, such as a name chosen from the list.
  field.addEventListener("input", (event) => event.isTrusted && openList(field, true));
  field.addEventListener("keydown", (event) => {
    const { key } = event;
    const isOpen = offers.field === field;
    if (event.isComposing || event.ctrlKey || event.metaKey) return;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (!isOpen) openList(field, false);
      const count = offers.field ? offers.shown.length : 0;
      // The field itself is one position of the cycle.
      if (count) activate(((offers.active + (key === "ArrowDown" ? 2 : count + 1)) % (count + 1)) - 1);
    } else if (isOpen && key === "Escape") {
      event.preventDefault();
      closeList();
    } else if (isOpen && (key === "Enter" || key === "Tab")) {
      if (offers.active < 0) return closeList();
      if (key === "Enter") event.preventDefault();
      choose(offers.active);
    }
  });
}

const fields = document.querySelectorAll("input[list=events]");
if (fields.length) {
  const list = element("ul", { id: "offers", role: "listbox", ariaLabel: "Events" });
  const box = element("div", { className: "offers", hidden: true }, list, element("p", { role: "status" }));
  // Keep the focus in the field.
  box.addEventListener("mousedown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const chosen = [...list.children].indexOf(event.target.closest("li"));
    if (chosen >= 0) choose(chosen);
  });
  fields[0].form.append(box);
  fields.forEach(completes);
  addEventListener("resize", closeList);
  offers.box = box;
}
