// The text of a recording; the token under the pointer shades others. All text is set as text.

const ASK_AFTER_MS = 30;

function element(tag, className, parent) {
  const node = document.createElement(tag);
  node.className = className;
  parent.appendChild(node);
  return node;
}

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
  let words = [];
  let timer = 0;

  function drawText() {
    const { first, tokens } = model.get("text");
    const fragment = document.createDocumentFragment();
    words = tokens.map(([text, part, breaks], index) => {
      const word = element("span", `q3-word q3-word-${part}`, fragment);
      word.textContent = text;
      word.dataset.token = String(first + index);
      element(breaks ? "br" : "wbr", "", fragment); // a line may end between tokens
      return word;
    });
    root.replaceChildren(fragment);
    drawLegend(new Set(tokens.map(([, part]) => part)));
    root.dataset.words = String(words.length);
    drawWeights();
  }

  function drawLegend(parts) {
    legend.replaceChildren();
    for (const part of ["thinking", "answer"].filter((part) => parts.has(part))) {
      element("span", `q3-key q3-key-${part}`, legend).textContent = part;
    }
  }

  function drawWeights() {
    const { first } = model.get("text");
    const view = model.get("weights");
    const weights = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const shaded = model.get("shaded") - first;
    words.forEach((word, index) => {
      const weight = weights.length === words.length ? weights[index] / 255 : 0;
      word.style.setProperty("--q3-weight", weight.toFixed(3));
      word.classList.toggle("q3-word-here", index === shaded);
    });
    root.dataset.shaded = String(model.get("shaded"));
    readout.textContent = words[shaded] ? said(shaded, weights) : "";
  }

  // The strongest few, in words.
  function said(shaded, weights) {
    const { first } = model.get("text");
    const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, 4);
    const named = order
      .filter((index) => weights[index] > 0)
      .map((i) => `${first + i} “${words[i].textContent}” ${(weights[i] / 255).toFixed(2)}`);
    return `token ${first + shaded} “${words[shaded].textContent}”: ${named.join(", ")}`;
  }

  function ask(token) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      model.set("token", token);
      model.save_changes();
    }, ASK_AFTER_MS);
  }

  function pick(token) {
    model.set("picked", token);
    ask(token);
  }

  root.addEventListener("pointerover", (event) => {
    const word = event.target.closest(".q3-word");
    if (word) ask(Number(word.dataset.token));
  });
  root.addEventListener("pointerleave", () => ask(model.get("picked")));
  root.addEventListener("click", (event) => {
    const word = event.target.closest(".q3-word");
    if (word) pick(Number(word.dataset.token));
  });
  root.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !words.length) return;
    event.preventDefault();
    event.stopPropagation(); // or the notebook takes the key
    const { first } = model.get("text");
    const last = first + words.length - 1;
    pick(Math.max(first, Math.min(last, Math.max(model.get("token"), first - 1) + step)));
  });
  model.on("change:text", drawText);
  model.on("change:weights", drawWeights);
  model.on("change:shaded", drawWeights);
  drawText();
  return () => {
    clearTimeout(timer);
    model.off("change:text", drawText);
    model.off("change:weights", drawWeights);
    model.off("change:shaded", drawWeights);
  };
}

export default { render };
