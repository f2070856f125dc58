// Shows a conversation token by token. Text is set as textContent, never as HTML.

/**
 * A part of the reply, which its title folds and unfolds.
 * @param {HTMLElement} root
 * @param {string} part
 * @param {string} title
 */
function section(root, part, title) {
  const box = element("div", `q3-part q3-${part}`, root);
  const fold = element("button", "q3-part-title", box);
  const chips = element("div", "q3-chips", box);
  fold.type = "button";
  fold.textContent = title;
  /** @param {boolean} isOpen */
  const open = (isOpen) => {
    chips.hidden = !isOpen;
    fold.setAttribute("aria-expanded", String(isOpen));
  };
  fold.addEventListener("click", () => open(Boolean(chips.hidden)));
  open(true);
  return { box, chips, open };
}

/**
 * Add the tokens of a message to the reply that the page has. False if tokens between are missing.
 * @param {TranscriptTraits["reply"]} reply changed in place: a set trait would go back to Python
 * @param {ReplyMessage} message
 */
function takeChips(reply, message) {
  const had = message.run === reply.run ? reply.chips : [];
  if (message.first > had.length) return false;
  reply.run = message.run;
  reply.question = message.question;
  reply.chips = [...had.slice(0, message.first), ...message.chips];
  return true;
}

/** @param {{ model: WidgetModel<TranscriptTraits> }} page once for each widget, before its views */
function initialize({ model }) {
  freeClosedWidgets(model);
  const askForMissing = () => {
    const { run, chips } = model.get("reply");
    model.send({ kind: "have", run, tokens: chips.length });
  };
  /** @param {ReplyMessage} message */
  const take = (message) => {
    if (message.kind === "chips" && !takeChips(model.get("reply"), message)) askForMissing();
  };
  const stop = listen(model, { "msg:custom": take });
  askForMissing();
  return stop;
}

/** @param {number | undefined} n */
function countTokens(n) {
  return n === 1 ? tr("1 token") : tr("{n} tokens", { n: (n || 0).toLocaleString("en") });
}

/** @param {WidgetView<TranscriptTraits>} view */
function render({ model, el }) {
  serveBenches();
  el.classList.add("q3", "q3-conversation");
  const root = element("div", "q3-transcript", el);
  const scroll = element("div", "q3-scroll", root);
  const question = element("div", "q3-question", scroll);
  /** @param {"thinking" | "answer"} part @param {string} title */
  const blocksOf = (part, title) => {
    const made = section(scroll, part, title);
    return { ...made, blocks: new TokenBlocks(made.chips, scroll, addChip) };
  };
  /** @type {Record<string, ReturnType<typeof blocksOf>>} */
  const parts = {
    thinking: blocksOf("thinking", tr("Thinking")),
    answer: blocksOf("answer", tr("Answer")),
  };
  const status = element("div", "q3-status", root);
  const track = element("div", "q3-track", status);
  const bar = element("div", "q3-bar", track);
  const line = element("div", "q3-line", status);
  const note = element("div", "q3-note", status);
  track.setAttribute("role", "progressbar");
  track.setAttribute("aria-label", tr("thinking budget used"));
  note.setAttribute("role", "status"); // Tells what the run does; the counts change too often.
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", tr("Conversation. Left and right arrow keys pick a token."));

  /** @type {number | null} */
  let run = null;
  let drawn = 0;
  let marked = -1;

  /**
   * @param {HTMLElement} line
   * @param {ChipData} data
   * @param {number} index
   */
  function addChip(line, [text, shown, , hint, kind], index) {
    const hasBreak = text.includes("\n");
    // A line may break at the space before a word: it stays outside of the word's box.
    const isWord = !hasBreak && /^ \S/.test(text);
    if (isWord) line.append(" ");
    const chip = element("span", "q3-chip", line);
    chip.textContent = hasBreak ? shown : text.slice(isWord ? 1 : 0);
    chip.title = `${shown} — ${hint}`;
    chip.dataset.index = String(index);
    if (kind) chip.classList.add(`q3-${kind}`);
    if (hasBreak) chip.classList.add("q3-mark");
    if (index === marked) chip.classList.add("q3-picked");
    return chip;
  }

  function drawReply() {
    const reply = model.get("reply");
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
    if (reply.run !== run || reply.chips.length < drawn) {
      run = reply.run;
      drawn = 0;
      marked = -1;
      for (const { blocks, open } of Object.values(parts)) {
        blocks.clear();
        open(true);
      }
    }
    question.textContent = reply.question;
    for (; drawn < reply.chips.length; drawn++) {
      const data = reply.chips[drawn];
      (parts[data[2]] || parts.answer).blocks.add(data, drawn);
    }
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
        : tr("{n} of {tokens}", {
            n: (thinking_tokens || 0).toLocaleString("en"),
            tokens: countTokens(limit),
          });
    const thinking = thinks ? tr("thinking {used}", { used }) : tr("no thinking");
    const tokens = countTokens(answer_tokens);
    line.textContent = tr("{thinking} · answer {tokens}", { thinking, tokens });
    note.textContent = state.note || "";
    root.classList.toggle("q3-running", Boolean(state.is_running));
  }

  function drawMark() {
    const index = model.get("marked");
    if (index === marked && scroll.querySelector(".q3-picked")) return;
    for (const chip of scroll.querySelectorAll(".q3-picked")) chip.classList.remove("q3-picked");
    marked = index;
    for (const { blocks, open } of Object.values(parts)) {
      const chip = blocks.at(index);
      if (!chip) continue;
      chip.classList.add("q3-picked");
      open(true);
      reveal(chip, scroll);
    }
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
    "msg:custom": drawReply,
    "change:progress": drawProgress,
    "change:marked": drawMark,
  });
  drawReply();
  drawProgress();
  return () => {
    for (const { blocks } of Object.values(parts)) blocks.clear();
    stop();
  };
}

export default { initialize, render };
