// Shows a conversation token by token. Text is set as textContent, never as HTML.

/**
 * @param {HTMLElement} root
 * @param {string} part
 * @param {string} title
 */
function section(root, part, title) {
  const box = element("div", `q3-part q3-${part}`, root);
  element("div", "q3-part-title", box).textContent = title;
  return { box, chips: element("div", "q3-chips", box) };
}

/** @param {number | undefined} n */
function countTokens(n) {
  return n === 1 ? "1 token" : `${n || 0} tokens`;
}

/** @param {WidgetView<TranscriptTraits>} view */
function render({ model, el }) {
  el.classList.add("q3", "q3-conversation");
  const root = element("div", "q3-transcript", el);
  const scroll = element("div", "q3-scroll", root);
  const question = element("div", "q3-question", scroll);
  const parts = {
    thinking: section(scroll, "thinking", "Thinking"),
    answer: section(scroll, "answer", "Answer"),
  };
  const status = element("div", "q3-status", root);
  const track = element("div", "q3-track", status);
  const bar = element("div", "q3-bar", track);
  const line = element("div", "q3-line", status);
  const note = element("div", "q3-note", status);
  track.setAttribute("role", "progressbar");
  track.setAttribute("aria-label", "thinking budget used");
  line.setAttribute("aria-live", "polite");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "Conversation. Left and right arrow keys pick a token.");

  /** @type {number | null} */
  let run = null;
  let drawn = 0;

  /**
   * @param {ChipData} data
   * @param {number} index
   */
  function addChip([text, shown, part, hint, kind], index) {
    const { chips } = parts[part] || parts.answer;
    const chip = element("span", "q3-chip", chips);
    const hasBreak = text.includes("\n");
    chip.textContent = hasBreak ? shown : text;
    chip.title = `${shown} — ${hint}`;
    chip.dataset.index = String(index);
    if (kind) chip.classList.add(`q3-${kind}`);
    if (!hasBreak) return;
    chip.classList.add("q3-mark");
    // Line breaks before the first text of a part would only leave it empty.
    if (chips.querySelector(".q3-chip:not(.q3-mark)")) element("br", "", chips);
  }

  function drawReply() {
    const reply = model.get("reply");
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
    if (reply.run !== run || reply.chips.length < drawn) {
      run = reply.run;
      drawn = 0;
      for (const { chips } of Object.values(parts)) chips.replaceChildren();
    }
    question.textContent = reply.question;
    for (; drawn < reply.chips.length; drawn++) addChip(reply.chips[drawn], drawn);
    for (const { box, chips } of Object.values(parts)) box.hidden = chips.childElementCount === 0;
    root.dataset.tokens = String(drawn);
    if (atEnd && model.get("progress").is_running) scroll.scrollTop = scroll.scrollHeight;
    drawMark();
  }

  function drawProgress() {
    const { thinks, budget, thinking_tokens, answer_tokens, ...state } = model.get("progress");
    const limit = thinks ? (budget ?? null) : null;
    const share = limit === null ? 0 : Math.min(1, (thinking_tokens || 0) / Math.max(1, limit));
    track.hidden = limit === null;
    bar.style.width = `${100 * share}%`;
    track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    const used =
      limit === null
        ? countTokens(thinking_tokens)
        : `${thinking_tokens || 0} of ${countTokens(limit)}`;
    const thinking = thinks ? `thinking ${used}` : "no thinking";
    line.textContent = `${thinking} · answer ${countTokens(answer_tokens)}`;
    note.textContent = state.note || "";
    root.classList.toggle("q3-running", Boolean(state.is_running));
  }

  function drawMark() {
    for (const old of root.querySelectorAll(".q3-picked")) old.classList.remove("q3-picked");
    const chip = root.querySelector(`.q3-chip[data-index="${model.get("marked")}"]`);
    if (!chip) return;
    chip.classList.add("q3-picked");
    reveal(chip);
  }

  /**
   * Scroll the conversation to a chip. `scrollIntoView` would scroll the notebook as well.
   * @param {Element} chip
   */
  function reveal(chip) {
    const [inside, around] = [chip.getBoundingClientRect(), scroll.getBoundingClientRect()];
    const above = inside.top - around.top;
    const below = inside.bottom - around.bottom;
    if (above < 0) scroll.scrollTop += above;
    else if (below > 0) scroll.scrollTop += below;
  }

  /** @param {number} index */
  function pick(index) {
    if (index < 0 || index >= drawn) return;
    model.set("selected", index);
    model.save_changes();
  }

  scroll.addEventListener("click", (event) => {
    const chip = closest(event, ".q3-chip");
    if (chip) pick(Number(chip.dataset.index));
  });
  scroll.addEventListener("keydown", (event) => {
    const step = arrowStep(event);
    if (step) pick(model.get("marked") + step);
  });
  const stop = listen(model, {
    "change:reply": drawReply,
    "change:progress": drawProgress,
    "change:marked": drawMark,
  });
  drawReply();
  drawProgress();
  return stop;
}

export default { render };
