// The list of clips, whose order is that of the cards.

const grid = document.getElementById("grid");
const list = document.getElementById("clip-list");
const choice = {
  system: document.getElementById("of-system"),
  failing: document.getElementById("failing"),
  name: document.getElementById("name"),
  by: "", descending: true,
};
let order = [...cards];
const shown = () => order.filter((card) => card.shell.isConnected);

function failuresOf(card, system) { return card.told.failures[system] ?? []; }

const COLUMNS = [
  { name: "Clip", of: (card) => card.told.id },
  { name: "Speaker", of: (card) => card.told.speaker },
  { name: "Failures", of: (card) => failuresOf(card, choice.system.value).length || null,
    text: (card) => failuresOf(card, choice.system.value).map(([kind]) => kind).join(", ") },
  { name: "First bad frame", ascending: true, whole: true,
    of: (card) => failuresOf(card, choice.system.value).length
      ? Math.min(...failuresOf(card, choice.system.value).map(([, frame]) => frame)) : null },
  ...page.scores.map(({ name, better }) => ({
    name, ascending: better === "higher",
    of: (card) => card.told.scores[name]?.[choice.system.value] ?? null,
  })),
];

function fillList() {
  const columns = COLUMNS.filter((column) => column.name === "Clip" || cards.some((card) => column.of(card) !== null));
  const head = element("tr", {}, ...columns.map((column) => {
    const button = element("button", { type: "button" }, column.name);
    button.addEventListener("click", () => {
      choice.descending = choice.by === column.name ? !choice.descending : typeof column.of(cards[0]) !== "string" && !column.ascending;
      choice.by = column.name;
      arrange();
    });
    const cell = element("th", { scope: "col" }, button);
    cell.setAttribute("aria-sort", choice.by !== column.name ? "none" : choice.descending ? "descending" : "ascending");
    return cell;
  }));
  const rows = shown().map((card) => {
    const cells = columns.map((column, place) => {
      const value = column.of(card);
      const text = column.text ? column.text(card) : typeof value === "number" && !column.whole ? number(value) : value ?? "";
      if (place) return element("td", { className: column.text ? "bad" : "" }, text);
      const link = element("a", { href: `#clip-${card.index}` }, text);
      link.addEventListener("click", (event) => { event.preventDefault(); reveal(card); });
      return element("th", { scope: "row" }, link);
    });
    return element("tr", {}, ...cells);
  });
  list.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function reveal(card) {
  card.shell.scrollIntoView({ block: "start" });
  player.choose(card);
}

// Put the cards into the order, and the clips, that are asked for.
function arrange() {
  const column = COLUMNS.find(({ name }) => name === choice.by);
  order = [...cards];
  if (column) order.sort((one, other) => compare(column.of(one), column.of(other), choice.descending));
  const wanted = choice.name.value.trim().toLowerCase();
  const kept = order.filter((card) =>
    (!choice.failing.checked || failuresOf(card, choice.system.value).length)
    && `${card.told.id} ${card.told.speaker}`.toLowerCase().includes(wanted));
  grid.replaceChildren(...kept.map((card) => card.shell));
  kept.forEach((card) => card.draw());
  document.getElementById("count").textContent = `${kept.length} of ${cards.length} clips`;
  fillList();
}
