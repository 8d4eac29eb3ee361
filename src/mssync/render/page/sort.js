// Tables that are sorted by a click on a column.

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((cell, place) => {
    const button = element("button", { type: "button" }, ...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const descending = cell.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = (row) => {
        const found = row.cells[place]?.dataset.value;
        return found === undefined ? row.cells[place]?.textContent.trim() : found === "" ? null : Number(found);
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((one, other) => compare(value(one), value(other), descending)));
    });
  });
}
