// One plotly figure at a time. plotly.js is 5 MB and may block a slow page for seconds, and
// anywidget no longer updates a widget whose module was not there within two. So this module is
// small; plotly.js follows in a message, and is run when there is something to draw, once a page.

const CONFIG = { displayModeBar: false };
const LIBRARIES = (globalThis.qwen3labPlotly ??= new Map()); // by version

function library(version) {
  if (!LIBRARIES.has(version)) {
    const entry = { run: null };
    entry.code = new Promise((resolve) => (entry.arrived = resolve));
    LIBRARIES.set(version, entry);
  }
  return LIBRARIES.get(version);
}

async function plotly(version) {
  const entry = library(version);
  const code = await entry.code;
  return (entry.run ??= run(code));
}

async function run(code) {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  try {
    await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
  return globalThis.Plotly;
}

function initialize({ model }) {
  const { arrived } = library(model.get("version"));
  const heard = (content, buffers) => content.kind === "library" && arrived(buffers[0]);
  model.on("msg:custom", heard);
  if (model.get("is_sent")) model.send({ kind: "library" }); // to a page before this one
  return () => model.off("msg:custom", heard);
}

// What a screen reader says of a figure: its title, or else what its axes show.
function labelOf({ title, xaxis, yaxis }) {
  const named = title?.text || [yaxis, xaxis].map((axis) => axis?.title?.text).filter(Boolean).join(", ");
  return named ? `Plot: ${named.replace(/<[^>]*>/g, " ")}` : "Plot";
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "q3-figure";
  root.setAttribute("role", "img");
  el.appendChild(root);
  let drawn = null; // what drew it
  let isHeard = false;
  let isGone = false;

  async function draw() {
    const { data, layout } = JSON.parse(model.get("figure"));
    root.style.minHeight = `${layout.height}px`; // the page keeps still when the plot comes
    root.setAttribute("aria-label", labelOf(layout));
    try {
      drawn = await plotly(model.get("version"));
      if (isGone) return;
      await drawn.react(root, data, { ...layout, autosize: true }, CONFIG);
      if (!isHeard) root.on("plotly_click", told);
      isHeard = true;
    } catch (error) {
      root.textContent = `This plot could not be drawn: ${error.message}`;
    }
  }

  function told({ points }) {
    if (points.length) model.send({ kind: "click", x: points[0].x });
  }

  const resized = new ResizeObserver(() => {
    if (root.data && root.offsetWidth) drawn.Plots.resize(root);
  });
  resized.observe(el);
  model.on("change:figure", draw);
  draw();
  return () => {
    isGone = true;
    resized.disconnect();
    model.off("change:figure", draw);
    if (root.data) drawn.purge(root);
  };
}

export default { initialize, render };
