// Paints the parts of a map on a canvas, at the places that map_layout.js computed.

const MIN_GRID_CELL = 11; // Smaller cells, in pixels, have no grid lines.

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {CanvasImageSource} image
 * @param {MapBox} box
 * @param {ThemeColours} colours
 */
function paintCells(context, map, image, box, colours) {
  context.fillStyle = colours.nothing;
  context.fillRect(box.left, box.top, box.width, box.height);
  context.imageSmoothingEnabled = box.cellWidth < 1 || box.cellHeight < 1;
  context.drawImage(image, box.left, box.top, box.width, box.height);
  if (box.cellWidth < MIN_GRID_CELL || box.cellHeight < MIN_GRID_CELL) return;
  context.fillStyle = colours.face;
  for (let c = 1; c < map.shape[1]; c++) {
    context.fillRect(box.left + c * box.cellWidth - 0.5, box.top, 1, box.height);
  }
  for (let r = 1; r < map.shape[0]; r++) {
    context.fillRect(box.left, box.top + r * box.cellHeight - 0.5, box.width, 1);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 */
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

// If only every tenth label fits, positions are shown in place of labels.
const NUMBERS_FROM = 10;

/**
 * @param {MapAxis} axis
 * @param {number} i
 * @param {number} step
 */
function sparseText(axis, i, step) {
  return step < NUMBERS_FROM ? tickText(axis, i) : String(positionOf(axis, i));
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 * @param {number} i
 * @param {number} [step]
 */
function paintRowLabel(context, map, box, i, step = 1) {
  context.textAlign = "right";
  context.textBaseline = "middle";
  const text = shorten(context, sparseText(map.rows, i, step), box.rowLabels);
  context.fillText(text, box.rowEdge, box.top + (i + 0.5) * box.cellHeight);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 * @param {number} i
 * @param {number} [step]
 */
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

/**
 * Paint text along a side, upwards (-1) or downwards (1).
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {number} turn
 */
function paintAlong(context, text, x, y, turn) {
  context.save();
  context.translate(x, y);
  context.rotate((turn * Math.PI) / 2);
  context.textAlign = "center";
  context.textBaseline = turn < 0 ? "top" : "bottom";
  context.fillText(text, 0, 0);
  context.restore();
}

/**
 * Paint upright tick numbers at their positions, as many as fit.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 */
function paintTicks(context, map, box) {
  const every = (/** @type {MapAxis["ticks"]} */ ticks, /** @type {number} */ cell) => {
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

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 * @param {ThemeColours} colours
 */
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

/**
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 * @param {ThemeColours} colours
 * @param {Uint8Array} palette
 */
function paintColourBar(context, map, box, colours, palette) {
  const x = box.left + box.width + BAR.left;
  const tickEdge = x + BAR.width + BAR.gap;
  const height = barHeight(map, box);
  for (let i = 0; i < 256; i++) {
    const [r, g, b] = palette.subarray(3 * i, 3 * i + 3);
    context.fillStyle = `rgb(${r}, ${g}, ${b})`;
    context.fillRect(x, box.top + height * (1 - (i + 1) / 256), BAR.width, height / 256 + 0.6);
  }
  context.fillStyle = colours.ink;
  context.textAlign = "left";
  for (const [place, text] of height > 120 ? map.barTicks : ends(map.barTicks)) {
    context.textBaseline = place === 0 ? "bottom" : place === 1 ? "top" : "middle";
    context.fillText(text, tickEdge, box.top + height * (1 - place));
  }
  context.fillStyle = colours.muted;
  const edge = tickEdge + barTickWidth(context, map) + BAR.gap;
  paintAlong(context, barTitle(context, map, height), edge, box.top + height / 2, 1);
}

/** @param {[number, string][]} ticks */
function ends(ticks) {
  return [ticks[0], ticks[ticks.length - 1]];
}

/**
 * Paint a frame around a row and one around a column; -1 for none.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 * @param {Cell} cell
 */
function paintBands(context, map, box, [row, column]) {
  if (row >= 0 && row < map.shape[0]) {
    context.strokeRect(box.left, box.top + row * box.cellHeight, box.width, box.cellHeight);
  }
  if (column >= 0 && column < map.shape[1]) {
    context.strokeRect(box.left + column * box.cellWidth, box.top, box.cellWidth, box.height);
  }
}

/**
 * Paint the selected cell, its row and its column, and its labels in bold.
 * @param {CanvasRenderingContext2D} context
 * @param {MapData} map
 * @param {MapBox} box
 * @param {ThemeColours} colours
 * @param {Cell} cell
 */
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

/**
 * Paint a frame around the cells from one to another, both included.
 * @param {CanvasRenderingContext2D} context
 * @param {MapBox} box
 * @param {ThemeColours} colours
 * @param {Cell} from
 * @param {Cell} to
 * @param {number[]} dashes
 */
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
