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
  const parts = {
    thinking: section(scroll, "thinking", tr("Thinking")),
    answer: section(scroll, "answer", tr("Answer")),
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
  /** @type {HTMLElement[]} */
  const nodes = [];

  /**
   * @param {ChipData} data
   * @param {number} index
   */
  function addChip([text, shown, part, hint, kind], index) {
    const { chips } = parts[part] || parts.answer;
    // One block for each line: the browser lays out the last one again, and not the whole reply.
    const line = chips.lastElementChild || element("div", "", chips);
    const hasBreak = text.includes("\n");
    // A line may break at the space before a word: it stays outside of the word's box.
    const isWord = !hasBreak && /^ \S/.test(text);
    if (isWord) line.append(" ");
    const chip = element("span", "q3-chip", line);
    chip.textContent = hasBreak ? shown : text.slice(isWord ? 1 : 0);
    chip.title = `${shown} — ${hint}`;
    chip.dataset.index = String(index);
    nodes[index] = chip;
    if (kind) chip.classList.add(`q3-${kind}`);
    if (!hasBreak) return;
    chip.classList.add("q3-mark");
    // Line breaks before the first text of a part would only leave it empty.
    if (chips.querySelector(".q3-chip:not(.q3-mark)")) element("div", "", chips);
  }

  function drawReply() {
    const reply = model.get("reply");
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
    if (reply.run !== run || reply.chips.length < drawn) {
      run = reply.run;
      drawn = 0;
      nodes.length = 0;
      for (const { chips, open } of Object.values(parts)) {
        chips.replaceChildren();
        open(true);
      }
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

  /** @type {HTMLElement | undefined} */
  let marked;

  function drawMark() {
    const chip = nodes[model.get("marked")];
    if (chip === marked) return;
    marked?.classList.remove("q3-picked");
    marked = chip;
    if (!chip) return;
    chip.classList.add("q3-picked");
    for (const { chips, open } of Object.values(parts)) if (chips.contains(chip)) open(true);
    reveal(chip, scroll);
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
  return stop;
}

export default { initialize, render };
