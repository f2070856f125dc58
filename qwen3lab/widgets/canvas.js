// A heatmap on a canvas. All text is drawn or set as text, never as HTML.

const FALLBACK = { ink: "#24292f", muted: "#6a737d", face: "#ffffff", nothing: "#eceff1" };
const LABEL_FONT_PX = 11;

function themeColours(el) {
  const style = getComputedStyle(el);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  return {
    ink: read("--q3-ink", FALLBACK.ink),
    muted: read("--q3-muted", FALLBACK.muted),
    face: read("--q3-face", FALLBACK.face),
    nothing: read("--q3-nothing", FALLBACK.nothing),
    accent: read("--q3-accent", "#d55e00"),
    font: read("--jp-ui-font-family", "system-ui, sans-serif"),
  };
}

function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function element(tag, className, parent) {
  const node = document.createElement(tag);
  node.className = className;
  parent.appendChild(node);
  return node;
}

// The map's cells as an image of one pixel per cell; level 0 is left transparent.
function cellImage(map) {
  const [rows, columns] = map.shape;
  const image = new ImageData(columns, rows);
  const cells = bytes(map.cells);
  const palette = bytes(map.palette);
  for (let i = 0; i < cells.length; i++) {
    if (cells[i] === 0) continue;
    const colour = 3 * Math.round(((cells[i] - 1) * 255) / 254);
    image.data.set(palette.subarray(colour, colour + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && context.measureText(short + "…").width > width) {
    short = short.slice(0, -1);
  }
  return short + "…";
}

function tickText(axis, i) {
  const position = String(i * axis.step);
  return axis.labels[i] ? axis.labels[i] : position;
}

// Every n-th label, so that neighbours are at least `room` pixels apart; n is 1, 2, 5, 10 ...
function tickStep(cell, room) {
  for (let scale = 1; ; scale *= 10) {
    for (const factor of [1, 2, 5]) if (factor * scale * cell >= room) return factor * scale;
  }
}

function longest(context, axis) {
  let width = 0;
  for (let i = 0; i < axis.labels.length; i++) {
    width = Math.max(width, context.measureText(tickText(axis, i)).width);
  }
  return Math.ceil(width);
}

// Where everything goes, in CSS pixels.
function layout(map, context, width, height, ratio) {
  const [rows, columns] = map.shape;
  const rowLabels = Math.min(84, longest(context, map.rows));
  const columnLabels = Math.min(72, longest(context, map.columns));
  const spread = (axis) => (axis.spans.length ? 8 : 0);
  const left = 26 + rowLabels + spread(map.rows);
  const top = 6;
  const right = 62;
  const flat = !map.columns.labels.some((label) => label);
  const bottom = 24 + (flat ? 14 : columnLabels) + spread(map.columns);
  let cellWidth = Math.max(1, width - left - right) / columns;
  let cellHeight = Math.max(1, height - top - bottom) / rows;
  if (map.square) cellWidth = cellHeight = Math.min(cellWidth, cellHeight);
  cellWidth = Math.min(cellWidth, 36);
  cellHeight = Math.min(cellHeight, 36);
  // Large cells take whole pixels, for straight grid lines; small ones fill the room they have.
  const snap = (size) => (size * ratio >= 8 ? Math.floor(size * ratio) / ratio : size);
  cellWidth = snap(cellWidth);
  cellHeight = snap(cellHeight);
  return {
    left, top, cellWidth, cellHeight, flat, rowLabels, columnLabels,
    width: cellWidth * columns,
    height: cellHeight * rows,
    total: top + cellHeight * rows + bottom,
  };
}

function drawCells(context, map, image, box, colours) {
  context.fillStyle = colours.nothing;
  context.fillRect(box.left, box.top, box.width, box.height);
  context.imageSmoothingEnabled = box.cellWidth < 1 || box.cellHeight < 1;
  context.drawImage(image, box.left, box.top, box.width, box.height);
  if (box.cellWidth < 8 || box.cellHeight < 8) return;
  context.fillStyle = colours.face;
  const [rows, columns] = map.shape;
  for (let c = 1; c < columns; c++) {
    context.fillRect(box.left + c * box.cellWidth - 0.5, box.top, 1, box.height);
  }
  for (let r = 1; r < rows; r++) {
    context.fillRect(box.left, box.top + r * box.cellHeight - 0.5, box.width, 1);
  }
}

function drawSpans(context, map, box) {
  for (const span of map.rows.spans) {
    context.fillStyle = span.colour;
    const y = box.top + span.start * box.cellHeight;
    context.fillRect(box.left - 7, y, 4, (span.end - span.start) * box.cellHeight);
  }
  for (const span of map.columns.spans) {
    context.fillStyle = span.colour;
    const x = box.left + span.start * box.cellWidth;
    context.fillRect(x, box.top + box.height + 3, (span.end - span.start) * box.cellWidth, 4);
  }
}

function drawRowLabel(context, map, box, i) {
  const edge = box.left - (map.rows.spans.length ? 11 : 5);
  context.textAlign = "right";
  context.textBaseline = "middle";
  const text = shorten(context, tickText(map.rows, i), box.rowLabels);
  context.fillText(text, edge, box.top + (i + 0.5) * box.cellHeight);
}

function drawColumnLabel(context, map, box, i) {
  const x = box.left + (i + 0.5) * box.cellWidth;
  const y = box.top + box.height + (map.columns.spans.length ? 11 : 5);
  context.save();
  context.translate(x, y);
  context.textBaseline = "middle";
  context.textAlign = "center";
  if (box.flat) {
    context.textBaseline = "top";
  } else {
    context.rotate(-Math.PI / 2);
    context.textAlign = "right";
  }
  context.fillText(shorten(context, tickText(map.columns, i), box.columnLabels), 0, 0);
  context.restore();
}

function drawAxes(context, map, box, colours) {
  const [rows, columns] = map.shape;
  context.fillStyle = colours.ink;
  const rowStep = tickStep(box.cellHeight, LABEL_FONT_PX + 2);
  for (let i = 0; i < rows; i += rowStep) drawRowLabel(context, map, box, i);
  const columnRoom = box.flat ? 24 : LABEL_FONT_PX + 2;
  const columnStep = tickStep(box.cellWidth, columnRoom);
  for (let i = 0; i < columns; i += columnStep) drawColumnLabel(context, map, box, i);
  context.fillStyle = colours.muted;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(map.columns.title, box.left + box.width / 2, box.total - 2);
  context.save();
  context.translate(4, box.top + box.height / 2);
  context.rotate(-Math.PI / 2);
  context.textBaseline = "top";
  context.fillText(map.rows.title, 0, 0);
  context.restore();
}

function drawColourBar(context, map, box, colours) {
  const x = box.left + box.width + 14;
  const height = Math.min(box.height, 220);
  const palette = bytes(map.palette);
  for (let i = 0; i < 256; i++) {
    const [r, g, b] = palette.subarray(3 * i, 3 * i + 3);
    context.fillStyle = `rgb(${r}, ${g}, ${b})`;
    context.fillRect(x, box.top + height * (1 - (i + 1) / 256), 10, height / 256 + 0.6);
  }
  context.fillStyle = colours.ink;
  context.textAlign = "left";
  const number = (value) => String(Number(value.toFixed(2)));
  context.textBaseline = "top";
  context.fillText(number(map.high), x + 14, box.top);
  context.textBaseline = "bottom";
  context.fillText(number(map.low), x + 14, box.top + height);
  context.save();
  context.translate(x + 20, box.top + height / 2);
  context.rotate(Math.PI / 2);
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillStyle = colours.muted;
  if (height > 120) context.fillText(map.valueTitle, 0, 0);
  context.restore();
}

function describeStep(axis, i) {
  const name = `${axis.unit} ${i * axis.step}`;
  return axis.labels[i] ? `${name} “${axis.labels[i]}”` : name;
}

function approximate(map, row, column) {
  const level = bytes(map.cells)[row * map.shape[1] + column];
  if (level === 0) return map.nothing;
  const value = map.low + ((level - 1) / 254) * (map.high - map.low);
  return `${map.valueTitle} ≈ ${value.toFixed(2)}`;
}

function render({ model, el }) {
  el.classList.add("q3");
  const root = element("div", "q3-map", el);
  const stage = element("div", "q3-stage", root);
  const canvas = element("canvas", "q3-canvas", stage);
  const overlay = element("canvas", "q3-overlay", stage);
  const tip = element("div", "q3-tip", stage);
  const footer = element("div", "q3-footer", root);
  const legend = element("div", "q3-legend", footer);
  const readout = element("div", "q3-readout", footer);
  const message = element("div", "q3-empty", root);
  overlay.setAttribute("role", "img");
  overlay.tabIndex = 0;
  readout.setAttribute("aria-live", "polite");

  let map = null;
  let image = null;
  let box = null;
  let cell = null; // the cell under the pointer or the keyboard
  let timer = 0;

  function prepare() {
    const next = model.get("map");
    map = next && next.cells ? next : null;
    message.textContent = map ? "" : (next && next.empty) || "";
    root.classList.toggle("q3-is-empty", !map);
    if (!map) {
      cell = null;
      return;
    }
    image = cellImage(map);
    if (cell && (cell[0] >= map.shape[0] || cell[1] >= map.shape[1])) cell = null;
    overlay.setAttribute("aria-label", `${map.title}. Arrow keys move from cell to cell.`);
    legend.replaceChildren();
    for (const span of map.columns.spans) {
      const item = element("span", "q3-key", legend);
      item.style.setProperty("--q3-swatch", span.colour);
      item.textContent = span.name;
    }
    const nothing = element("span", "q3-key q3-key-nothing", legend);
    nothing.textContent = map.nothing;
  }

  function size(node, context, width, height, ratio) {
    node.width = Math.round(width * ratio);
    node.height = Math.round(height * ratio);
    node.style.width = `${width}px`;
    node.style.height = `${height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  function draw() {
    const width = stage.clientWidth;
    if (!map || width === 0) return;
    const colours = themeColours(el);
    const ratio = window.devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    const font = `${LABEL_FONT_PX}px ${colours.font}`;
    context.font = font;
    box = layout(map, context, width, model.get("height"), ratio);
    size(canvas, context, width, box.total, ratio);
    context.font = font;
    drawCells(context, map, image, box, colours);
    drawSpans(context, map, box);
    drawAxes(context, map, box, colours);
    drawColourBar(context, map, box, colours);
    drawOverlay();
    // Tests and screen captures wait for this count to change.
    root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
    root.dataset.title = map.title;
  }

  function band(context, row, column, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    const y = box.top + row * box.cellHeight;
    const x = box.left + column * box.cellWidth;
    if (row >= 0 && row < map.shape[0]) {
      context.strokeRect(box.left, y, box.width, box.cellHeight);
    }
    if (column >= 0 && column < map.shape[1]) {
      context.strokeRect(x, box.top, box.cellWidth, box.height);
    }
  }

  function drawOverlay() {
    if (!map || !box) return;
    const colours = themeColours(el);
    const ratio = window.devicePixelRatio || 1;
    const context = overlay.getContext("2d");
    size(overlay, context, stage.clientWidth, box.total, ratio);
    context.font = `bold ${LABEL_FONT_PX}px ${colours.font}`;
    const [row, column] = model.get("marked");
    band(context, Math.floor(row / map.rows.step), Math.floor(column / map.columns.step),
      colours.accent);
    if (!cell) return;
    context.globalAlpha = 0.55;
    band(context, cell[0], cell[1], colours.ink);
    context.globalAlpha = 1;
    context.strokeStyle = colours.accent;
    context.lineWidth = 2;
    context.strokeRect(box.left + cell[1] * box.cellWidth - 1, box.top + cell[0] * box.cellHeight - 1,
      box.cellWidth + 2, box.cellHeight + 2);
    highlightLabels(context, colours);
  }

  // The labels of the cell under the pointer, in bold on a plain ground, whatever the step.
  function highlightLabels(context, colours) {
    const width = Math.min(box.rowLabels,
      context.measureText(tickText(map.rows, cell[0])).width) + 6;
    const edge = box.left - (map.rows.spans.length ? 11 : 5);
    context.fillStyle = colours.face;
    context.fillRect(edge - width, box.top + (cell[0] + 0.5) * box.cellHeight - 8, width + 3, 16);
    const length = box.flat ? 14 : Math.min(box.columnLabels,
      context.measureText(tickText(map.columns, cell[1])).width) + 6;
    const x = box.left + (cell[1] + 0.5) * box.cellWidth;
    const y = box.top + box.height + (map.columns.spans.length ? 9 : 3);
    context.fillRect(x - (box.flat ? 12 : 8), y, box.flat ? 24 : 16, length + 3);
    context.fillStyle = colours.ink;
    drawRowLabel(context, map, box, cell[0]);
    drawColumnLabel(context, map, box, cell[1]);
  }

  function describe(value) {
    return `${describeStep(map.rows, cell[0])} → ${describeStep(map.columns, cell[1])}: ${value}`;
  }

  function say(value) {
    readout.textContent = cell ? describe(value) : "";
    tip.replaceChildren();
    if (!cell) return;
    for (const text of [describeStep(map.rows, cell[0]), describeStep(map.columns, cell[1]), value]) {
      element("div", "", tip).textContent = text;
    }
  }

  function moveTo(next, isPointer) {
    const same = cell && next && cell[0] === next[0] && cell[1] === next[1];
    if (same) return;
    cell = next;
    drawOverlay();
    clearTimeout(timer);
    tip.classList.toggle("q3-tip-shown", Boolean(cell && isPointer));
    if (!cell) {
      say("");
      return;
    }
    say(approximate(map, cell[0], cell[1]));
    timer = setTimeout(() => {
      if (cell) model.send({ kind: "value", row: cell[0], column: cell[1] });
    }, 40);
  }

  function under(event) {
    if (!map || !box) return null;
    const at = overlay.getBoundingClientRect();
    const column = Math.floor((event.clientX - at.left - box.left) / box.cellWidth);
    const row = Math.floor((event.clientY - at.top - box.top) / box.cellHeight);
    const inside = row >= 0 && column >= 0 && row < map.shape[0] && column < map.shape[1];
    return inside ? [row, column] : null;
  }

  function select() {
    if (!cell) return;
    model.set("selected", [cell[0] * map.rows.step, cell[1] * map.columns.step]);
    model.save_changes();
  }

  function onPointer(event) {
    moveTo(under(event), true);
    const at = overlay.getBoundingClientRect();
    const x = event.clientX - at.left;
    const onRight = x > at.width - tip.offsetWidth - 28;
    tip.style.left = `${onRight ? x - tip.offsetWidth - 14 : x + 16}px`;
    tip.style.top = `${event.clientY - at.top + 16}px`;
  }

  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  function onKey(event) {
    if (!map) return;
    const [row, column] = cell || [0, 0];
    const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));
    if (event.key in moves) {
      const stride = event.shiftKey ? 10 : 1;
      const [down, right] = cell ? moves[event.key] : [0, 0];
      moveTo([clamp(row + stride * down, map.shape[0]),
        clamp(column + stride * right, map.shape[1])], false);
    } else if (event.key === "Home") moveTo([row, 0], false);
    else if (event.key === "End") moveTo([row, map.shape[1] - 1], false);
    else if (event.key === "Enter" || event.key === " ") select();
    else return;
    event.preventDefault();
    event.stopPropagation(); // or the notebook takes the key
  }

  function onAnswer(answer) {
    if (!cell || answer.kind !== "value") return;
    if (answer.row === cell[0] && answer.column === cell[1]) say(answer.text);
  }

  function onMap() {
    prepare();
    draw();
    if (map && cell) {
      say(approximate(map, cell[0], cell[1]));
      model.send({ kind: "value", row: cell[0], column: cell[1] });
    }
  }

  overlay.addEventListener("pointermove", onPointer);
  overlay.addEventListener("pointerleave", () => moveTo(null, true));
  overlay.addEventListener("click", (event) => { moveTo(under(event), true); select(); });
  overlay.addEventListener("keydown", onKey);
  model.on("change:map", onMap);
  model.on("change:height", draw);
  model.on("change:marked", drawOverlay);
  model.on("msg:custom", onAnswer);
  const resizes = new ResizeObserver(draw);
  resizes.observe(stage);
  const themes = new MutationObserver(draw);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  prepare();
  draw();

  return () => {
    clearTimeout(timer);
    resizes.disconnect();
    themes.disconnect();
    model.off("change:map", onMap);
    model.off("change:height", draw);
    model.off("change:marked", drawOverlay);
    model.off("msg:custom", onAnswer);
  };
}

export default { render };
