// Colours, pixels and layout of a map as `heatmap.py` packs it. Used by paint.js and canvas.js.

const FONT_PX = 11;
const LABEL_ROOM = FONT_PX + 2;
const MARGIN = { top: 6, title: 26, span: 8 };
const MAX_LABEL = { row: 84, column: 72 };
const LABEL_SHARE = 0.2; // Of a small map: its cells need the place more than long labels.
const MAX_CELL = 36;

/**
 * The colours and the font of the page's theme.
 * @param {Element} el
 */
function themeColours(el) {
  const style = getComputedStyle(el);
  const read = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    ink: read("--q3-ink"),
    muted: read("--q3-muted"),
    face: read("--q3-face"),
    nothing: read("--q3-nothing"),
    accent: read("--q3-accent"),
    font: `${FONT_PX}px ${read("--jp-ui-font-family") || "system-ui, sans-serif"}`,
  };
}

/**
 * The red, green and blue of a colour as CSS writes it.
 * @param {string} colour
 * @returns {number[]}
 */
function channels(colour) {
  const hex = /^#([0-9a-f]{3,6})$/i.exec(colour)?.[1];
  if (!hex) return (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
  const pairs =
    hex.length === 3 ? [...hex].map((digit) => digit + digit) : (hex.match(/../g) ?? []);
  return pairs.map((pair) => Number.parseInt(pair, 16));
}

/**
 * The 256 colours of a map, as three bytes each. Where signed values go through white and the page
 * is dark, 0 has the colour of the page: the middle of a colour scale says that there is nothing.
 * @param {MapData} map
 * @param {string} face colour of the page
 */
function paletteOn(map, face) {
  const palette = bytes(map.palette);
  const page = channels(face);
  const isSigned = [127, 128].every((i) => Math.min(...palette.subarray(3 * i, 3 * i + 3)) > 225);
  if (!isSigned || page.length < 3 || Math.max(...page) > 127) return palette;
  const found = new Uint8Array(palette.length);
  for (let i = 0; i < 256; i++) {
    const away = Math.abs(i - 127.5) / 127.5;
    const bright = i < 128 ? 51 : 204; // Halfway to each end, where the colours are vivid.
    for (const channel of [0, 1, 2]) {
      const mixed = page[channel] * (1 - away) + palette[3 * bright + channel] * away;
      found[3 * i + channel] = Math.round(mixed);
    }
  }
  return found;
}

/**
 * The cells as an image of one pixel each; level 0, no value, is transparent.
 * @param {MapData} map
 * @param {Uint8Array} palette
 */
function cellImage(map, palette) {
  const [rows, columns] = map.shape;
  const image = new ImageData(columns, rows);
  const cells = bytes(map.cells);
  const colours = new Uint8Array(4 * 256); // Of each level; whole pixels are copied.
  for (let level = 1; level < 256; level++) {
    const colour = 3 * (map.colours?.[level - 1] ?? Math.round(((level - 1) * 255) / 254));
    colours.set(palette.subarray(colour, colour + 3), 4 * level);
    colours[4 * level + 3] = 255;
  }
  const pixelOf = new Uint32Array(colours.buffer);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < cells.length; i++) pixels[i] = pixelOf[cells[i]];
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  context2d(canvas).putImageData(image, 0, 0);
  return canvas;
}

/** @param {HTMLCanvasElement} canvas */
function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error(tr("this browser draws no 2D canvas"));
  return context;
}

/**
 * Set a canvas's size in CSS pixels, with as many pixels behind it as the screen has, and clear it.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {string} font
 */
function resize(canvas, width, height, font) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = context2d(canvas);
  if (canvas.width === wide && canvas.height === high) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, wide, high); // Cheaper than new memory, which a size brings along.
  } else {
    [canvas.width, canvas.height] = [wide, high];
  }
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = font;
  return context;
}

/**
 * Text cut to a width, with an ellipsis.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} width
 */
function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`${short}…`).width > width) {
    short = short.slice(0, -1);
  }
  return `${short}…`;
}

/**
 * A cell's position on the full axis, of which the map may show a part or every n-th.
 * @param {MapAxis} axis
 * @param {number} i
 */
function positionOf(axis, i) {
  return axis.first + i * axis.step;
}

/**
 * The cell of a position on the full axis; -1 for -1.
 * @param {MapAxis} axis
 * @param {number} position
 */
function placeOf(axis, position) {
  return position < 0 ? -1 : Math.floor((position - axis.first) / axis.step);
}

/**
 * @param {MapAxis} axis
 * @param {number} i
 */
function tickText(axis, i) {
  return axis.labels[i] || String(positionOf(axis, i));
}

/**
 * Cells from one label to the next: the first of 1, 2, 5, 10 ... that keeps labels apart.
 * @param {number} cell size in pixels
 * @param {number} room smallest distance of two labels, in pixels
 */
function tickStep(cell, room) {
  for (let scale = 1; ; scale *= 10) {
    for (const factor of [1, 2, 5]) if (factor * scale * cell >= room) return factor * scale;
  }
}

/**
 * Space for the labels of an axis, in pixels.
 * @param {CanvasRenderingContext2D} context
 * @param {MapAxis} axis
 * @param {number} most
 */
function labelWidth(context, axis, most) {
  if (axis.ticks.length) return 18;
  const plain = context.font;
  context.font = `bold ${plain}`; // As paintCursor writes the labels of the selected cell.
  // Positions replace labels where some are left out: leave space for the largest.
  let widest = knownWidth(context, String(positionOf(axis, axis.labels.length)));
  for (let i = 0; i < axis.labels.length && widest < most; i++) {
    widest = Math.max(widest, knownWidth(context, tickText(axis, i)));
  }
  context.font = plain;
  return Math.ceil(Math.min(most, widest));
}

const MOST_WIDTHS = 20_000;
/** @type {Map<string, number>} widths of texts in a font, in pixels */
const widths = new Map();

/**
 * The width of a text, measured once: the maps of a run have the same labels.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 */
function knownWidth(context, text) {
  const key = `${context.font} ${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    if (widths.size >= MOST_WIDTHS) widths.clear();
    width = context.measureText(text).width;
    widths.set(key, width);
  }
  return width;
}

// Left of the colour bar, the bar, and right of it; then its ticks and its title.
const BAR = { left: 14, width: 10, gap: 4, title: FONT_PX + 8 };

/**
 * Width of the widest tick of the colour bar, in pixels.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 */
function barTickWidth(context, map) {
  return Math.max(...map.barTicks.map(([, text]) => context.measureText(text).width));
}

/**
 * Space for the colour bar, its ticks and its title, in pixels.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 */
function barWidth(context, map) {
  return BAR.left + BAR.width + BAR.gap + barTickWidth(context, map) + BAR.title;
}

/**
 * Height of the colour bar, in pixels.
 * @param {MapData} map
 * @param {MapBox} box
 */
function barHeight(map, box) {
  return Math.min(box.height, map.scaleNote ? 340 : 220);
}

/**
 * The title of the colour bar, as much of it as fits along a length; empty if its name does not.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {number} length in pixels
 */
function barTitle(context, map, length) {
  const titles = [map.scaleNote ? `${map.valueTitle}; ${map.scaleNote}` : "", map.valueTitle];
  return titles.find((title) => title && context.measureText(title).width <= length) || "";
}

/**
 * What the colours mean, for the legend: what the colour bar has no room for.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {number} length of the colour bar, in pixels
 */
function colourNote(context, map, length) {
  const named = barTitle(context, map, length) ? "" : map.valueTitle;
  const note = [named, map.scaleNote].filter(Boolean).join("; ");
  return note ? tr("colours: {note}", { note }) : "";
}

/**
 * Size of a cell: whole pixels for large cells, whose grid lines are then straight.
 * @param {number} room for all cells, in pixels
 * @param {number} count of the cells
 */
function cellSize(room, count) {
  const ratio = window.devicePixelRatio || 1;
  const size = Math.min(MAX_CELL, Math.max(1, room) / count);
  return size * ratio >= 8 ? Math.floor(size * ratio) / ratio : size;
}

/**
 * Compute where each part of the map goes.
 * @param {MapData} map
 * @param {CanvasRenderingContext2D} context
 * @param {number} width
 * @param {number} height
 * @returns {MapBox}
 */
function arrange(map, context, width, height) {
  const [rows, columns] = map.shape;
  const strip = (/** @type {MapAxis} */ axis) => (axis.spans.length ? MARGIN.span : 0);
  const rowLabels = labelWidth(context, map.rows, Math.min(MAX_LABEL.row, LABEL_SHARE * width));
  const isNumbered = map.columns.ticks.length > 0 || !map.columns.labels.some((label) => label);
  const most = Math.min(MAX_LABEL.column, LABEL_SHARE * height);
  const columnLabels = isNumbered ? 14 : labelWidth(context, map.columns, most);
  const left = MARGIN.title + rowLabels + strip(map.rows);
  const bottom = MARGIN.title + columnLabels + strip(map.columns);
  let cellWidth = cellSize(width - left - barWidth(context, map), columns);
  let cellHeight = cellSize(height - MARGIN.top - bottom, rows);
  if (map.square) cellWidth = cellHeight = Math.min(cellWidth, cellHeight);
  const top = MARGIN.top;
  const [boxWidth, boxHeight] = [cellWidth * columns, cellHeight * rows];
  const rowEdge = left - strip(map.rows) - 4;
  const columnEdge = top + boxHeight + strip(map.columns) + 4;
  return {
    ...{ left, top, width: boxWidth, height: boxHeight, total: top + boxHeight + bottom },
    ...{ cellWidth, cellHeight, rowLabels, columnLabels, rowEdge, columnEdge, isNumbered },
  };
}
