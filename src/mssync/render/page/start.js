// Fill the cards that are near the window, and begin.

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const card = cards[Number(target.dataset.clip)];
    if (isIntersecting) card.fill();
    else if (card !== player.card && target.isConnected) card.empty();
  }
}, { rootMargin: "800px 0px" });
cards.forEach((card) => near.observe(card.shell));

let waiting = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => cards.forEach((card) => card.repaint()));
}).observe(grid);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cards.forEach((card) => card.repaint()));

page.systems.forEach((system) => choice.system.append(new Option(system)));
choice.system.value = page.judged ?? page.systems[0] ?? "";
for (const [input, event] of [[choice.system, "change"], [choice.failing, "change"], [choice.name, "input"]]) {
  input.addEventListener(event, arrange);
}
arrange();
controls.show();
