// Shows the model's map, and handles pointer and keyboard.

/**
 * A row or a column in words: its unit, position and label.
 * @param {MapAxis} axis
 * @param {number} i
 */
function describeStep(axis, i) {
  if (!axis.unit) return axis.labels[i];
  const name = `${axis.unit} ${positionOf(axis, i)}`;
  return axis.labels[i] ? `${name} “${axis.labels[i]}”` : name;
}

const WHOLE = [-1, -1, -1, -1];
/** @type {Record<string, Cell>} */
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const ASK_AFTER_MS = 40;

class MapView {
  /** @param {WidgetView<CanvasTraits>} view */
  constructor({ model, el }) {
    this.model = model;
    this.el = el;
    /** @type {MapData | null} */
    this.map = null;
    /** @type {HTMLCanvasElement | null} the cells, one pixel each */
    this.image = null;
    /** @type {MapBox | null} where the parts of the map are drawn */
    this.box = null;
    /** @type {Cell | null} the cell under the pointer or the keyboard */
    this.cell = null;
    /** @type {Cell | null} where a drag began */
    this.dragStart = null;
    this.hasDragged = false;
    this.timer = 0;
    el.classList.add("q3");
    this.root = element("div", "q3-map", el);
    this.title = element("div", "q3-map-title", this.root);
    this.stage = element("div", "q3-stage", this.root);
    this.canvas = element("canvas", "q3-canvas", this.stage);
    this.overlay = element("canvas", "q3-overlay", this.stage);
    this.tip = element("div", "q3-tip", this.stage);
    this.tip.popover = "manual"; // Above everything: no pane cuts it off.
    const footer = element("div", "q3-footer", this.root);
    this.legend = element("div", "q3-legend", footer);
    /** @type {HTMLElement | null} what the colours mean, if the colour bar has no room for it */
    this.colourNote = null;
    /** @type {ThemeColours | null} of the page, once they are known */
    this.colours = null;
    this.face = ""; // Colour of the page that the image is made for.
    this.readout = element("div", "q3-readout", footer);
    this.message = element("div", "q3-empty", this.root);
    this.caption = element("div", "q3-caption", this.root);
    // What the last drawing was made of: nothing of the page is read or set anew without need.
    this.room = { width: 0, height: 0 };
    this.legendOf = "";
    this.drawWaits = this.overlayWaits = false;
    this.overlay.setAttribute("role", "img");
    this.overlay.tabIndex = 0;
    this.readout.setAttribute("aria-live", "polite");
    this.listenToPointerAndKeys();
    this.stopListening = listen(model, {
      "change:map": () => this.showMap(),
      "change:caption": () => this.showCaption(),
      "change:height": () => this.drawSoon(),
      "change:marked": () => this.drawOverlaySoon(),
      "change:framed": () => this.drawOverlaySoon(),
      "msg:custom": (answer) => this.onAnswer(answer),
    });
    this.resizes = new ResizeObserver(() => this.onResize());
    this.resizes.observe(this.stage);
    this.themes = new MutationObserver(() => {
      this.colours = null;
      this.draw();
    });
    this.themes.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
    this.showMap();
    this.showCaption();
  }

  listenToPointerAndKeys() {
    this.overlay.addEventListener("pointermove", (event) => this.onPointer(event));
    this.overlay.addEventListener("pointerleave", () => this.moveTo(null, true));
    this.overlay.addEventListener("click", (event) => this.onClick(event));
    this.overlay.addEventListener("pointerdown", (event) => this.onDown(event));
    this.overlay.addEventListener("pointerup", (event) => this.onUp(event));
    this.overlay.addEventListener("pointercancel", () => this.onCancel());
    this.overlay.addEventListener("dblclick", () => this.zoom(WHOLE));
    this.overlay.addEventListener("keydown", (event) => this.onKey(event));
  }

  close() {
    clearTimeout(this.timer);
    this.resizes.disconnect();
    this.themes.disconnect();
    this.stopListening();
  }

  /** Show the model's map, or the sentence in its place. */
  showMap() {
    const sent = this.model.get("map");
    const map = sent.cells ? sent : null;
    this.map = map;
    setText(this.message, sent.cells ? "" : sent.empty || "");
    this.root.classList.toggle("q3-is-empty", !map);
    const [rows, columns] = map ? map.shape : [0, 0];
    if (this.cell && (this.cell[0] >= rows || this.cell[1] >= columns)) this.cell = null;
    if (!map) return;
    this.image = null;
    setText(this.title, map.title);
    this.overlay.setAttribute(
      "aria-label",
      tr("{title}. {keys}", { title: map.title, keys: this.keys() }),
    );
    this.fillLegend(map);
    this.drawSoon();
    if (this.cell) this.ask();
  }

  showCaption() {
    const caption = this.model.get("caption") || ""; // A state of an older version has none.
    setText(this.caption, caption);
    this.el.classList.toggle("q3-captioned", Boolean(caption));
  }

  keys() {
    return this.model.get("zooms")
      ? tr("Arrow keys move from cell to cell, Enter picks one, + zooms in, - shows the whole.")
      : tr("Arrow keys move from cell to cell, Enter picks one.");
  }

  /** @param {MapData} map */
  fillLegend(map) {
    const shown = JSON.stringify([map.columns.spans, map.nothing]);
    if (shown === this.legendOf) return;
    this.legendOf = shown;
    this.legend.replaceChildren();
    for (const span of map.columns.spans) {
      const key = element("span", "q3-key", this.legend);
      key.style.setProperty("--q3-swatch", span.colour);
      key.textContent = span.name;
    }
    if (map.nothing) {
      element("span", "q3-key q3-key-nothing", this.legend).textContent = map.nothing;
    }
    this.colourNote = element("span", "", this.legend);
  }

  /** The place of the map has another size; here it can be read without a new layout. */
  onResize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const isSame = width === this.room.width && (height === this.room.height || !this.fills());
    this.room = { width, height };
    if (!isSame) this.draw();
  }

  fills() {
    return this.model.get("fills");
  }

  /** Draw in the next frame, once for all messages until then: text on a canvas needs the page's
   * layout, which that frame computes anyway. */
  drawSoon() {
    if (this.drawWaits) return;
    this.drawWaits = true;
    requestAnimationFrame(() => this.drawWaits && this.draw());
  }

  draw() {
    this.drawWaits = false;
    const { map } = this;
    const { width } = this.room;
    if (!map || width === 0) return;
    const colours = this.themeColours();
    const palette = paletteOn(map, colours.face);
    if (this.face !== colours.face) this.image = null; // The theme has changed.
    this.face = colours.face;
    this.image ??= cellImage(map, palette);
    const image = this.image;
    const measure = context2d(this.canvas);
    measure.font = colours.font;
    const box = arrange(map, measure, width, this.height());
    this.box = box;
    const context = resize(this.canvas, width, box.total, colours.font);
    paintCells(context, map, image, box, colours);
    paintSpans(context, map, box);
    paintAxes(context, map, box, colours);
    paintColourBar(context, map, box, colours, palette);
    if (this.colourNote) setText(this.colourNote, colourNote(context, map, barHeight(map, box)));
    this.drawOverlay();
    // Lets tests and screen captures wait until a map is drawn.
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn || 0) + 1);
    this.root.dataset.title = map.title;
  }

  /** Height for the map: that of its place if it fills that, but not less than the model's. */
  height() {
    const least = this.model.get("height");
    return this.fills() ? Math.max(least, this.room.height) : least;
  }

  /** The colours of the page; reading them makes the browser compute styles anew. */
  themeColours() {
    if (!this.colours?.ink) this.colours = themeColours(this.el);
    return this.colours;
  }

  /** Draw marks and frames in the next frame. */
  drawOverlaySoon() {
    if (this.overlayWaits) return;
    this.overlayWaits = true;
    requestAnimationFrame(() => this.overlayWaits && this.drawOverlay());
  }

  drawOverlay() {
    this.overlayWaits = false;
    const { map, box, cell } = this;
    if (!map || !box || this.room.width === 0) return;
    const colours = this.themeColours();
    const context = resize(this.overlay, this.room.width, box.total, colours.font);
    context.lineWidth = 1.5;
    context.strokeStyle = colours.accent;
    const [row, column] = this.model.get("marked");
    const { rows, columns } = map;
    paintBands(context, map, box, [placeOf(rows, row), placeOf(columns, column)]);
    const [top, left, bottom, right] = this.model.get("framed");
    if (top >= 0) {
      /** @type {Cell} */
      const from = [placeOf(rows, top), placeOf(columns, left)];
      /** @type {Cell} */
      const to = [placeOf(rows, bottom), placeOf(columns, right)];
      paintFrame(context, box, colours, from, to, []);
    }
    if (cell) paintCursor(context, map, box, colours, cell);
    if (this.dragStart && cell && this.model.get("zooms")) {
      paintFrame(context, box, colours, this.dragStart, cell, [5, 4]);
    }
  }

  /**
   * Move to a cell, or to none, and show its value: first rounded to its level, then exactly.
   * @param {Cell | null} cell
   * @param {boolean} isPointer
   */
  moveTo(cell, isPointer) {
    if (String(cell) === String(this.cell)) return;
    this.cell = cell;
    this.drawOverlaySoon();
    this.tip.togglePopover(Boolean(cell && isPointer));
    this.ask();
  }

  /** Ask Python for the exact value of the cell. */
  ask() {
    clearTimeout(this.timer);
    this.showValue(this.roundedValue());
    if (!this.cell) return;
    const [row, column] = this.cell;
    const question = { kind: "value", row, column };
    this.timer = setTimeout(() => this.model.send(question), ASK_AFTER_MS);
  }

  /** The value that the cell's 8-bit level stands for. */
  roundedValue() {
    if (!this.cell || !this.map) return "";
    const { cells, shape, levels, nothing, valueTitle } = this.map;
    const level = bytes(cells)[this.cell[0] * shape[1] + this.cell[1]];
    if (level === 0) return nothing;
    return `${valueTitle} ≈ ${Number(levels[level - 1].toPrecision(2))}`;
  }

  /** @param {{ kind: string, row: number, column: number, text: string }} answer */
  onAnswer(answer) {
    if (!this.cell || answer.kind !== "value") return;
    if (answer.row === this.cell[0] && answer.column === this.cell[1]) this.showValue(answer.text);
  }

  /** @param {string} value */
  showValue(value) {
    this.tip.replaceChildren();
    this.readout.textContent = "";
    if (!this.cell || !this.map) return;
    const row = describeStep(this.map.rows, this.cell[0]);
    const column = describeStep(this.map.columns, this.cell[1]);
    for (const text of [row, column, value]) element("div", "", this.tip).textContent = text;
    this.readout.textContent = tr("{row} → {column}: {value}", { row, column, value });
  }

  /**
   * The cell under the pointer, or null.
   * @param {MouseEvent} event
   * @returns {Cell | null}
   */
  cellAt(event) {
    if (!this.map || !this.box) return null;
    const at = this.overlay.getBoundingClientRect();
    const column = Math.floor((event.clientX - at.left - this.box.left) / this.box.cellWidth);
    const row = Math.floor((event.clientY - at.top - this.box.top) / this.box.cellHeight);
    const [rows, columns] = this.map.shape;
    return row >= 0 && column >= 0 && row < rows && column < columns ? [row, column] : null;
  }

  /** @param {PointerEvent} event */
  onPointer(event) {
    this.moveTo(this.cellAt(event), true);
    if (this.dragStart && this.cell && this.model.get("zooms")) this.drawOverlay();
    this.placeTip(event);
  }

  /**
   * Put the value beside the pointer, on the side where the window has room for it.
   * @param {MouseEvent} event
   */
  placeTip({ clientX, clientY }) {
    const { offsetWidth, offsetHeight, style } = this.tip;
    const isRight = clientX + offsetWidth + 28 > window.innerWidth;
    const isLow = clientY + offsetHeight + 28 > window.innerHeight;
    style.left = `${Math.max(0, isRight ? clientX - offsetWidth - 14 : clientX + 16)}px`;
    style.top = `${Math.max(0, isLow ? clientY - offsetHeight - 12 : clientY + 16)}px`;
  }

  /** @param {MouseEvent} event */
  onClick(event) {
    if (this.hasDragged) return;
    this.moveTo(this.cellAt(event), true);
    this.select();
  }

  /**
   * Begin a drag; from one cell to another, it selects a window to zoom into.
   * @param {PointerEvent} event
   */
  onDown(event) {
    this.dragStart = this.cellAt(event);
    this.hasDragged = false;
    // With capture, the end of a drag is reported outside of the map as well.
    if (this.dragStart && this.model.get("zooms")) this.overlay.setPointerCapture(event.pointerId);
  }

  onCancel() {
    this.dragStart = null;
    this.moveTo(null, true);
  }

  /** @param {PointerEvent} event */
  onUp(event) {
    const [from, to] = [this.dragStart, this.cellAt(event)];
    this.dragStart = null;
    if (!this.model.get("zooms") || !from || !to) return;
    this.hasDragged = from[0] !== to[0] && from[1] !== to[1];
    if (!this.hasDragged) return;
    const sorted = (/** @type {number} */ a, /** @type {number} */ b) =>
      a < b ? [a, b + 1] : [b, a + 1];
    this.zoomToCells(sorted(from[0], to[0]), sorted(from[1], to[1]));
  }

  /**
   * Zoom to a window of cells.
   * @param {number[]} rows first and past the end
   * @param {number[]} columns first and past the end
   */
  zoomToCells(rows, columns) {
    const { map } = this;
    if (!map) return;
    this.zoom([
      ...rows.map((row) => positionOf(map.rows, row)),
      ...columns.map((column) => positionOf(map.columns, column)),
    ]);
  }

  /** @param {number[]} window rows and columns as positions on the full axes */
  zoom(window) {
    if (!this.model.get("zooms")) return;
    this.model.set("zoomed", window);
    this.model.save_changes();
    this.drawOverlay();
  }

  select() {
    if (!this.cell || !this.map) return;
    const { rows, columns } = this.map;
    const [row, column] = this.cell;
    this.model.set("selected", [positionOf(rows, row), positionOf(columns, column)]);
    this.model.save_changes();
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const known = event.key in MOVES || ["Home", "End", "Enter", " ", "+", "-"].includes(event.key);
    if (!this.map || !known) return;
    event.preventDefault();
    event.stopPropagation(); // Otherwise the notebook handles the key as well.
    if (event.key === "+") this.zoomAtCell();
    else if (event.key === "-") this.zoom(WHOLE);
    else if (event.key === "Enter" || event.key === " ") this.select();
    else this.moveTo(this.target(event, this.map), false);
  }

  /** Zoom by keyboard: half of the rows and columns, around the cell. */
  zoomAtCell() {
    if (!this.cell || !this.map) return;
    const { shape } = this.map;
    const around = (/** @type {number} */ at, /** @type {number} */ count) => {
      const size = Math.max(2, Math.ceil(count / 2));
      const start = Math.max(0, Math.min(count - size, at - Math.floor(size / 2)));
      return [start, Math.min(count, start + size)];
    };
    this.zoomToCells(around(this.cell[0], shape[0]), around(this.cell[1], shape[1]));
  }

  /**
   * The cell that a key moves to.
   * @param {KeyboardEvent} event
   * @param {MapData} map
   * @returns {Cell}
   */
  target(event, map) {
    if (!this.cell) return [0, 0];
    const [row, column] = this.cell;
    const [rows, columns] = map.shape;
    if (event.key === "Home") return [row, 0];
    if (event.key === "End") return [row, columns - 1];
    const [down, right] = MOVES[event.key];
    const stride = event.shiftKey ? 10 : 1;
    const clamp = (/** @type {number} */ value, /** @type {number} */ count) =>
      Math.max(0, Math.min(count - 1, value));
    return [clamp(row + stride * down, rows), clamp(column + stride * right, columns)];
  }
}

/** @param {WidgetView<CanvasTraits>} context */
function render(context) {
  serveBenches();
  const view = new MapView(context);
  return () => view.close();
}

export default { render };
