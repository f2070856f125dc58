// Buttons that work in the browser alone: copy a text, and save the pictures that are seen.

/**
 * Offer a file to the person.
 * @param {string} url
 * @param {string} name
 */
function save(url, name) {
  const link = element("a", "", document.body);
  link.href = url;
  link.download = name;
  link.click();
  link.remove();
}

/**
 * A canvas on the colour of the page, with its title above.
 * @param {HTMLCanvasElement} canvas
 */
function picture(canvas) {
  const title = canvas.closest(".q3-map")?.querySelector(".q3-map-title")?.textContent || "";
  const style = getComputedStyle(canvas);
  const ratio = window.devicePixelRatio || 1;
  const made = document.createElement("canvas");
  made.width = canvas.width;
  made.height = canvas.height + 24 * ratio;
  const context = made.getContext("2d");
  if (!context) throw new Error(tr("this browser draws no 2D canvas"));
  context.fillStyle = style.getPropertyValue("--q3-face").trim() || "#ffffff";
  context.fillRect(0, 0, made.width, made.height);
  context.fillStyle = style.getPropertyValue("--q3-ink").trim() || "#24292f";
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  context.fillText(title, 6 * ratio, 16 * ratio);
  context.drawImage(canvas, 0, 24 * ratio);
  return made.toDataURL("image/png");
}

/** @param {Element} each */
function isSeen(each) {
  return each.getBoundingClientRect().width > 0;
}

/**
 * Save the maps and figures that are seen in a workbench; returns how many.
 * @param {Element} bench
 * @param {string} name
 */
async function savePictures(bench, name) {
  const view = bench.querySelector(".q3-tabs") || bench;
  const canvases = [...view.querySelectorAll("canvas.q3-canvas")].filter(isSeen);
  const plots = [...view.querySelectorAll(".q3-figure")].filter(isSeen);
  let n = 0;
  for (const canvas of canvases) {
    n += 1;
    save(picture(/** @type {HTMLCanvasElement} */ (canvas)), `${name}-${n}.png`);
  }
  for (const plot of plots) {
    n += 1;
    const root = /** @type {PlotRoot} */ (plot);
    if (root.data) save(await Plotly.toImage(root, { format: "svg" }), `${name}-${n}.svg`);
  }
  return n;
}

/** @param {WidgetView<SaverTraits>} view */
function render({ model, el }) {
  el.classList.add("q3-saver");
  /** @param {string} text @param {string} title @param {() => Promise<string>} work */
  function button(text, title, work) {
    const made = element("button", "jupyter-button widget-button", el);
    made.textContent = text;
    made.title = title;
    made.addEventListener("click", async () => {
      try {
        model.set("said", await work());
      } catch (error) {
        model.set("said", error instanceof Error ? error.message : String(error));
      }
      model.save_changes();
    });
  }
  button(tr("Copy code"), tr("Copy the Python code to the clipboard"), async () => {
    await copyText(model.get("text"), el);
    return tr("The code is in the clipboard.");
  });
  const about = tr("Save each map as PNG and each figure as SVG, in the browser");
  button(tr("Pictures"), about, async () => {
    const n = await savePictures(el.closest(".q3-bench") || document.body, model.get("name"));
    if (!n) return tr("No map is seen.");
    if (n === 1) return tr("1 picture saved by the browser.");
    return tr("{n} pictures saved by the browser.", { n });
  });
}

export default { render };
