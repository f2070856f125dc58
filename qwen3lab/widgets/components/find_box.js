// A search box: the number of places found, and buttons for the previous and the next one.

const SEARCH_AFTER_MS = 150;

/** @param {WidgetView<FindTraits>} view */
function render({ model, el }) {
  el.classList.add("q3");
  const root = element("div", "q3-find", el);
  root.setAttribute("role", "search");
  const input = element("input", "q3-find-text", root);
  input.type = "search";
  input.placeholder = tr("Find in the text");
  input.title = tr(
    "Find in the text: Enter goes to the next place, Shift+Enter back, Escape clears",
  );
  input.setAttribute("aria-label", input.placeholder);
  const count = element("span", "q3-find-count", root);
  count.setAttribute("role", "status");
  const buttons = [button("‹", tr("Previous place"), -1), button("›", tr("Next place"), 1)];
  let timer = 0;

  /**
   * @param {string} text
   * @param {string} name
   * @param {number} step
   */
  function button(text, name, step) {
    const made = element("button", "q3-find-step", root);
    made.type = "button";
    made.textContent = text;
    made.title = name;
    made.setAttribute("aria-label", name);
    made.addEventListener("click", () => search() || go(step));
    return made;
  }

  /** Search what was typed; false if that is searched already. */
  function search() {
    clearTimeout(timer);
    if (input.value === model.get("text")) return false;
    model.set("text", input.value);
    model.save_changes();
    drawCount();
    return true;
  }

  /** @param {number} step */
  function go(step) {
    model.send({ kind: "go", step });
  }

  function drawCount() {
    const { hit, of } = model.get("found");
    const place =
      hit < 0 ? tr("{of} found", { of }) : tr("{place} of {of}", { place: hit + 1, of });
    count.textContent = model.get("text") ? (of ? place : tr("not found")) : "";
    for (const each of buttons) each.disabled = !of;
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, SEARCH_AFTER_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation(); // The notebook would leave its cell.
    if (event.key === "Escape") input.value = "";
    if (!search() && event.key === "Enter") go(event.shiftKey ? -1 : 1);
  });
  const stop = listen(model, {
    "change:found": drawCount,
    "change:text": () => {
      if (document.activeElement !== input) input.value = model.get("text");
      drawCount();
    },
  });
  input.value = model.get("text");
  drawCount();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

export default { render };
