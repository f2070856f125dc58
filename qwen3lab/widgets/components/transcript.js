// A conversation, token by token. All text is set as text, never as HTML.

function element(tag, className, parent) {
  const node = document.createElement(tag);
  node.className = className;
  parent.appendChild(node);
  return node;
}

function section(root, part, title) {
  const box = element("div", `q3-part q3-${part}`, root);
  element("div", "q3-part-title", box).textContent = title;
  return element("div", "q3-chips", box);
}

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

  let run = null;
  let drawn = 0;

  function addChip([text, shown, part, hint, kind], index) {
    const chip = element("span", "q3-chip", parts[part] || parts.answer);
    const broken = text.includes("\n");
    chip.textContent = broken ? shown : text;
    chip.title = `${shown} — ${hint}`;
    chip.dataset.index = String(index);
    if (kind) chip.classList.add(`q3-${kind}`);
    if (!broken) return;
    chip.classList.add("q3-mark");
    const said = chip.parentNode.querySelector(".q3-chip:not(.q3-mark)");
    if (said) element("br", "", chip.parentNode);
  }

  function drawReply() {
    const reply = model.get("reply");
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
    if (reply.run !== run || reply.chips.length < drawn) {
      run = reply.run;
      drawn = 0;
      for (const chips of Object.values(parts)) chips.replaceChildren();
    }
    question.textContent = reply.question;
    for (; drawn < reply.chips.length; drawn++) addChip(reply.chips[drawn], drawn);
    for (const chips of Object.values(parts)) {
      chips.parentNode.hidden = chips.childElementCount === 0;
    }
    root.dataset.tokens = String(drawn);
    if (atEnd && model.get("progress").is_running) scroll.scrollTop = scroll.scrollHeight;
    drawMark();
  }

  function drawProgress() {
    const p = model.get("progress");
    const limited = p.thinks && p.budget !== null && p.budget !== undefined;
    track.hidden = !limited;
    const share = limited ? Math.min(1, p.thinking_tokens / Math.max(1, p.budget)) : 0;
    bar.style.width = `${100 * share}%`;
    track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    const count = (n) => (n === 1 ? "1 token" : `${n || 0} tokens`);
    const used = limited ? `${p.thinking_tokens || 0} of ${count(p.budget)}` : count(p.thinking_tokens);
    const thinking = p.thinks ? `thinking ${used}` : "thinking off";
    line.textContent = `${thinking} · answer ${count(p.answer_tokens)}`;
    note.textContent = p.note || "";
    root.classList.toggle("q3-running", Boolean(p.is_running));
  }

  function drawMark() {
    for (const old of root.querySelectorAll(".q3-picked")) old.classList.remove("q3-picked");
    const chip = root.querySelector(`.q3-chip[data-index="${model.get("marked")}"]`);
    if (!chip) return;
    chip.classList.add("q3-picked");
    reveal(chip);
  }

  // Scroll the conversation to a chip, and nothing around it: the notebook stays where it is.
  function reveal(chip) {
    const [inside, around] = [chip.getBoundingClientRect(), scroll.getBoundingClientRect()];
    const above = inside.top - around.top;
    const below = inside.bottom - around.bottom;
    if (above < 0) scroll.scrollTop += above;
    else if (below > 0) scroll.scrollTop += below;
  }

  function pick(index) {
    if (index < 0 || index >= drawn) return;
    model.set("selected", index);
    model.save_changes();
  }

  scroll.addEventListener("click", (event) => {
    const chip = event.target.closest(".q3-chip");
    if (chip) pick(Number(chip.dataset.index));
  });
  scroll.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // or the notebook takes the key
    pick(model.get("marked") + step);
  });
  model.on("change:reply", drawReply);
  model.on("change:progress", drawProgress);
  model.on("change:marked", drawMark);
  drawReply();
  drawProgress();
  return () => {
    model.off("change:reply", drawReply);
    model.off("change:progress", drawProgress);
    model.off("change:marked", drawMark);
  };
}

export default { render };
