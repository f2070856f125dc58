// What an exported page is made of. html_page.py puts this file before page_routing.js and page.js.

/** Stands in for the Python side of a widget. @template Traits @implements {WidgetModel<Traits>} */
class PageModel {
  /** @param {Traits} traits */
  constructor(traits) {
    this.traits = traits;
    /** @type {Map<string, ((...values: any[]) => void)[]>} */
    this.heard = new Map();
  }
  /** @template {keyof Traits} Name @param {Name} name */
  get(name) {
    return this.traits[name];
  }
  /** @template {keyof Traits} Name @param {Name} name @param {Traits[Name]} value */
  set(name, value) {
    this.traits[name] = value;
    for (const handler of this.heard.get(`change:${String(name)}`) || []) handler();
  }
  save_changes() {}
  send() {}
  /** @param {string} event @param {(...values: any[]) => void} handler */
  on(event, handler) {
    this.heard.set(event, [...(this.heard.get(event) || []), handler]);
  }
  /** @param {string} event @param {(...values: any[]) => void} handler */
  off(event, handler) {
    const others = (this.heard.get(event) || []).filter((each) => each !== handler);
    this.heard.set(event, others);
  }
}

/**
 * The bytes that were packed into the page.
 * @param {string} text zlib data as base64
 */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @param {Uint8Array} found */
function dataView(found) {
  return new DataView(found.buffer, found.byteOffset, found.byteLength);
}

/** @param {number} value */
function digits(value) {
  return String(Number(value.toPrecision(2)));
}

/** @param {Uint8Array} found its own memory */
function floatsOf(found) {
  return new Float32Array(found.buffer);
}

/** The title of the page, and a button for the other theme. @param {PageData} data */
function makeHead(data) {
  const { body } = document;
  body.classList.add("q3", "q3-page");
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  body.dataset.jpThemeLight = String(!dark);
  const head = element("header", "q3-page-head", body);
  element("h1", "", head).textContent = data.model;
  const n = data.tokens.length;
  const tokens = tr("{n} tokens, exported from the qwen3lab workbench", { n });
  element("span", "q3-hint", head).textContent = tokens;
  const theme = element("button", "", head);
  theme.textContent = tr("light / dark");
  theme.title = tr("Show the page in the other theme");
  theme.addEventListener("click", () => {
    body.dataset.jpThemeLight = String(body.dataset.jpThemeLight === "false");
  });
}

const NO_EXPERT = 0xffff; // Of a slot that is empty.

/** An axis of numbers, some with a label. @param {string} unit @param {string[]} labels @returns {MapAxis} */
function numberAxis(unit, labels) {
  return { title: unit, unit, first: 0, step: 1, labels, ticks: [], spans: [] };
}
