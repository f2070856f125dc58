// The canvas widget: shows the model's map, and follows pointer and keyboard. After paint.js.

function element(tag, className, parent) {
  const node = document.createElement(tag);
  node.className = className;
  parent.appendChild(node);
  return node;
}

function describeStep(axis, i) {
  if (!axis.unit) return axis.labels[i];
  const name = `${axis.unit} ${positionOf(axis, i)}`;
  return axis.labels[i] ? `${name} “${axis.labels[i]}”` : name;
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const ASK_AFTER_MS = 40;

class MapView {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.map = null; // what is shown, as heatmap.py packs it
    this.cell = null; // the cell under the pointer or the keyboard
    el.classList.add("q3");
    this.root = element("div", "q3-map", el);
    this.title = element("div", "q3-map-title", this.root);
    this.stage = element("div", "q3-stage", this.root);
    this.canvas = element("canvas", "q3-canvas", this.stage);
    this.overlay = element("canvas", "q3-overlay", this.stage);
    this.tip = element("div", "q3-tip", this.stage);
    const footer = element("div", "q3-footer", this.root);
    this.legend = element("div", "q3-legend", footer);
    this.readout = element("div", "q3-readout", footer);
    this.message = element("div", "q3-empty", this.root);
    this.overlay.setAttribute("role", "img");
    this.overlay.tabIndex = 0;
    this.readout.setAttribute("aria-live", "polite");
    this.listen();
    this.take();
  }

  listen() {
    this.overlay.addEventListener("pointermove", (event) => this.onPointer(event));
    this.overlay.addEventListener("pointerleave", () => this.moveTo(null, true));
    this.overlay.addEventListener("click", (event) => this.onClick(event));
    this.overlay.addEventListener("pointerdown", (event) => this.onDown(event));
    this.overlay.addEventListener("pointerup", (event) => this.onUp(event));
    this.overlay.addEventListener("pointercancel", () => this.onCancel());
    this.overlay.addEventListener("dblclick", () => this.zoom([-1, -1, -1, -1]));
    this.overlay.addEventListener("keydown", (event) => this.onKey(event));
    this.watched = [
      ["change:map", () => this.take()],
      ["change:height", () => this.draw()],
      ["change:marked", () => this.drawOverlay()],
      ["change:framed", () => this.drawOverlay()],
      ["msg:custom", (answer) => this.onAnswer(answer)],
    ];
    for (const [name, handler] of this.watched) this.model.on(name, handler);
    this.resizes = new ResizeObserver(() => this.draw());
    this.resizes.observe(this.stage);
    this.themes = new MutationObserver(() => this.draw());
    this.themes.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  }

  close() {
    clearTimeout(this.timer);
    this.resizes.disconnect();
    this.themes.disconnect();
    for (const [name, handler] of this.watched) this.model.off(name, handler);
  }

  // Take the model's map, or the sentence that stands in its place.
  take() {
    const sent = this.model.get("map");
    this.map = sent.cells ? sent : null;
    this.message.textContent = this.map ? "" : sent.empty || "";
    this.root.classList.toggle("q3-is-empty", !this.map);
    const [rows, columns] = this.map ? this.map.shape : [0, 0];
    if (this.cell && (this.cell[0] >= rows || this.cell[1] >= columns)) this.cell = null;
    if (!this.map) return;
    this.image = cellImage(this.map);
    this.title.textContent = this.map.title;
    this.overlay.setAttribute("aria-label", `${this.map.title}. ${this.keys()}`);
    this.fillLegend();
    this.draw();
    if (this.cell) this.ask();
  }

  keys() {
    const moves = "Arrow keys move from cell to cell, Enter picks one";
    return this.model.get("zooms") ? `${moves}, + zooms in, - shows the whole.` : `${moves}.`;
  }

  fillLegend() {
    this.legend.replaceChildren();
    for (const span of this.map.columns.spans) {
      const key = element("span", "q3-key", this.legend);
      key.style.setProperty("--q3-swatch", span.colour);
      key.textContent = span.name;
    }
    element("span", "q3-key q3-key-nothing", this.legend).textContent = this.map.nothing;
  }

  draw() {
    const width = this.stage.clientWidth;
    if (!this.map || width === 0) return;
    const colours = themeColours(this.el);
    const measure = this.canvas.getContext("2d");
    measure.font = colours.font;
    this.box = arrange(this.map, measure, width, this.model.get("height"));
    const context = resize(this.canvas, width, this.box.total, colours.font);
    paintCells(context, this.map, this.image, this.box, colours);
    paintSpans(context, this.map, this.box);
    paintAxes(context, this.map, this.box, colours);
    paintColourBar(context, this.map, this.box, colours);
    this.drawOverlay();
    // Whoever waits for the picture (a test, a screen capture) can see what is drawn.
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn || 0) + 1);
    this.root.dataset.title = this.map.title;
  }

  drawOverlay() {
    if (!this.map || !this.box) return;
    const colours = themeColours(this.el);
    const width = this.stage.clientWidth;
    const context = resize(this.overlay, width, this.box.total, colours.font);
    context.lineWidth = 1.5;
    context.strokeStyle = colours.accent;
    const [row, column] = this.model.get("marked");
    const { rows, columns } = this.map;
    const place = [placeOf(rows, row), placeOf(columns, column)];
    paintBands(context, this.map, this.box, place);
    const [top, left, bottom, right] = this.model.get("framed");
    if (top >= 0) {
      const from = [placeOf(rows, top), placeOf(columns, left)];
      const to = [placeOf(rows, bottom), placeOf(columns, right)];
      paintFrame(context, this.box, colours, from, to, []);
    }
    if (this.cell) paintCursor(context, this.map, this.box, colours, this.cell);
    if (this.from && this.cell && this.model.get("zooms")) {
      paintFrame(context, this.box, colours, this.from, this.cell, [5, 4]);
    }
  }

  // Move to a cell, or to none; say its value, first roughly and then exactly.
  moveTo(cell, isPointer) {
    if (String(cell) === String(this.cell)) return;
    this.cell = cell;
    this.drawOverlay();
    this.tip.classList.toggle("q3-tip-shown", Boolean(cell && isPointer));
    this.ask();
  }

  ask() {
    clearTimeout(this.timer);
    this.say(this.cell ? this.roughly() : "");
    if (!this.cell) return;
    const [row, column] = this.cell;
    const question = { kind: "value", row, column };
    this.timer = setTimeout(() => this.model.send(question), ASK_AFTER_MS);
  }

  roughly() {
    const { cells, shape, low, high, nothing, valueTitle } = this.map;
    const level = bytes(cells)[this.cell[0] * shape[1] + this.cell[1]];
    if (level === 0) return nothing;
    return `${valueTitle} ≈ ${(low + ((level - 1) / 254) * (high - low)).toFixed(2)}`;
  }

  onAnswer(answer) {
    if (!this.cell || answer.kind !== "value") return;
    if (answer.row === this.cell[0] && answer.column === this.cell[1]) this.say(answer.text);
  }

  say(value) {
    this.tip.replaceChildren();
    this.readout.textContent = "";
    if (!this.cell) return;
    const row = describeStep(this.map.rows, this.cell[0]);
    const column = describeStep(this.map.columns, this.cell[1]);
    for (const text of [row, column, value]) element("div", "", this.tip).textContent = text;
    this.readout.textContent = `${row} → ${column}: ${value}`;
  }

  under(event) {
    if (!this.map || !this.box) return null;
    const at = this.overlay.getBoundingClientRect();
    const column = Math.floor((event.clientX - at.left - this.box.left) / this.box.cellWidth);
    const row = Math.floor((event.clientY - at.top - this.box.top) / this.box.cellHeight);
    const [rows, columns] = this.map.shape;
    return row >= 0 && column >= 0 && row < rows && column < columns ? [row, column] : null;
  }

  onPointer(event) {
    this.moveTo(this.under(event), true);
    if (this.from && this.cell && this.model.get("zooms")) this.drawOverlay();
    const at = this.overlay.getBoundingClientRect();
    const x = event.clientX - at.left;
    const isRight = x > at.width - this.tip.offsetWidth - 28;
    this.tip.style.left = `${isRight ? x - this.tip.offsetWidth - 14 : x + 16}px`;
    this.tip.style.top = `${event.clientY - at.top + 16}px`;
  }

  onClick(event) {
    if (this.dragged) return; // it was a zoom
    this.moveTo(this.under(event), true);
    this.select();
  }

  // A drag from one cell to another is a window to zoom into.
  onDown(event) {
    this.from = this.under(event);
    this.dragged = false;
    // A drag may end outside of the map: its end is heard there, too.
    if (this.from && this.model.get("zooms")) this.overlay.setPointerCapture(event.pointerId);
  }

  onCancel() {
    this.from = null;
    this.moveTo(null, true);
  }

  onUp(event) {
    const [from, to] = [this.from, this.under(event)];
    this.from = null;
    if (!this.model.get("zooms") || !from || !to) return;
    this.dragged = Math.abs(from[0] - to[0]) > 0 && Math.abs(from[1] - to[1]) > 0;
    if (!this.dragged) return;
    const { rows, columns } = this.map;
    const sorted = (a, b) => [Math.min(a, b), Math.max(a, b) + 1];
    const [top, bottom] = sorted(from[0], to[0]);
    const [left, right] = sorted(from[1], to[1]);
    this.zoom([
      positionOf(rows, top),
      positionOf(rows, bottom),
      positionOf(columns, left),
      positionOf(columns, right),
    ]);
  }

  zoom(window) {
    if (!this.model.get("zooms")) return;
    this.model.set("zoomed", window);
    this.model.save_changes();
    this.drawOverlay();
  }

  select() {
    if (!this.cell) return;
    const { rows, columns } = this.map;
    this.model.set("selected", [
      positionOf(rows, this.cell[0]),
      positionOf(columns, this.cell[1]),
    ]);
    this.model.save_changes();
  }

  onKey(event) {
    const known = event.key in MOVES || ["Home", "End", "Enter", " ", "+", "-"].includes(event.key);
    if (!this.map || !known) return;
    event.preventDefault();
    event.stopPropagation(); // or the notebook takes the key
    if (event.key === "+") this.zoomAt();
    else if (event.key === "-") this.zoom([-1, -1, -1, -1]);
    else if (event.key === "Enter" || event.key === " ") this.select();
    else this.moveTo(this.target(event), false);
  }

  // By keyboard: a quarter of the map around the cell.
  zoomAt() {
    if (!this.cell) return;
    const { rows, columns, shape } = this.map;
    const around = (at, count) => {
      const size = Math.max(2, Math.ceil(count / 2));
      const start = Math.max(0, Math.min(count - size, at - Math.floor(size / 2)));
      return [start, Math.min(count, start + size)];
    };
    const [top, bottom] = around(this.cell[0], shape[0]);
    const [left, right] = around(this.cell[1], shape[1]);
    this.zoom([
      positionOf(rows, top),
      positionOf(rows, bottom),
      positionOf(columns, left),
      positionOf(columns, right),
    ]);
  }

  target(event) {
    if (!this.cell) return [0, 0];
    const [row, column] = this.cell;
    const [rows, columns] = this.map.shape;
    if (event.key === "Home") return [row, 0];
    if (event.key === "End") return [row, columns - 1];
    const [down, right] = MOVES[event.key];
    const stride = event.shiftKey ? 10 : 1;
    const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
    return [clamp(row + stride * down, rows), clamp(column + stride * right, columns)];
  }
}

function render({ model, el }) {
  const view = new MapView(model, el);
  return () => view.close();
}

export default { render };
