// Painting a heatmap: from a map, as `heatmap.py` packs it, to pixels. Put before canvas.js.
// All text is drawn as text, never as HTML.

const FONT_PX = 11;
const LABEL_ROOM = FONT_PX + 2;
const MARGIN = { top: 6, right: 62, title: 26, span: 8 };
const MAX_LABEL = { row: 84, column: 72 };
const MAX_CELL = 36;
const GRID_FROM = 11; // smaller cells are drawn without lines between them

function themeColours(el) {
  const style = getComputedStyle(el);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    ink: read("--q3-ink"),
    muted: read("--q3-muted"),
    face: read("--q3-face"),
    nothing: read("--q3-nothing"),
    accent: read("--q3-accent"),
    font: `${FONT_PX}px ${read("--jp-ui-font-family") || "system-ui, sans-serif"}`,
  };
}

function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

// The cells as an image of one pixel each; level 0, which holds nothing, is left transparent.
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

// A canvas' size in CSS pixels, with as many pixels behind it as the screen has.
function resize(canvas, width, height, font) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = font;
  return context;
}

function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`${short}…`).width > width) {
    short = short.slice(0, -1);
  }
  return `${short}…`;
}

// A cell's number in the whole of which the map may be a part, and back.
function positionOf(axis, i) {
  return axis.first + i * axis.step;
}

function placeOf(axis, position) {
  return position < 0 ? -1 : Math.floor((position - axis.first) / axis.step);
}

function tickText(axis, i) {
  return axis.labels[i] || String(positionOf(axis, i));
}

// Every n-th label, so that neighbours keep `room` pixels apart; n is 1, 2, 5, 10 ...
function tickStep(cell, room) {
  for (let scale = 1; ; scale *= 10) {
    for (const factor of [1, 2, 5]) if (factor * scale * cell >= room) return factor * scale;
  }
}

function labelWidth(context, axis, most) {
  if (axis.ticks.length) return 18;
  const widths = axis.labels.map((_, i) => context.measureText(tickText(axis, i)).width);
  // Where labels are left out, numbers take their place: there must be room for the last.
  widths.push(context.measureText(String(positionOf(axis, axis.labels.length))).width);
  return Math.ceil(Math.min(most, Math.max(0, ...widths)));
}

// Large cells take whole pixels, for straight grid lines; small ones fill the room they have.
function cellSize(room, count) {
  const ratio = window.devicePixelRatio || 1;
  const size = Math.min(MAX_CELL, Math.max(1, room) / count);
  return size * ratio >= 8 ? Math.floor(size * ratio) / ratio : size;
}

// Where everything goes, in CSS pixels.
function arrange(map, context, width, height) {
  const [rows, columns] = map.shape;
  const strip = (axis) => (axis.spans.length ? MARGIN.span : 0);
  const rowLabels = labelWidth(context, map.rows, MAX_LABEL.row);
  const isNumbered = map.columns.ticks.length > 0 || !map.columns.labels.some((label) => label);
  const columnLabels = isNumbered ? 14 : labelWidth(context, map.columns, MAX_LABEL.column);
  const left = MARGIN.title + rowLabels + strip(map.rows);
  const bottom = MARGIN.title + columnLabels + strip(map.columns);
  let cellWidth = cellSize(width - left - MARGIN.right, columns);
  let cellHeight = cellSize(height - MARGIN.top - bottom, rows);
  if (map.square) cellWidth = cellHeight = Math.min(cellWidth, cellHeight);
  const box = { left, top: MARGIN.top, cellWidth, cellHeight, rowLabels, columnLabels, isNumbered };
  box.width = cellWidth * columns;
  box.height = cellHeight * rows;
  box.rowEdge = left - strip(map.rows) - 4;
  box.columnEdge = box.top + box.height + strip(map.columns) + 4;
  box.total = box.top + box.height + bottom;
  return box;
}

function paintCells(context, map, image, box, colours) {
  context.fillStyle = colours.nothing;
  context.fillRect(box.left, box.top, box.width, box.height);
  context.imageSmoothingEnabled = box.cellWidth < 1 || box.cellHeight < 1;
  context.drawImage(image, box.left, box.top, box.width, box.height);
  if (box.cellWidth < GRID_FROM || box.cellHeight < GRID_FROM) return;
  context.fillStyle = colours.face;
  for (let c = 1; c < map.shape[1]; c++) {
    context.fillRect(box.left + c * box.cellWidth - 0.5, box.top, 1, box.height);
  }
  for (let r = 1; r < map.shape[0]; r++) {
    context.fillRect(box.left, box.top + r * box.cellHeight - 0.5, box.width, 1);
  }
}

function paintSpans(context, map, box) {
  for (const span of map.rows.spans) {
    context.fillStyle = span.colour;
    const length = (span.end - span.start) * box.cellHeight;
    context.fillRect(box.left - 7, box.top + span.start * box.cellHeight, 4, length);
  }
  for (const span of map.columns.spans) {
    context.fillStyle = span.colour;
    const length = (span.end - span.start) * box.cellWidth;
    context.fillRect(box.left + span.start * box.cellWidth, box.top + box.height + 3, length, 4);
  }
}

// Where most labels are left out, positions say more than the texts that happen to be left.
const NUMBERS_FROM = 10;

function sparseText(axis, i, step) {
  return step < NUMBERS_FROM ? tickText(axis, i) : String(positionOf(axis, i));
}

function paintRowLabel(context, map, box, i, step = 1) {
  context.textAlign = "right";
  context.textBaseline = "middle";
  const text = shorten(context, sparseText(map.rows, i, step), box.rowLabels);
  context.fillText(text, box.rowEdge, box.top + (i + 0.5) * box.cellHeight);
}

function paintColumnLabel(context, map, box, i, step = 1) {
  context.save();
  context.translate(box.left + (i + 0.5) * box.cellWidth, box.columnEdge);
  context.textBaseline = box.isNumbered ? "top" : "middle";
  context.textAlign = box.isNumbered ? "center" : "right";
  if (!box.isNumbered) context.rotate(-Math.PI / 2);
  const room = box.isNumbered ? MAX_LABEL.column : box.columnLabels;
  context.fillText(shorten(context, sparseText(map.columns, i, step), room), 0, 0);
  context.restore();
}

// Text that runs upwards (-1) or downwards (1) along a side.
function paintAlong(context, text, x, y, turn) {
  context.save();
  context.translate(x, y);
  context.rotate((turn * Math.PI) / 2);
  context.textAlign = "center";
  context.textBaseline = turn < 0 ? "top" : "bottom";
  context.fillText(text, 0, 0);
  context.restore();
}

// Ticks at places of their own, as many as there is room for; upright, as numbers are.
function paintTicks(context, map, box) {
  const every = (ticks, cell) => {
    const apart = ticks.length > 1 ? (ticks[1][0] - ticks[0][0]) * cell : cell;
    return Math.max(1, Math.ceil(LABEL_ROOM / Math.max(apart, 0.1)));
  };
  const rows = map.rows.ticks;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let i = 0; i < rows.length; i += every(rows, box.cellHeight)) {
    context.fillText(rows[i][1], box.rowEdge, box.top + (rows[i][0] + 0.5) * box.cellHeight);
  }
  const columns = map.columns.ticks;
  context.textAlign = "center";
  context.textBaseline = "top";
  for (let i = 0; i < columns.length; i += every(columns, box.cellWidth)) {
    const x = box.left + (columns[i][0] + 0.5) * box.cellWidth;
    context.fillText(columns[i][1], x, box.columnEdge);
  }
}

function paintAxes(context, map, box, colours) {
  context.fillStyle = colours.ink;
  paintTicks(context, map, box);
  const rowStep = tickStep(box.cellHeight, LABEL_ROOM);
  for (let i = 0; i < map.shape[0] && !map.rows.ticks.length; i += rowStep) {
    paintRowLabel(context, map, box, i, rowStep);
  }
  const columnStep = tickStep(box.cellWidth, box.isNumbered ? 2 * LABEL_ROOM : LABEL_ROOM);
  for (let i = 0; i < map.shape[1] && !map.columns.ticks.length; i += columnStep) {
    paintColumnLabel(context, map, box, i, columnStep);
  }
  context.fillStyle = colours.muted;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(map.columns.title, box.left + box.width / 2, box.total - 2);
  paintAlong(context, map.rows.title, 4, box.top + box.height / 2, -1);
}

function paintColourBar(context, map, box, colours) {
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
  context.fillStyle = colours.muted;
  if (height > 120) paintAlong(context, map.valueTitle, x + 16, box.top + height / 2, 1);
}

// A frame around a whole row and a whole column; -1 for neither.
function paintBands(context, map, box, [row, column]) {
  if (row >= 0 && row < map.shape[0]) {
    context.strokeRect(box.left, box.top + row * box.cellHeight, box.width, box.cellHeight);
  }
  if (column >= 0 && column < map.shape[1]) {
    context.strokeRect(box.left + column * box.cellWidth, box.top, box.cellWidth, box.height);
  }
}

// The cell under the pointer or the keyboard, and its labels in bold whatever the label step.
function paintCursor(context, map, box, colours, [row, column]) {
  context.globalAlpha = 0.55;
  context.strokeStyle = colours.ink;
  paintBands(context, map, box, [row, column]);
  context.globalAlpha = 1;
  context.strokeStyle = colours.accent;
  context.lineWidth = 2;
  const x = box.left + column * box.cellWidth;
  const y = box.top + row * box.cellHeight;
  context.strokeRect(x - 1, y - 1, box.cellWidth + 2, box.cellHeight + 2);
  if (map.rows.ticks.length) return;
  context.font = `bold ${colours.font}`;
  context.fillStyle = colours.face;
  const wide = box.rowLabels + 4;
  context.fillRect(box.rowEdge - wide, y + box.cellHeight / 2 - 8, wide + 1, 16);
  const half = box.isNumbered ? 12 : 8;
  const middle = x + box.cellWidth / 2;
  context.fillRect(middle - half, box.columnEdge - 1, 2 * half, box.columnLabels + 4);
  context.fillStyle = colours.ink;
  paintRowLabel(context, map, box, row);
  paintColumnLabel(context, map, box, column);
}

// A frame around cells from one to another, both included.
function paintFrame(context, box, colours, from, to, dashes) {
  const top = box.top + Math.min(from[0], to[0]) * box.cellHeight;
  const left = box.left + Math.min(from[1], to[1]) * box.cellWidth;
  const height = (Math.abs(from[0] - to[0]) + 1) * box.cellHeight;
  const width = (Math.abs(from[1] - to[1]) + 1) * box.cellWidth;
  context.strokeStyle = colours.accent;
  context.lineWidth = 2;
  context.setLineDash(dashes);
  context.strokeRect(left, top, width, height);
  context.setLineDash([]);
}
