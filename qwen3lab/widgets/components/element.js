// Shared by all scripts; scripts.py puts this file before each of them.

/**
 * A message in the language that Python showed when the module was made.
 * @param {string} message in English, with named placeholders: tr("layer {layer}", { layer: 3 })
 * @param {Record<string, string | number>} values of the placeholders
 */
function tr(message, values = {}) {
  return (WORDS[message] ?? message).replace(/\{(\w+)\}/g, (all, name) => `${values[name] ?? all}`);
}

/**
 * Create an element at the end of its parent.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className may be empty
 * @param {Node} parent
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function element(tag, className, parent) {
  const node = document.createElement(tag);
  node.className = className;
  parent.appendChild(node);
  return node;
}

/**
 * Set the text of an element; the same text again would make the browser lay it out anew.
 * @param {Element} node
 * @param {string} text
 */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * The bytes of a binary trait, without a copy.
 * @param {DataView} view
 * @returns {Uint8Array}
 */
function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/**
 * Listen to events of a model.
 * @template Traits
 * @param {WidgetModel<Traits>} model
 * @param {Record<string, (...values: any[]) => void>} handlers by the event's name
 * @returns {() => void} stops listening
 */
function listen(model, handlers) {
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  return () => {
    for (const [event, handler] of Object.entries(handlers)) model.off(event, handler);
  };
}

/**
 * Copy a text; a page that is not served safely has no clipboard, and needs a selection.
 * @param {string} text
 * @param {Element} place
 */
async function copyText(text, place) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", "", place);
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/**
 * The nearest element around an event's target that matches a selector.
 * @param {Event} event
 * @param {string} selector
 * @returns {HTMLElement | null}
 */
function closest(event, selector) {
  return event.target instanceof Element ? event.target.closest(selector) : null;
}

/**
 * -1 for the left arrow key, 1 for the right one, 0 for others. An arrow key is not passed on:
 * the notebook would handle it as well.
 * @param {KeyboardEvent} event
 */
function arrowStep(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
  if (step) {
    event.preventDefault();
    event.stopPropagation();
  }
  return step;
}

/**
 * Scroll a list so that an element in it is seen. `scrollIntoView` would scroll the notebook, too.
 * @param {Element} inner
 * @param {Element} outer
 */
function reveal(inner, outer) {
  const [inside, around] = [inner.getBoundingClientRect(), outer.getBoundingClientRect()];
  const above = inside.top - around.top;
  const below = inside.bottom - around.bottom;
  if (above < 0) outer.scrollTop += above;
  else if (below > 0) outer.scrollTop += below;
}

const NAME_AFTER_MS = 100;

/**
 * Name the controls that ipywidgets leaves without a name: the handles of sliders after their
 * labels, and others after their tooltips, which it puts on the control, around it or on a hidden
 * label. What scrolls can be reached by keyboard.
 */
function nameControls() {
  for (const handle of document.querySelectorAll(".q3-bench .noUi-handle:not([aria-label])")) {
    const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
    if (label?.textContent) handle.setAttribute("aria-label", label.textContent);
  }
  const fields = ["select", "input", "textarea"].map((tag) => `.q3-bench ${tag}:not([aria-label])`);
  for (const field of document.querySelectorAll(fields.join())) {
    const label = field.parentElement?.querySelector("label");
    if (label?.textContent) continue;
    const titled = label?.title ? label : field.closest("[title]");
    const title = titled?.getAttribute("title");
    if (!title) continue;
    field.setAttribute("aria-label", title);
    field.setAttribute("title", title);
  }
  const described = ".q3-token-card > .widget-html:not([tabindex]):has(.q3-token)";
  for (const region of document.querySelectorAll(described)) {
    region.setAttribute("tabindex", "0");
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", tr("The picked token"));
  }
}

/**
 * Scroll an element into the window if the window has room for all of it.
 * @param {Element} body
 */
function keepInWindow(body) {
  const { top, bottom, height } = body.getBoundingClientRect();
  const isSeen = top >= 0 && bottom <= window.innerHeight;
  if (!isSeen && height < window.innerHeight) body.scrollIntoView({ block: "nearest" });
}

/**
 * What every workbench of the page needs, installed once: a workbench that is clicked is kept in
 * the window, so that what the click changes is seen; and controls get their names.
 */
function serveBenches() {
  if (globalThis.qwen3labServesBenches) return;
  globalThis.qwen3labServesBenches = true;
  document.addEventListener("click", (event) => {
    const body = closest(event, ".q3-bench")?.querySelector(".q3-bench-body");
    // In the next frame, which computes the layout anyway; here it would be computed once more.
    if (body) requestAnimationFrame(() => keepInWindow(body));
  });
  let waits = false;
  const nameSoon = () => {
    if (waits) return; // Once for all changes of a redraw, and after it.
    waits = true;
    setTimeout(() => {
      waits = false;
      nameControls();
    }, NAME_AFTER_MS);
  };
  new MutationObserver(nameSoon).observe(document.body, { childList: true, subtree: true });
  nameControls();
}
