// Shows a thinking text as foldable paragraphs of sentences, cut at a marker that keys and clicks
// move. Text is set as textContent, never as HTML.

/** Paragraphs around the marker that are open at first, on each side. */
const OPEN_AROUND = 1;
/** A thinking with at most this many sentences is shown without folding. */
const FEW_STEPS = 12;
/** Milliseconds without a key after which the marker is sent to Python. */
const KEY_PAUSE = 300;

/** @param {number} n */
function grouped(n) {
  return n.toLocaleString("en");
}

/**
 * How many of a sentence's tokens are kept at the marker.
 * @param {ThoughtStep} step
 * @param {number} marker
 */
function keptTokens({ tokens, counts }, marker) {
  const beyond = counts.findIndex((count) => count > marker);
  return beyond < 0 ? tokens.length : beyond;
}

/** @param {WidgetView<ThoughtTraits>} view */
function render({ model, el }) {
  el.classList.add("q3");
  const root = element("div", "q3-thoughts", el);
  const map = element("div", "q3-minimap", root);
  const ticks = element("div", "", map);
  const here = element("div", "q3-minimap-here", map);
  const place = element("div", "q3-place", root);
  const list = element("div", "q3-thought-list", root);
  place.setAttribute("aria-live", "polite");
  map.title = tr("The thinking from its first to its last token; click to move the marker");
  list.tabIndex = 0;
  list.setAttribute("role", "group");
  list.setAttribute(
    "aria-label",
    tr(
      "Thinking. Up and down arrow keys move by sentence, left and right by token, Page Up and " +
        "Page Down by paragraph, Home and End to the ends.",
    ),
  );

  /** @type {ThoughtStep[]} */
  let steps = [];
  /** @type {HTMLElement[]} rows of the sentences; the first is for no tokens kept */
  let rows = [];
  /** @type {HTMLElement[]} */
  let heads = [];
  /** @type {Map<number, boolean>} paragraphs that the person has opened or closed */
  const chosen = new Map();
  let marker = -1;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let pause;

  const total = () => steps.at(-1)?.counts.at(-1) ?? 0;
  const starts = () => model.get("thinking").paragraphs;
  /** @param {number} step */
  const paragraphOf = (step) => starts().filter((first) => first <= step).length - 1;
  /** The sentence with the marker; -1 before the first one. */
  const current = () => steps.findIndex(({ kept }) => kept >= marker && marker > 0);

  /**
   * @param {number} index
   * @param {number} kept
   */
  function addRow(index, kept) {
    const row = element("div", "q3-step", list);
    row.dataset.kept = String(kept);
    element("span", "q3-step-count", row).textContent = grouped(kept);
    element("span", "q3-step-text", row).textContent =
      index < 0 ? tr("no tokens kept") : steps[index].tokens.join("").trim();
    element("span", "q3-step-answer", row);
    rows.push(row);
  }

  function drawThinking() {
    steps = model.get("thinking").steps;
    chosen.clear();
    list.replaceChildren();
    rows = [];
    heads = [];
    root.hidden = steps.length === 0;
    addRow(-1, 0);
    steps.forEach((step, index) => {
      const paragraph = starts().indexOf(index);
      if (paragraph >= 0 && steps.length > FEW_STEPS) addHead(paragraph);
      addRow(index, step.kept);
    });
    takeMarker();
  }

  /** @param {number} paragraph */
  function addHead(paragraph) {
    const [first, end] = [starts()[paragraph], starts()[paragraph + 1] ?? steps.length];
    const head = element("button", "q3-fold", list);
    head.type = "button";
    head.tabIndex = -1; // The arrow keys of the list reach every sentence.
    head.dataset.paragraph = String(paragraph);
    element("span", "q3-step-count", head).textContent = grouped(steps[end - 1].kept);
    const n = end - first;
    const sentences = n === 1 ? tr("1 sentence") : tr("{n} sentences", { n });
    element("span", "q3-fold-text", head).textContent =
      `${sentences} · ${steps[first].tokens.join("").trim()}`;
    heads.push(head);
  }

  /** @param {number} paragraph */
  function isOpen(paragraph) {
    if (steps.length <= FEW_STEPS) return true;
    const near = Math.abs(paragraph - paragraphOf(Math.max(0, current()))) <= OPEN_AROUND;
    return chosen.get(paragraph) ?? near;
  }

  function drawFolds() {
    const marked = current();
    for (const [paragraph, head] of heads.entries())
      head.setAttribute("aria-expanded", String(isOpen(paragraph)));
    rows.forEach((row, index) => {
      const step = index - 1;
      row.hidden = step >= 0 && step !== marked && !isOpen(paragraphOf(step));
    });
  }

  function drawMarker() {
    const marked = current();
    rows.forEach((row, index) => {
      const step = index - 1;
      row.classList.toggle("q3-here", step === marked);
      row.classList.toggle("q3-after", marker < 0 ? false : step > marked);
      if (row.querySelector("s")) drawText(row, step, steps[step].tokens.length);
      if (step === marked && step >= 0) drawText(row, step, keptTokens(steps[step], marker));
    });
    const share = total() ? Math.max(0, marker) / total() : 0;
    here.style.left = `${100 * share}%`;
    place.textContent = tr("token {token} of {tokens} · sentence {sentence} of {sentences}", {
      token: grouped(Math.max(0, marker)),
      tokens: grouped(total()),
      sentence: grouped(marked + 1),
      sentences: grouped(steps.length),
    });
    drawFolds();
    drawAnswers();
    revealRow(rows[marked + 1]);
  }

  function takeMarker() {
    if (pause === undefined) marker = model.get("marker"); // Else a key has moved it on.
    drawMarker();
  }

  /**
   * @param {HTMLElement} row
   * @param {number} step
   * @param {number} kept
   */
  function drawText(row, step, kept) {
    const text = row.querySelector(".q3-step-text");
    const { tokens } = steps[step];
    if (!text) return;
    const [before, cut] = [tokens.slice(0, kept).join("").trimStart(), tokens.slice(kept).join("")];
    text.textContent = cut.trim() ? before : before.trimEnd();
    if (cut.trim()) element("s", "", text).textContent = cut.trimEnd();
  }

  function drawAnswers() {
    const [answers, asking] = [model.get("answers"), model.get("asking")];
    ticks.replaceChildren();
    for (const row of rows) {
      // Inside its sentence, the marker has an answer of its own.
      const isHere = row.classList.contains("q3-here");
      const kept = isHere ? String(marker) : (row.dataset.kept ?? "");
      const [text, isSame] = answers[kept] ?? ["", false];
      const cell = row.querySelector(".q3-step-answer");
      if (!cell) continue;
      cell.textContent =
        Number(kept) === asking ? tr("asking …") : text && isSame ? `${text} ✓` : text;
      cell.setAttribute("title", text);
    }
    for (const [kept, [text, isSame]] of Object.entries(answers)) {
      const tick = element("span", isSame ? "q3-tick q3-tick-same" : "q3-tick", ticks);
      tick.style.left = `${(100 * Number(kept)) / Math.max(1, total())}%`;
      tick.title = tr("after {n} tokens: {text}", { n: grouped(Number(kept)), text });
    }
  }

  /**
   * Scroll the list to a row. `scrollIntoView` would scroll the notebook as well.
   * @param {HTMLElement | undefined} row
   */
  function revealRow(row) {
    if (!row) return;
    // A sticky row is where it is seen: measure its place in the list instead.
    row.style.position = "static";
    const [inside, around] = [row.getBoundingClientRect(), list.getBoundingClientRect()];
    row.style.position = "";
    const outside = inside.top < around.top || inside.bottom > around.bottom;
    if (outside) list.scrollTop += inside.top - around.top - list.clientHeight / 3;
  }

  /** @param {number} kept */
  function move(kept) {
    marker = Math.max(0, Math.min(total(), kept));
    drawMarker();
  }

  function send() {
    clearTimeout(pause);
    pause = undefined;
    model.set("picked", marker);
    model.save_changes();
  }

  /**
   * Where a key moves the marker; null for other keys.
   * @param {string} key
   */
  function target(key) {
    const [step, sentences] = [current(), [0, ...steps.map(({ kept }) => kept)]];
    const first = paragraphOf(Math.max(0, step));
    const before = starts()[first] > 0 && first > 0 ? steps[starts()[first] - 1].kept : 0;
    const after = steps[(starts()[first + 1] ?? steps.length) - 1]?.kept ?? 0;
    const next = starts()[first + 2] ?? steps.length;
    const found = {
      ArrowLeft: marker - 1,
      ArrowRight: marker + 1,
      ArrowUp: sentences.filter((kept) => kept < marker).at(-1) ?? 0,
      ArrowDown: sentences.find((kept) => kept > marker) ?? total(),
      PageUp: before,
      PageDown: marker < after ? after : (steps[next - 1]?.kept ?? total()),
      Home: 0,
      End: total(),
    }[key];
    return found ?? null;
  }

  list.addEventListener("keydown", (event) => {
    const kept = event.altKey || event.ctrlKey || event.metaKey ? null : target(event.key);
    if (kept === null || !steps.length) return;
    event.preventDefault();
    event.stopPropagation();
    clearTimeout(pause);
    pause = setTimeout(send, KEY_PAUSE);
    move(kept);
  });
  list.addEventListener("click", (event) => {
    const head = closest(event, ".q3-fold");
    const row = closest(event, ".q3-step");
    if (head) {
      const paragraph = Number(head.dataset.paragraph);
      chosen.set(paragraph, !isOpen(paragraph));
      drawFolds();
    } else if (row) {
      move(Number(row.dataset.kept));
      send();
    }
  });
  map.addEventListener("click", (event) => {
    const box = map.getBoundingClientRect();
    move(Math.round((total() * (event.clientX - box.left)) / Math.max(1, box.width)));
    send();
  });
  const stop = listen(model, {
    "change:thinking": drawThinking,
    "change:answers": drawAnswers,
    "change:asking": drawAnswers,
    "change:marker": takeMarker,
  });
  drawThinking();
  return () => {
    clearTimeout(pause);
    stop();
  };
}

export default { render };
