// The likeliest tokens at one place as buttons. Text is set as textContent, never as HTML.

/** @param {WidgetView<AlternativeTraits>} view */
function render({ model, el }) {
  el.classList.add("q3");
  const root = element("div", "q3-alternatives", el);
  root.tabIndex = -1;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", tr("The likeliest tokens here"));

  /**
   * @param {AlternativeData} alternative
   * @param {number} index
   */
  function button([text, share, percent, isWritten], index) {
    const made = element("button", "q3-alternative", root);
    made.type = "button";
    made.style.setProperty("--q3-share", share.toFixed(4));
    const shown = element("span", "q3-alternative-text", made);
    shown.textContent = text;
    shown.dir = "auto";
    element("span", "q3-alternative-share", made).textContent = percent;
    const hint = isWritten ? tr("the token that is in the text") : model.get("hint");
    made.title = `“${text}” ${percent}: ${hint}`;
    made.setAttribute("aria-label", made.title);
    made.disabled = isWritten || !model.get("enabled");
    if (isWritten) made.setAttribute("aria-current", "true");
    made.addEventListener("click", () => {
      model.set("picked", index);
      model.save_changes();
    });
  }

  let waits = false;
  function draw() {
    waits = false;
    const hadFocus = root.contains(document.activeElement);
    root.replaceChildren();
    model.get("alternatives").forEach(button);
    const note = model.get("note");
    if (note) element("span", "q3-hint", root).textContent = note;
    root.hidden = !root.childElementCount && !hadFocus;
    if (hadFocus) root.focus({ preventScroll: true }); // Not lost with the button.
  }

  /** Draw once, after all traits of a message are set. */
  function drawSoon() {
    if (waits) return;
    waits = true;
    queueMicrotask(draw);
  }

  const stop = listen(model, {
    "change:alternatives": drawSoon,
    "change:note": drawSoon,
    "change:hint": drawSoon,
    "change:enabled": drawSoon,
  });
  draw();
  return stop;
}

export default { render };
