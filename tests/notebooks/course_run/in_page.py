"""Scripts that run in JupyterLab's page: they drive the open notebook and read what it shows."""

NOTEBOOK = "const book = window.jupyterapp.shell.currentWidget.content;"

WATCH = f"""() => {{
  {NOTEBOOK}
  const start = performance.now();
  window.courseRun = {{ cells: [], ended: false }};
  book.widgets.forEach((cell, place) => {{
    if (cell.model.type !== "code") return;
    const seen = {{ place, output: null, end: null }};
    const now = () => (performance.now() - start) / 1000;
    window.courseRun.cells.push(seen);
    cell.model.outputs.changed.connect(() => {{
      if (cell.model.outputs.length) seen.output ??= now();
    }});
    cell.model.stateChanged.connect((_, change) => {{
      if (change.name === "executionCount" && change.newValue !== null) seen.end = now();
    }});
  }});
  const run = window.jupyterapp.commands.execute("notebook:run-all-cells");
  run.then(() => {{ window.courseRun.ended = true; }});
}}"""
"""Runs all cells, and notes when each one has its first output and when it ends."""

ENDED = """() => window.courseRun.ended &&
  window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === "idle" &&
  !document.querySelector(".q3-running") &&
  ![...document.querySelectorAll("button.mod-warning:enabled")].some(
    (each) => each.checkVisibility({ visibilityProperty: true }))"""
"""The kernel is idle, and no widget shows a button that stops something."""

CELLS = f"""() => {{
  {NOTEBOOK}
  return book.widgets.map((cell) => ({{
    type: cell.model.type,
    source: cell.model.sharedModel.getSource(),
    outputs: cell.model.type !== "code" ? [] : cell.model.outputs.toJSON().map((each) => ({{
      kind: each.output_type === "stream" ? each.name : each.output_type,
      text: each.text ?? each.evalue ?? each.data?.["text/plain"] ?? "",
    }})),
  }}));
}}"""

SHOW = f"""async (place) => {{
  {NOTEBOOK}
  book.activeCellIndex = place;
  book.deselectAll();
  await book.scrollToItem(place, "start").catch(() => {{}});
  book.widgets[place].node.scrollIntoView({{ block: "start" }});
}}"""

CELL = f"(place) => {{ {NOTEBOOK} return book.widgets[place].node; }}"

RUN = f"""async ([place, source]) => {{
  {NOTEBOOK}
  book.activeCellIndex = place;
  book.deselectAll();
  book.widgets[place].model.sharedModel.setSource(source);
  await window.jupyterapp.commands.execute("notebook:run-cell");
}}"""

MODEL_TEXT = (
    "code, .q3-chip, .q3-word, .q3-question, .q3-token-text, .q3-heard, .MathJax, script, style,"
    " table.dataframe, .cm-editor, .jp-InputArea, .jp-OutputPrompt, .jp-Collapser,"
    " [data-mime-type='application/vnd.jupyter.stderr'], "
    ".jp-OutputArea-promptOverlay, [title='Collapse Output']"
)
"""Code, and what the model or the student wrote: it stays as it is in every language."""

READ = (
    f"const own = {MODEL_TEXT!r};"
    """
const seen = (each) => each.checkVisibility({ opacityProperty: true, visibilityProperty: true });
const inside = (outer, inner, by = 2) => inner.left >= outer.left - by &&
  inner.right <= outer.right + by && inner.top >= outer.top - by &&
  inner.bottom <= outer.bottom + by;
const name = (each) => `${each.tagName.toLowerCase()}.${each.getAttribute("class") ?? ""}`;
function texts(root) {
  const found = [], walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const parent = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (text && !parent.closest(own) && seen(parent)) found.push(text);
  }
  for (const each of root.querySelectorAll("[aria-label], [title], [placeholder], [data-title]")) {
    if (each.closest(own) || !seen(each)) continue;
    for (const key of ["aria-label", "title", "placeholder", "data-title"]) {
      const text = each.getAttribute(key)?.trim();
      if (text) found.push(text);
    }
  }
  return [...new Set(found)];
}
function wide(root) {
  const found = [root, ...root.querySelectorAll("*")].filter((each) => {
    const style = getComputedStyle(each);
    return ["auto", "scroll"].includes(style.overflowX) && seen(each) &&
      each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0 &&
      !each.closest("svg, .q3-alternatives");
  });
  return found.map((each) => `${name(each)} ${each.scrollWidth} > ${each.clientWidth}`);
}
function cut(root) {
  const found = [];
  for (const plot of root.querySelectorAll(".js-plotly-plot")) {
    const frame = plot.getBoundingClientRect();
    const shown = (text) => seen(text) && text.textContent.trim();
    const texts = [...plot.querySelectorAll("svg text")].filter(shown);
    const boxes = texts.map((t) => t.getBoundingClientRect());
    texts.forEach((text, place) => {
      if (!inside(frame, boxes[place])) found.push(`outside of its figure: ${text.textContent}`);
    });
    const words = texts.map((t, place) => [t, boxes[place]]).filter(([t]) =>
      t.closest(".g-gtitle, .annotation, .legend, .g-xtitle, .g-ytitle, .cbtitle, .g-x2title"));
    words.forEach(([one, a], place) => words.slice(place + 1).forEach(([other, b]) => {
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 3 && y > 3) found.push(`overlap: ${one.textContent} / ${other.textContent}`);
    }));
  }
  for (const each of root.querySelectorAll(".q3-explorer *")) {
    const style = getComputedStyle(each), box = each.getBoundingClientRect();
    if (style.textOverflow === "ellipsis" && each.scrollWidth > each.clientWidth + 1 &&
        box.width && seen(each) && !each.closest("[title]"))
      found.push(`cut short: ${each.textContent.trim().slice(0, 60)}`);
  }
  return found;
}
"""
)

OUTPUT = f"""(cell) => {{
  {READ}
  const root = cell.querySelector(".jp-Cell-outputArea") ?? cell;
  const drawn = root.querySelector("svg, canvas, img, table, input, button");
  return {{
    texts: texts(root), wide: wide(root), cut: cut(root),
    empty: !drawn && !root.innerText.trim(),
  }};
}}"""
"""What a cell shows: texts that can be translated, what is too wide, what is cut off."""

PAGE = f"""(root) => {{
  {READ}
  return {{ texts: texts(root), wide: wide(root), cut: [], empty: !root.innerText.trim() }};
}}"""
"""The same of a page of the guide."""

PANEL = 'node.closest(".jp-WindowedPanel-outer, .jp-MarkdownViewer, .jp-RenderedMarkdown")'
SCROLL = f"""([node, number]) => {{
  const panel = {PANEL}, frame = panel.getBoundingClientRect();
  const top = node.getBoundingClientRect().top - frame.top + panel.scrollTop;
  panel.scrollTop = top + number * (panel.clientHeight - 40);
}}"""
"""Scrolls to the part of a thing that fills the window for the n-th time."""

CLIP = f"""(node) => {{
  const frame = {PANEL}.getBoundingClientRect(), box = node.getBoundingClientRect();
  const y = Math.max(box.top, frame.top), bottom = Math.min(box.bottom, frame.bottom);
  const x = Math.max(box.left, 0), right = Math.min(box.right, innerWidth);
  if (bottom - y < 4 || right - x < 4) return null;
  return {{ box: {{ x, y, width: right - x, height: bottom - y }},
    above: Math.floor((frame.top - box.top + 1) / (frame.height - 40)),
    whole: box.bottom <= frame.bottom + 1 }};
}}"""
"""The part of a thing that is in the window, and whether its end is."""
