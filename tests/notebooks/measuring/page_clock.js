// Runs before the page's own scripts. Times what a click changes in a workbench, and counts the
// messages between page and kernel. All times are of the page's clock: no driver takes part.
(() => {
  const QUIET_MS = 150;
  const clock = { begin: null, mutated: 0, painted: 0, shown: 0, mutations: 0, comms: 0, bytes: 0 };
  globalThis.q3clock = clock;

  /** @param {Node} node */
  function isInBench(node) {
    const inside = node instanceof Element ? node : node.parentElement;
    return Boolean(inside?.closest(".q3-bench") || inside?.querySelector?.(":scope .q3-bench"));
  }

  // A task that is queued in an animation frame runs after its painting.
  function afterPainting() {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      clock.painted = performance.now();
      port1.close();
    };
    port2.postMessage(null);
  }

  new MutationObserver((changes) => {
    if (!changes.some(({ target }) => isInBench(target))) return;
    clock.mutated = performance.now();
    clock.mutations += changes.length;
    if (!clock.shown && document.querySelector(".q3-bench-body")) clock.shown = clock.mutated;
    requestAnimationFrame(afterPainting);
  }).observe(document, {
    ...{ subtree: true, childList: true, attributes: true, characterData: true },
  });

  for (const kind of ["click", "keydown"]) {
    const begin = (event) => {
      clock.begin ??= event.timeStamp;
    };
    document.addEventListener(kind, begin, { capture: true });
  }

  /** Type of a message in Jupyter's binary format: offsets of its parts, then the parts. */
  function typeOf(data) {
    if (!(data instanceof ArrayBuffer)) return "";
    const view = new DataView(data);
    const place = (i) => Number(view.getBigUint64(8 * (i + 1), true));
    const header = new TextDecoder().decode(data.slice(place(1), place(2)));
    return JSON.parse(header).msg_type;
  }

  function count(data) {
    if (!typeOf(data).startsWith("comm_")) return;
    clock.comms += 1;
    clock.bytes += data.byteLength;
  }

  globalThis.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      this.addEventListener("message", ({ data }) => count(data));
    }
    send(data) {
      count(data);
      super.send(data);
    }
  };

  clock.start = () => {
    Object.assign(clock, { begin: null, mutated: 0, painted: 0, shown: 0, mutations: 0 });
    Object.assign(clock, { comms: 0, bytes: 0 });
  };

  const panel = () => globalThis.jupyterapp.shell.currentWidget;
  const kernel = () => panel().sessionContext.session.kernel;

  /** Run a command of JupyterLab, timed from now. */
  clock.command = (name) => {
    clock.start();
    clock.begin = performance.now();
    globalThis.jupyterapp.commands.execute(name);
  };

  /** Wait until the kernel is idle and nothing has changed for a while; what was counted till then. */
  clock.settled = async (quiet = QUIET_MS) => {
    let since = performance.now();
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 25));
      const now = performance.now();
      const { status, hasPendingInput } = kernel();
      const isDone = status === "idle" && !hasPendingInput && clock.painted >= clock.mutated;
      if (!isDone) since = now;
      if (now - Math.max(since, clock.painted) > quiet) return { ...clock };
    }
  };

  /** Run code in the kernel, and return what it prints. */
  clock.execute = async (code) => {
    const future = kernel().requestExecute({ code, store_history: false });
    let printed = "";
    let problem = "";
    future.onIOPub = ({ content, header }) => {
      if (header.msg_type === "stream") printed += content.text;
      if (header.msg_type === "error") problem = `${content.ename}: ${content.evalue}`;
    };
    await future.done;
    if (problem) throw new Error(problem);
    return printed;
  };
})();
