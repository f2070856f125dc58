// Shows the text of a recording, each token shaded by a number. Text is set as textContent, never
// as HTML.

const ASK_AFTER_MS = 30;

/**
 * The numbers of a binary trait.
 * @param {DataView} view
 */
function floats(view) {
  return new Float32Array(new Uint8Array(bytes(view)).buffer); // A copy: floats have to be aligned.
}

/** @param {number} value */
function rounded(value) {
  return String(Number(value.toPrecision(3)));
}

/**
 * The place of a value between the lightest and the darkest shade; NaN where there is none.
 * @param {number} value
 * @param {Shades} shades
 */
function shareOf(value, { high, low = 0, kind = "linear" }) {
  if (kind === "logarithm") return Math.log(value / low) / Math.log(high / low);
  const share = (value - low) / (high - low);
  return kind === "square root" ? Math.sqrt(share) : share;
}

/** @param {WidgetView<TextTraits>} view */
function render({ model, el }) {
  serveBenches();
  el.classList.add("q3");
  const root = element("div", "q3-text", el);
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", tr("Text. Left and right arrow keys go from token to token."));
  const footer = element("div", "q3-footer", el);
  const legend = element("div", "q3-legend", footer);
  const readout = element("div", "q3-readout", footer);
  readout.setAttribute("aria-live", "polite");
  /** @type {HTMLElement[]} */
  let words = [];
  /** @type {HTMLElement | undefined} the token that is outlined */
  let here;
  let values = new Float32Array();
  let timer = 0;
  let waits = false;

  const firstToken = () => model.get("text").first;

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
    root.dataset.words = String(words.length);
    drawHits();
    drawNotes();
    drawShades();
  }

  /** Mark the places that a search has found. */
  function drawHits() {
    const first = firstToken();
    for (const word of root.querySelectorAll(".q3-word-hit")) word.classList.remove("q3-word-hit");
    for (const [start, end] of model.get("hits")) {
      for (const word of words.slice(Math.max(0, start - first), Math.max(0, end - first))) {
        word.classList.add("q3-word-hit");
      }
    }
  }

  /** Mark the tokens with a note, and show it under the pointer. */
  function drawNotes() {
    const notes = model.get("notes") || {};
    for (const word of words) {
      const note = notes[word.dataset.token || ""];
      word.classList.toggle("q3-word-noted", Boolean(note));
      word.title = note || "";
    }
  }

  function drawShades() {
    values = floats(model.get("values"));
    words.forEach((word, index) => {
      // NaN, and a token without a value, have no shade.
      const share = shareOf(values[index], model.get("shades")) || 0;
      word.style.setProperty("--q3-weight", Math.min(1, Math.max(0, share)).toFixed(3));
    });
    root.dataset.shaded = String(model.get("shaded"));
    root.dataset.shades = model.get("shades").title;
    drawLegend();
    drawHere();
  }

  /** Draw the shades once, after all traits of a message are set. */
  function drawSoon() {
    if (waits) return;
    waits = true;
    queueMicrotask(() => {
      waits = false;
      drawShades();
    });
  }

  /** The parts of the conversation, and the scale of the shades. */
  function drawLegend() {
    const { title, high, nothing, low = 0, note = "", clipped = false } = model.get("shades");
    const parts = new Set(model.get("text").tokens.map(([, part]) => part));
    legend.replaceChildren();
    for (const [part, name] of Object.entries({ thinking: tr("thinking"), answer: tr("answer") })) {
      if (parts.has(part)) element("span", `q3-key q3-key-${part}`, legend).textContent = name;
    }
    if (!title) return;
    const scale = element("span", "q3-scale", legend);
    element("span", "", scale).textContent = values.length ? rounded(low) : "";
    if (values.length) element("span", "q3-ramp", scale);
    const said = [`${clipped ? "≥ " : ""}${rounded(high)}  ${title}`, note];
    element("span", "", scale).textContent = values.length
      ? said.filter(Boolean).join("; ")
      : title;
    if (nothing && values.some(Number.isNaN)) {
      element("span", "q3-nothing-note", legend).textContent = tr("unshaded: {nothing}", {
        nothing,
      });
    }
  }

  /** Outline the token that the numbers belong to, or the picked one. */
  function drawHere() {
    const shaded = model.get("shaded");
    const index = (shaded >= 0 ? shaded : model.get("picked")) - firstToken();
    here?.classList.remove("q3-word-here");
    here = words[index];
    here?.classList.add("q3-word-here");
    describe(index);
  }

  /**
   * Say a token's number; of a token whose numbers these are, the four largest.
   * @param {number} index
   */
  function describe(index) {
    const first = firstToken();
    if (!words[index]) readout.textContent = "";
    else if (model.get("shaded") !== first + index) readout.textContent = named(index);
    else {
      const largest = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 4);
      const shown = largest.filter((i) => values[i] > 0).map(named);
      const all = { token: named(index), largest: shown.join(", ") };
      readout.textContent = tr("token {token} · largest: {largest}", all);
    }
  }

  /** @param {number} index */
  function named(index) {
    const value = Number.isFinite(values[index]) ? `: ${rounded(values[index])}` : "";
    return `${firstToken() + index} “${words[index].textContent}”${value}`;
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
    clearTimeout(timer);
    model.set("picked", token);
    model.save_changes();
    drawHere();
  }

  root.addEventListener("pointerover", (event) => {
    const word = closest(event, ".q3-word");
    if (!word) return;
    if (model.get("shades").follows) ask(Number(word.dataset.token));
    else describe(Number(word.dataset.token) - firstToken());
  });
  root.addEventListener("pointerleave", () => {
    if (model.get("shades").follows) ask(-1);
    else drawHere();
  });
  root.addEventListener("click", (event) => {
    const word = closest(event, ".q3-word");
    if (word) pick(Number(word.dataset.token));
  });
  root.addEventListener("keydown", (event) => {
    const step = arrowStep(event);
    if (!step || !words.length) return;
    const first = firstToken();
    const last = first + words.length - 1;
    pick(Math.max(first, Math.min(last, Math.max(model.get("picked"), first - 1) + step)));
    if (here) reveal(here, root);
  });
  const stop = listen(model, {
    "change:text": drawText,
    "change:hits": drawHits,
    "change:notes": drawNotes,
    "change:values": drawSoon,
    "change:shades": drawSoon,
    "change:shaded": drawSoon,
    "change:picked": () => {
      drawHere();
      if (here) reveal(here, root);
    },
  });
  drawText();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

export default { render };
