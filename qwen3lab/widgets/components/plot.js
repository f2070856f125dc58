// Draws one plotly figure at a time. plotly.js has 5 MB, and anywidget stops updating a widget
// whose module does not load within two seconds. So this module is small; Python sends plotly.js
// in a message, and the page runs it once, when the first figure is drawn.

const CONFIG = { displayModeBar: false };

/**
 * The entry of one version of plotly.js, shared by all plots of the page.
 * @param {string} version
 * @returns {PlotLibrary}
 */
function library(version) {
  globalThis.qwen3labPlotly ??= new Map();
  const known = globalThis.qwen3labPlotly.get(version);
  if (known) return known;
  /** @type {PlotLibrary["deliver"]} */
  let deliver = () => {};
  /** @type {PlotLibrary["code"]} */
  const code = new Promise((resolve) => {
    deliver = resolve;
  });
  const entry = { code, deliver, loaded: null };
  globalThis.qwen3labPlotly.set(version, entry);
  return entry;
}

/**
 * Wait for the code of plotly.js, and run it if this is the first plot.
 * @param {string} version
 */
async function plotly(version) {
  const entry = library(version);
  const code = await entry.code;
  entry.loaded ??= run(code);
  return entry.loaded;
}

/** @param {BlobPart} code */
async function run(code) {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  try {
    await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
  return globalThis.Plotly;
}

/** @param {WidgetView<PlotTraits>} view */
function initialize({ model }) {
  const { deliver } = library(model.get("version"));
  const stop = listen(model, {
    "msg:custom": (content, buffers) => {
      if (content.kind === "library") deliver(buffers[0]);
    },
  });
  // A reloaded page has lost the code that Python sent before.
  if (model.get("is_sent")) model.send({ kind: "library" });
  return stop;
}

/**
 * A figure's name for screen readers: its title, or the titles of its axes.
 * @param {PlotLayout} layout
 */
function labelOf({ title, xaxis, yaxis }) {
  const axes = [yaxis, xaxis].map((axis) => axis?.title?.text).filter(Boolean);
  const named = title?.text || axes.join(tr(", "));
  return named ? tr("Plot: {name}", { name: named.replace(/<[^>]*>/g, " ") }) : tr("Plot");
}

/** @param {WidgetView<PlotTraits>} view */
function render({ model, el }) {
  const root = /** @type {PlotRoot} */ (element("div", "q3-figure", el));
  root.setAttribute("role", "img");
  /** @type {Plotly | null} */
  let drawer = null;
  let isListening = false;
  let isClosed = false;

  async function draw() {
    const { data, layout } = JSON.parse(model.get("figure"));
    const { height, ...free } = layout; // Without a height, plotly takes that of the element.
    root.style.minHeight = `${height}px`; // Keeps the page in place until the plot is drawn.
    root.setAttribute("aria-label", labelOf(layout));
    try {
      drawer = await plotly(model.get("version"));
      if (isClosed) return;
      const fitted = model.get("fills") ? free : layout;
      await drawer.react(root, data, { ...fitted, autosize: true }, CONFIG);
      if (!isListening) root.on?.("plotly_click", onClick);
      isListening = true;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      root.textContent = tr("This plot could not be drawn: {reason}", { reason });
    }
  }

  /** @param {{ points: { x: number | string }[] }} event */
  function onClick({ points }) {
    if (points.length) model.send({ kind: "click", x: points[0].x });
  }

  const resized = new ResizeObserver(() => {
    if (root.data && root.offsetWidth) drawer?.Plots.resize(root);
  });
  resized.observe(el);
  const stop = listen(model, { "change:figure": draw });
  draw();
  return () => {
    isClosed = true;
    resized.disconnect();
    stop();
    if (root.data) drawer?.purge(root);
  };
}

export default { initialize, render };
