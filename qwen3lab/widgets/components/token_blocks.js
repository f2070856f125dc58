// Keeps a long text in blocks of tokens, of which only those near the window are on the page.

const BLOCK_TOKENS = 200; // A block ends at the first line break after so many tokens,
const MOST_BLOCK_TOKENS = 400; // and at so many without one.
const ALL_SHOWN = 1_200; // Texts of at most so many tokens are on the page as a whole.
const NEAR = "600px 0px"; // Blocks nearer to the window than this are filled.
const TOKENS_A_LINE = 8; // An estimate, for the height of a block that was never filled.
const LINE_PX = 23;

class TokenBlocks {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} scroll in which the root scrolls
   * @param {(line: HTMLElement, data: ChipData, index: number) => HTMLElement} make
   */
  constructor(root, scroll, make) {
    this.root = root;
    this.make = make;
    /** @type {TokenBlock[]} */
    this.blocks = [];
    this.count = 0;
    this.firstText = -1; // Line breaks before the first text would only leave lines empty.
    this.near = new IntersectionObserver((entries) => this.onNear(entries), {
      ...{ root: scroll, rootMargin: NEAR },
    });
  }

  clear() {
    this.near.disconnect();
    this.root.replaceChildren();
    this.blocks = [];
    this.count = 0;
    this.firstText = -1;
  }

  /**
   * Add a token at the end.
   * @param {ChipData} data
   * @param {number} index in the reply
   */
  add(data, index) {
    const hasBreak = data[0].includes("\n");
    if (this.firstText < 0 && !hasBreak && data[4] !== "mark") this.firstText = index;
    let block = this.blocks[this.blocks.length - 1];
    if (!block || block.isFull) block = this.begin();
    block.tokens.push({ data, index });
    this.count += 1;
    const size = block.tokens.length;
    block.isFull = size >= (hasBreak ? BLOCK_TOKENS : MOST_BLOCK_TOKENS);
    if (block.isShown) this.write(block, data, index);
    else block.el.style.height = `${Math.ceil(size / TOKENS_A_LINE) * LINE_PX}px`;
  }

  begin() {
    const el = element("div", "q3-block", this.root);
    el.dataset.block = String(this.blocks.length);
    /** @type {TokenBlock} */
    const block = { el, tokens: [], isFull: false, isShown: this.count < ALL_SHOWN };
    this.blocks.push(block);
    this.near.observe(el);
    return block;
  }

  /**
   * @param {TokenBlock} block
   * @param {ChipData} data
   * @param {number} index
   */
  write(block, data, index) {
    // One element for each line: the browser lays out the last one again, and not the whole reply.
    const line = /** @type {HTMLElement | null} */ (block.el.lastElementChild);
    this.make(line || element("div", "", block.el), data, index);
    const isAfterText = this.firstText >= 0 && index > this.firstText;
    if (data[0].includes("\n") && isAfterText) element("div", "", block.el);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  onNear(entries) {
    for (const { target, isIntersecting } of entries) {
      const block = this.blocks[Number(/** @type {HTMLElement} */ (target).dataset.block)];
      if (block?.el !== target) continue; // Of a text before this one.
      if (isIntersecting) this.fill(block);
      else if (this.count > ALL_SHOWN) this.empty(block);
    }
  }

  /** @param {TokenBlock} block */
  fill(block) {
    if (block.isShown) return;
    block.isShown = true;
    block.el.style.height = "";
    for (const { data, index } of block.tokens) this.write(block, data, index);
  }

  /** @param {TokenBlock} block */
  empty(block) {
    if (!block.isShown) return;
    block.isShown = false;
    block.el.style.height = `${block.el.offsetHeight}px`;
    block.el.replaceChildren();
  }

  /**
   * The element of a token, whose block is filled for it; undefined without one.
   * @param {number} index in the reply
   * @returns {HTMLElement | undefined}
   */
  at(index) {
    const holds = (/** @type {TokenBlock} */ block) =>
      block.tokens.some((token) => token.index === index);
    const block = this.blocks.find(holds);
    if (!block) return undefined;
    this.fill(block);
    return block.el.querySelector(`[data-index="${index}"]`) ?? undefined;
  }
}
