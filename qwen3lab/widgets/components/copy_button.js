const SAYS_COPIED = 1500; // Milliseconds that the button says that it has copied.

/** @param {WidgetView<CopyTraits>} view */
function render({ model, el }) {
  const button = /** @type {HTMLButtonElement} */ (element("button", "q3-copy", el));
  button.type = "button";

  function draw() {
    button.textContent = model.get("label");
    button.title = model.get("hint");
    button.disabled = !model.get("text");
  }

  async function copy() {
    await copyText(model.get("text"), el);
    button.textContent = tr("Copied");
    setTimeout(draw, SAYS_COPIED);
    model.set("copied", model.get("copied") + 1);
    model.save_changes();
  }

  button.addEventListener("click", copy);
  const stop = listen(model, {
    "change:text": draw,
    "change:label": draw,
    "change:hint": draw,
  });
  draw();
  return stop;
}

export default { render };
