// The routing of an exported page: a layer's experts, and one token's experts in every layer.

class RoutingStage {
  /**
   * @param {ExportedPage} page
   * @param {NonNullable<PageData["routing"]>} routing
   * @param {Node} body
   */
  constructor(page, routing, body) {
    this.page = page;
    this.routing = routing;
    this.experts = new Uint16Array(page.part(routing.experts).buffer);
    this.weights = page.part(routing.weights);
    this.names = Array(routing.nExperts).fill("");
    this.drawn = -1; // Layer of the map that is drawn.
    const tools = element("div", "q3-page-tools", body);
    this.layer = page.menu(tr("layer"), routing.layers, tools, (routingLayer) =>
      page.pick({ routingLayer }),
    );
    this.note = element("span", "q3-hint", tools);
    const side = element("div", "q3-page-side q3-page-rows", body);
    const one = page.pane(tr("Expert routing"), tr("each column: the experts of one token"), side);
    this.map = page.canvas(one.place, ([expert, token]) => {
      if (expert >= 0) page.pick({ expert, token });
    });
    const other = page.pane(tr("Selected token"), tr("its experts in every layer"), side);
    this.byLayer = page.canvas(other.place, ([row, expert]) => {
      if (row >= 0) page.pick({ routingLayer: routing.layers[row], expert });
    });
  }

  /** Expert and level of each slot of a token. @param {number} row @param {number} token */
  slots(row, token) {
    const start = (row * this.page.labels.length + token) * this.routing.perToken;
    /** @type {[number, number][]} */
    const found = [];
    for (let at = start; at < start + this.routing.perToken; at++) {
      if (this.experts[at] !== NO_EXPERT) found.push([this.experts[at], this.weights[at]]);
    }
    return found;
  }

  /** Row of the picked layer. */
  row() {
    return this.routing.layers.indexOf(this.page.picks.routingLayer);
  }

  draw() {
    const { page, routing } = this;
    const { expert, token, routingLayer } = page.picks;
    const { labels } = page;
    this.layer.value = String(routingLayer);
    this.drawNote(expert);
    this.drawByLayer(token);
    this.byLayer.set("marked", [this.row(), expert]);
    if (this.drawn !== routingLayer) {
      this.drawn = routingLayer;
      const cells = new Uint8Array(routing.nExperts * labels.length);
      labels.forEach((_, at) => {
        for (const [e, level] of this.slots(this.row(), at)) cells[e * labels.length + at] = level;
      });
      this.map.set("map", {
        ...this.common(cells, [routing.nExperts, labels.length]),
        title: tr("Expert routing in layer {layer}", { layer: routingLayer }),
        rows: numberAxis(tr("expert"), this.names),
        columns: page.tokenAxis(tr("token"), tr("token")),
      });
    }
    this.map.set("marked", [expert, token]);
  }

  /**
   * What both maps have in common.
   * @param {Uint8Array} cells
   * @param {Cell} shape
   */
  common(cells, shape) {
    const found = this.page.filled(this.routing, cells, shape, this.routing.chosen?.scales[0]);
    const texts = { valueTitle: tr("routing weight"), nothing: tr("not chosen") };
    return { ...found, ...texts, square: false };
  }

  /** How many tokens the picked expert has. @param {number} expert */
  drawNote(expert) {
    const { labels } = this.page;
    const has = (/** @type {number} */ at) =>
      this.slots(this.row(), at).some(([other]) => other === expert);
    const n = labels.filter((_, at) => has(at)).length;
    const all = labels.length;
    const said = tr("expert {expert}: {n} of {all} tokens are routed to it", { expert, n, all });
    this.note.textContent = expert < 0 ? tr("click an expert in a map") : said;
  }

  /** The experts of a token in every layer. @param {number} token */
  drawByLayer(token) {
    const { layers, nExperts } = this.routing;
    if (token < 0) {
      this.byLayer.set("map", { empty: tr("Click a token to see its experts in every layer.") });
      return;
    }
    const cells = new Uint8Array(layers.length * nExperts);
    layers.forEach((_, row) => {
      for (const [expert, level] of this.slots(row, token)) cells[row * nExperts + expert] = level;
    });
    const names = layers.map((layer, row) => (layer === row ? "" : String(layer)));
    this.byLayer.set("map", {
      ...this.common(cells, [layers.length, nExperts]),
      title: tr("Experts of token {token} in every layer", { token }),
      rows: numberAxis(tr("layer"), names),
      columns: numberAxis(tr("expert"), this.names),
    });
  }

  /** The experts of a token in the picked layer, in words. @param {number} token */
  line(token) {
    const { levels } = this.routing;
    const chosen = this.slots(this.row(), token).map(
      ([expert, level]) => `${expert} (${digits(levels[level - 1])})`,
    );
    return tr("Layer {layer} routes it to experts {experts}", {
      layer: this.page.picks.routingLayer,
      experts: chosen.join(", "),
    });
  }
}
