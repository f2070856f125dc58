// Shows the text of a recording; the token under the pointer shades the tokens that it attends to.
// Text is set as textContent, never as HTML.

const ASK_AFTER_MS = 30;

/** @param {WidgetView<TextTraits>} view */
function render({ model, el }) {
  el.classList.add("q3");
  const root = element("div", "q3-text", el);
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Text. Left and right arrow keys go from token to token.");
  const footer = element("div", "q3-footer", el);
  const legend = element("div", "q3-legend", footer);
  const readout = element("div", "q3-readout", footer);
  readout.setAttribute("aria-live", "polite");
  /** @type {HTMLElement[]} */
  let words = [];
  let timer = 0;

  function drawText() {
    const { first, tokens } = model.get("text");
    const fragment = document.createDocumentFragment();
    words = tokens.map(([text, part, breaks], index) => {
      const word = element("span", `q3-word q3-word-${part}`, fragment);
      word.textContent = text;
      word.dataset.token = String(first + index);
      element(breaks ? "br" : "wbr", "", fragment); // Lets a line end between two tokens.
      return word;
    });
    root.replaceChildren(fragment);
    drawLegend(new Set(tokens.map(([, part]) => part)));
    root.dataset.words = String(words.length);
    drawWeights();
  }

  /** @param {Set<string>} parts */
  function drawLegend(parts) {
    legend.replaceChildren();
    for (const part of ["thinking", "answer"].filter((part) => parts.has(part))) {
      element("span", `q3-key q3-key-${part}`, legend).textContent = part;
    }
  }

  function drawWeights() {
    const { first } = model.get("text");
    const weights = bytes(model.get("weights"));
    const shaded = model.get("shaded") - first;
    words.forEach((word, index) => {
      const weight = weights.length === words.length ? weights[index] / 255 : 0;
      word.style.setProperty("--q3-weight", weight.toFixed(3));
      word.classList.toggle("q3-word-here", index === shaded);
    });
    root.dataset.shaded = String(model.get("shaded"));
    readout.textContent = words[shaded] ? describe(shaded, weights) : "";
  }

  /**
   * The four largest weights, in words.
   * @param {number} shaded
   * @param {Uint8Array} weights
   */
  function describe(shaded, weights) {
    const { first } = model.get("text");
    const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, 4);
    const named = order
      .filter((index) => weights[index] > 0)
      .map((i) => `${first + i} “${words[i].textContent}” ${(weights[i] / 255).toFixed(2)}`);
    return `token ${first + shaded} “${words[shaded].textContent}”: ${named.join(", ")}`;
  }

  /** @param {number} token */
  function ask(token) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      model.set("token", token);
      model.save_changes();
    }, ASK_AFTER_MS);
  }

  /** @param {number} token */
  function pick(token) {
    model.set("picked", token);
    ask(token);
  }

  root.addEventListener("pointerover", (event) => {
    const word = closest(event, ".q3-word");
    if (word) ask(Number(word.dataset.token));
  });
  root.addEventListener("pointerleave", () => ask(model.get("picked")));
  root.addEventListener("click", (event) => {
    const word = closest(event, ".q3-word");
    if (word) pick(Number(word.dataset.token));
  });
  root.addEventListener("keydown", (event) => {
    const step = arrowStep(event);
    if (!step || !words.length) return;
    const { first } = model.get("text");
    const last = first + words.length - 1;
    pick(Math.max(first, Math.min(last, Math.max(model.get("token"), first - 1) + step)));
  });
  const stop = listen(model, {
    "change:text": drawText,
    "change:weights": drawWeights,
    "change:shaded": drawWeights,
  });
  drawText();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

export default { render };
