// Shows a view that was exported: the widgets of the workbench, on a recording in the page itself.
// Text is set as textContent, never as HTML.

class ExportedPage {
  /**
   * @param {PageWidgets} widgets
   * @param {PageData} data
   * @param {Uint8Array} all what is packed
   */
  constructor(widgets, data, all) {
    this.widgets = widgets;
    this.data = data;
    this.all = all;
    this.picks = { ...data.picks };
    this.labels = data.tokens.map(([text]) => text);
    this.palette = dataView(this.part(data.palette));
    /** @type {Record<string, { tab: HTMLElement, body: HTMLElement }>} */
    this.tabs = {};
    this.drawn = ""; // Layer and head of the map that is drawn.
    this.left = element("div", "q3-page-left", element("main", "q3-page-body", document.body));
    this.stage = element("div", "q3-page-stage", /** @type {Node} */ (this.left.parentNode));
    this.makeText();
    this.makeTabs();
    const { routing } = data;
    this.routing = routing && new RoutingStage(this, routing, this.tabs.Routing.body);
    this.makeAttention();
    this.openTab(data.routing && data.picks.tab === "routing" ? "Routing" : "Attention");
    this.draw();
  }

  /** @param {[number, number]} place @returns {Uint8Array} */
  part([start, size]) {
    return this.all.slice(start, start + size);
  }

  /**
   * A pane with a title and a place for a widget.
   * @param {string} title
   * @param {string} hint
   * @param {Node} parent
   */
  pane(title, hint, parent) {
    const root = element("section", "q3-card q3-pane", parent);
    const head = element("div", "q3-page-tools", root);
    element("span", "q3-heading", head).textContent = title;
    element("span", "q3-hint", head).textContent = hint;
    return { head, place: element("div", "q3-fill", root) };
  }

  /**
   * A menu of numbers with a label; texts in their place are shown.
   * @param {string} name
   * @param {number[]} numbers
   * @param {Node} parent
   * @param {(value: number) => void} choose
   * @param {string[]} [texts]
   */
  menu(name, numbers, parent, choose, texts) {
    const label = element("label", "", parent);
    label.append(name);
    const select = element("select", "", label);
    select.setAttribute("aria-label", name); // Else the options are part of its name.
    numbers.forEach((number, at) => {
      const option = element("option", "", select);
      option.value = String(number);
      option.textContent = texts ? texts[at] : String(number);
    });
    select.addEventListener("change", () => choose(Number(select.value)));
    return select;
  }

  /** Set picks, and draw what they change. @param {Partial<PagePicks>} picks */
  pick(picks) {
    Object.assign(this.picks, picks);
    this.draw();
  }

  /** A map on a canvas. @param {Node & Element} place @param {(cell: Cell) => void} pick */
  canvas(place, pick) {
    /** @type {CanvasTraits} */
    const traits = {
      map: { empty: "" },
      caption: "",
      height: 120,
      fills: true,
      selected: [-1, -1],
      marked: [-1, -1],
      framed: [-1, -1, -1, -1],
      zooms: false,
      zoomed: [],
    };
    const model = new PageModel(traits);
    model.on("change:selected", () => pick(model.get("selected")));
    this.widgets.map.render({ model, el: /** @type {HTMLElement} */ (place) });
    return model;
  }

  /** An axis of tokens. @param {string} unit @param {string} title @returns {MapAxis} */
  tokenAxis(unit, title) {
    const { spans } = this.data;
    return { title, unit, first: 0, step: 1, labels: this.labels, ticks: [], spans };
  }

  makeText() {
    const { question, reply, quantities, tokens, notes } = this.data;
    const talk = element("section", "q3-card q3-page-talk", this.left);
    element("div", "q3-question", talk).textContent = question;
    element("div", "q3-page-reply", talk).textContent = reply;
    talk.hidden = !question && !reply;
    const { head, place } = this.pane(tr("Text"), tr("click a token"), this.left);
    /** @type {TextTraits} */
    const traits = {
      text: { first: 0, tokens },
      token: -1,
      picked: this.picks.token,
      values: dataView(new Uint8Array()),
      shades: { title: "", high: 1, nothing: "", follows: false },
      shaded: -1,
      hits: [],
      notes: Object.fromEntries(
        notes.filter((n) => n.kind === "token").map((n) => [n.place[0], n.text]),
      ),
    };
    const shown = new PageModel(traits);
    this.text = shown;
    this.quantity = 0;
    const titles = [...quantities.map((of) => of.title), tr("attention from the picked token")];
    const choose = (/** @type {number} */ chosen) => {
      this.quantity = chosen;
      this.draw();
    };
    this.menu(tr("shade by"), [...titles.keys()], head, choose, titles);
    shown.on("change:picked", () => {
      const token = shown.get("picked");
      if (token !== this.picks.token) this.pick({ token });
    });
    this.widgets.text.render({ model: shown, el: place });
    this.card = element("section", "q3-card q3-page-token", this.left);
    this.card.setAttribute("aria-live", "polite");
  }

  makeTabs() {
    const bar = element("div", "q3-page-tools", this.stage);
    bar.setAttribute("role", "tablist");
    const titles = { Attention: tr("Attention"), Routing: tr("Routing") };
    for (const [name, title] of Object.entries(titles)) {
      if (name === "Routing" && !this.data.routing) continue;
      const tab = element("button", "", bar);
      tab.textContent = title;
      tab.setAttribute("role", "tab");
      tab.addEventListener("click", () => this.openTab(name));
      const body = element("div", "q3-page-left", this.stage);
      body.setAttribute("role", "tabpanel");
      body.setAttribute("aria-label", title);
      body.style.flex = "1 1 0";
      this.tabs[name] = { tab, body };
    }
  }

  /** @param {string} name */
  openTab(name) {
    for (const [other, { tab, body }] of Object.entries(this.tabs)) {
      tab.setAttribute("aria-selected", String(other === name));
      body.hidden = other !== name;
    }
  }

  makeAttention() {
    const { attention, wall } = this.data;
    const { body } = this.tabs.Attention;
    const tools = element("div", "q3-page-tools", body);
    this.layer = this.menu(tr("layer"), attention.layers, tools, (layer) => this.pick({ layer }));
    const heads = [...Array(attention.heads).keys()];
    this.head = this.menu(tr("head"), heads, tools, (head) => this.pick({ head }));
    element("span", "q3-hint", tools).textContent = tr("weights in 8 bits, each within 0.004");
    const side = element("div", `q3-page-side${wall ? "" : " q3-page-one"}`, body);
    if (wall) this.makeWall(wall, side);
    const { place } = this.pane(tr("Attention map"), tr("a row: the weights of one query"), side);
    this.map = this.canvas(place, ([row]) => row >= 0 && this.pick({ token: row }));
  }

  /** @param {NonNullable<PageData["wall"]>} wall @param {Node} side */
  makeWall(wall, side) {
    const { place } = this.pane(tr("All heads"), tr("click one to open it"), side);
    const { layers, heads } = this.data.attention;
    this.wall = this.canvas(place, ([row, column]) => {
      const [layer, head] = [Math.floor(row / wall.pitch), Math.floor(column / wall.pitch)];
      if (layers[layer] !== undefined && head >= 0 && head < heads) {
        this.pick({ layer: layers[layer], head });
      }
    });
    const cells = dataView(this.part(wall.cells));
    this.wall.set("map", { ...wall.map, cells, palette: this.palette });
  }

  /** First byte of a head's weights. @param {number} layer @param {number} head */
  headStart(layer, head) {
    const { attention, tokens } = this.data;
    const size = (tokens.length * (tokens.length + 1)) / 2;
    return attention.cells[0] + (attention.layers.indexOf(layer) * attention.heads + head) * size;
  }

  /** Levels of the keys of one query. @param {number} query */
  weightsOf(query) {
    const { layer, head } = this.picks;
    const start = this.headStart(layer, head) + (query * (query + 1)) / 2;
    return this.all.subarray(start, start + query + 1);
  }

  draw() {
    this.drawMap();
    this.routing?.draw();
    this.drawText();
    this.drawCard();
  }

  drawMap() {
    const { map, wall } = this;
    if (!map) return;
    const { layer, head, token } = this.picks;
    const { attention } = this.data;
    const n = this.labels.length;
    if (this.layer && this.head) [this.layer.value, this.head.value] = [`${layer}`, `${head}`];
    const shown = `${layer} ${head}`;
    if (this.drawn !== shown) {
      this.drawn = shown;
      const cells = new Uint8Array(n * n);
      for (let query = 0; query < n; query++) cells.set(this.weightsOf(query), query * n);
      map.set("map", {
        ...this.filled(attention, cells, [n, n], this.chosenScale()),
        title: tr("Attention of layer {layer}, head {head}", { layer, head }),
        rows: this.tokenAxis(tr("query"), tr("query token")),
        columns: this.tokenAxis(tr("key"), tr("key token")),
        valueTitle: tr("attention weight"),
        nothing: attention.nothing,
        square: true,
      });
    }
    map.set("marked", [token, -1]);
    if (!wall || !this.data.wall) return;
    const { pitch, gap } = this.data.wall;
    const [top, left] = [attention.layers.indexOf(layer) * pitch, head * pitch];
    wall.set("framed", [top, left, top + pitch - gap - 1, left + pitch - gap - 1]);
  }

  /** The colour scale that a person chose for the map of the picked head, if one did. */
  chosenScale() {
    const { layers, heads, chosen } = this.data.attention;
    const { layer, head } = this.picks;
    return chosen?.scales[chosen.of[layers.indexOf(layer) * heads + head]];
  }

  /**
   * The parts of a map that all have in common.
   * @param {PageScale} scale
   * @param {Uint8Array} cells
   * @param {Cell} shape
   * @param {ChosenScale} [chosen] in place of the scale that the cells are stored on
   */
  filled({ levels, barTicks, scaleNote }, cells, shape, chosen) {
    const common = { cells: dataView(cells), shape, palette: this.palette, levels };
    if (!chosen) return { ...common, barTicks, scaleNote };
    const colours = this.part(chosen.colours);
    return { ...common, colours, barTicks: chosen.barTicks, scaleNote: chosen.scaleNote };
  }

  drawText() {
    const { text, data, picks } = this;
    if (!text) return;
    const of = data.quantities[this.quantity || 0];
    const isPicked = picks.token >= 0;
    if (of) {
      text.set("shades", { ...of, follows: false });
      text.set("values", dataView(this.part(of.values)));
    } else {
      const { levels } = data.attention;
      const weights = isPicked ? [...this.weightsOf(picks.token)].map((l) => levels[l - 1]) : [];
      const { token, layer, head } = picks;
      const title = tr("attention from token {token} (layer {layer}, head {head})", {
        token,
        layer,
        head,
      });
      const shades = { high: 1, nothing: "", follows: false };
      text.set("shades", {
        ...shades,
        ...this.chosenScale()?.shades,
        title: isPicked ? title : tr("click a token to see its weights"),
      });
      const values = Float32Array.from(this.labels, (_, at) => weights[at] ?? Number.NaN);
      text.set("values", dataView(new Uint8Array(isPicked ? values.buffer : [])));
    }
    text.set("shaded", of || !isPicked ? -1 : picks.token);
    if (text.get("picked") !== picks.token) text.set("picked", picks.token);
  }

  /** What is known of the picked token, head and expert. */
  drawCard() {
    const { card, data, picks } = this;
    if (!card) return;
    card.replaceChildren();
    const say = (/** @type {string} */ line, name = "") => {
      element("div", name, card).textContent = line;
    };
    if (picks.token < 0) say(tr("Click a token to see its values here."));
    else for (const line of this.tokenLines()) say(line);
    for (const { kind, place, name, text } of data.notes) {
      const here = {
        token: [picks.token],
        head: [picks.layer, picks.head],
        expert: [picks.routingLayer, picks.expert],
      }[kind];
      if (String(here) === String(place)) say(`${name}: ${text}`, "q3-page-note");
    }
  }

  tokenLines() {
    const { data, picks, labels } = this;
    const { token, layer, head } = picks;
    const named = data.quantities.map((of) => {
      const value = floatsOf(this.part(of.values))[token];
      return Number.isNaN(value) ? "" : `${of.title}: ${value.toFixed(3)}`;
    });
    const first = tr("Token {token} “{text}”", { token, text: labels[token] });
    const lines = [[first, ...named.filter(Boolean)].join(tr(", "))];
    const levels = [...this.weightsOf(token)];
    const keys = levels
      .map(
        (level, key) => /** @type {[number, number]} */ ([data.attention.levels[level - 1], key]),
      )
      .sort((a, b) => b[0] - a[0])
      .slice(0, 3);
    const shown = keys.map(([weight, key]) => `${key} “${labels[key]}” (${digits(weight)})`);
    lines.push(
      tr("Layer {layer}, head {head} attends most to {keys}", {
        layer,
        head,
        keys: shown.join(", "),
      }),
    );
    if (this.routing) lines.push(this.routing.line(token));
    return lines;
  }
}

/** @param {PageWidgets} widgets */
// biome-ignore lint/correctness/noUnusedVariables: html_page.py writes the call.
async function showPage(widgets) {
  const text = (/** @type {string} */ id) => document.getElementById(id)?.textContent || "";
  /** @type {PageData} */
  const data = JSON.parse(text("data"));
  makeHead(data);
  try {
    new ExportedPage(widgets, data, await unpack(text("packed")));
  } catch (error) {
    const said = tr("This browser cannot show the page; one of 2023 or later can.");
    element("p", "", document.body).textContent = `${said} ${error}`;
    return;
  }
  document.body.dataset.shown = "true"; // Lets tests wait.
}
