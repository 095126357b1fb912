// The viewer below a notebook's cell.
import { KernelTransport } from "./kernel_transport.js";
import { Viewer } from "./viewer.js";

/**
 * Called by anywidget.
 * @param {{model: import("./kernel_transport.js").WidgetModel, el: HTMLElement}} place
 * @returns {() => void} what ends it
 */
export function render({ model, el }) {
  const root = document.createElement("div");
  // Jupyter's keys do not act while the viewer has the focus
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  el.append(root);
  const transport = new KernelTransport(model);
  const viewer = new Viewer(root, transport, { inPage: true });
  void viewer.start();
  return () => {
    viewer.stop();
    transport.close();
  };
}
