const SAYS_COPIED = 1500; // Milliseconds that the button says that it has copied.

/** @param {WidgetView<CopyTraits>} view */
function render({ model, el }) {
  const button = /** @type {HTMLButtonElement} */ (element("button", "q3-copy", el));
  const field = /** @type {HTMLTextAreaElement} */ (element("textarea", "q3-copy-text", el));
  button.type = "button";
  field.readOnly = true;
  field.hidden = true;
  field.setAttribute("aria-label", "Text to copy");

  function draw() {
    button.textContent = model.get("label");
    button.title = model.get("hint");
    button.disabled = !model.get("text");
    field.value = model.get("text");
    field.hidden = true;
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(model.get("text"));
    } catch {
      // Without a secure connection browsers have no clipboard: Ctrl+C copies what is selected.
      field.hidden = false;
      field.select();
      return;
    }
    button.textContent = "Copied";
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
