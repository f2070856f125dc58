// Picks one of many numbers: a slider for a rough choice, a field for typing, two step buttons.

/**
 * The offered number nearest to one that may not be offered, in its direction from the picked one.
 * @param {number[]} values in ascending order
 * @param {number} wanted
 * @param {number} picked
 */
function offered(values, wanted, picked) {
  if (values.includes(wanted)) return wanted;
  const beyond = values.filter((each) => each > wanted === wanted > picked);
  const near = beyond.length ? beyond : values;
  return near.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
}

/**
 * Name a control for the pointer and for screen readers.
 * @param {HTMLElement} control
 * @param {string} hint
 */
function name(control, hint) {
  control.title = hint;
  control.setAttribute("aria-label", hint);
}

/** @param {WidgetView<NumberTraits>} view */
function render({ model, el }) {
  el.classList.add("q3-number");
  const { slider: about, field: how, earlier: before, later: after } = model.get("hints");
  const label = element("label", "q3-number-name", el);
  const slider = element("input", "q3-number-slider", el);
  const earlier = stepButton("‹", before, -1);
  const field = element("input", "q3-number-field", el);
  const later = stepButton("›", after, 1);
  label.textContent = model.get("name");
  slider.type = "range";
  slider.min = "0";
  field.type = "number";
  name(slider, about);
  name(field, how);

  /**
   * @param {string} text
   * @param {string} hint
   * @param {number} by
   */
  function stepButton(text, hint, by) {
    const button = element("button", "q3-number-step", el);
    button.type = "button";
    button.textContent = text;
    name(button, hint);
    button.addEventListener("click", () => pickAt(place() + by));
    return button;
  }

  const place = () => model.get("values").indexOf(model.get("value"));

  function draw() {
    const values = model.get("values");
    const at = place();
    slider.max = String(values.length - 1);
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", String(values[at]));
    field.min = String(values[0]);
    field.max = String(values[values.length - 1]);
    field.value = String(values[at]);
    earlier.disabled = at === 0;
    later.disabled = at === values.length - 1;
  }

  /** @param {number} at place among the values */
  function pickAt(at) {
    const values = model.get("values");
    const value = values[Math.max(0, Math.min(values.length - 1, at))];
    if (value === model.get("value")) return draw();
    model.set("value", value);
    model.save_changes();
    draw();
  }

  slider.addEventListener("input", () => pickAt(Number(slider.value)));
  field.addEventListener("change", () => {
    const values = model.get("values");
    const wanted = Math.round(Number(field.value));
    if (field.value === "" || !Number.isFinite(wanted)) return draw();
    pickAt(values.indexOf(offered(values, wanted, model.get("value"))));
  });
  // The notebook would handle arrow keys as well.
  el.addEventListener("keydown", (event) => event.stopPropagation());
  const stop = listen(model, { "change:value": draw });
  draw();
  return stop;
}

export default { render };
