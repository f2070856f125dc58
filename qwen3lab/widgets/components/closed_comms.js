// JupyterLab's handler of a comm listens to the kernel's status as long as the kernel lives, also
// after the comm is closed. The handler's callbacks are bound to the widget's model, which has the
// views: so every widget that was ever shown would stay in the page, with all of its elements.

/**
 * Let the handlers of closed comms drop their callbacks. Installed once, for all widgets of a page.
 * @param {WidgetModel<TranscriptTraits>} model
 */
function freeClosedWidgets(model) {
  const handler = model.get("layout")?.comm?.jsServicesComm; // Absent in other front ends.
  /** @type {CommHandler} */
  const kind = handler && Object.getPrototypeOf(handler);
  if (!kind?.dispose || kind.qwen3labFrees) return;
  kind.qwen3labFrees = true;
  const { dispose } = kind;
  kind.dispose = function () {
    dispose.call(this);
    this.onClose = undefined;
    this.onMsg = undefined;
  };
}
