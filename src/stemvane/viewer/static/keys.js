// What the keyboard does.
import { button, element } from "./dom.js";
import { SCALES } from "./raster.js";
import { stateFromHash, stateToHash } from "./store.js";

/** @typedef {import("./viewer.js").Viewer} Viewer */

const KEYS = [
  ["W A S D, arrows", "move the cursor up, left, down, right; with Shift five positions"],
  ["I J K L", "move the virtual detector, or the decoded point; with Shift five times as far"],
  ["C R O P H", "tool of the map: cursor, rectangle, lasso, line for a profile, pan"],
  ["N, B", "next map, map before"],
  ["G, T", "scale of the map, of patterns: linear, square root, logarithm"],
  ["V", "pattern at the cursor, mean, rotated mean"],
  ["F", "full screen of the panel under the pointer"],
  ["X", "whole images again"],
  ["Shift + 1 … 9, 1 … 9", "store this view, show a stored view"],
  ["Ctrl + Z", "undo"],
  ["Escape", "let go of the selection"],
  ["?", "this list"],
  ["Mouse", "wheel to zoom, right or middle button to move, double click for the whole image; two fingers zoom"],
  ["Histogram", "drag an end for the contrast; with Shift, select a range of values"],
];

const ARROWS = /** @type {Record<string, string>} */ ({ ArrowUp: "w", ArrowLeft: "a", ArrowDown: "s", ArrowRight: "d" });

/** @param {HTMLElement} root */
export function showHelp(root) {
  const rows = KEYS.map(([keys, text]) => element("tr", {}, [element("th", { scope: "row", text: keys }), element("td", { text })]));
  const dialog = element("dialog", { class: "help", "aria-label": "Keys" }, [
    element("h2", { text: "Keys and mouse" }),
    element("table", {}, [element("tbody", {}, rows)]),
    button("Close", "Close", () => dialog.remove()),
  ]);
  dialog.addEventListener("close", () => dialog.remove());
  root.append(dialog);
  dialog.showModal();
}

/** @param {Viewer} viewer */
export function listenToKeys(viewer) {
  const { root } = viewer;
  /** @type {Element | null} */
  let under = null;
  root.addEventListener("pointermove", (event) => {
    under = event.target instanceof Element ? event.target.closest(".panel") : null;
  });
  const holder = viewer.inPage ? root : document;
  for (const kind of ["keydown", "keyup", "pointerdown"]) {
    holder.addEventListener(kind, (event) => (viewer.shiftHeld = /** @type {KeyboardEvent} */ (event).shiftKey), true);
  }
  holder.addEventListener("keydown", (raw) => {
    const event = /** @type {KeyboardEvent} */ (raw);
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest?.("input, textarea, select, dialog") && !(target instanceof HTMLInputElement && target.type === "range")) return;
    if (event.key.startsWith("Arrow") && target.closest?.("input, [role=separator]")) return;
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key.toLowerCase() !== "z")) return;
    if (act(viewer, event, under)) event.preventDefault();
  });
}

/**
 * @param {Viewer} viewer
 * @param {KeyboardEvent} event
 * @param {Element | null} under the panel under the pointer
 */
function act(viewer, event, under) {
  const { store } = viewer;
  const { state } = store;
  const key = ARROWS[event.key] ?? event.key.toLowerCase();
  if (event.ctrlKey) return viewer.undo();
  const far = event.shiftKey ? 5 : 1;
  const ways = /** @type {Record<string, [number, number]>} */ ({ w: [-1, 0], a: [0, -1], s: [1, 0], d: [0, 1] });
  if (ways[key]) {
    const [rows, columns] = viewer.session.scanShape;
    const y = Math.min(Math.max(state.cursor[0] + far * ways[key][0], 0), rows - 1);
    const x = Math.min(Math.max(state.cursor[1] + far * ways[key][1], 0), columns - 1);
    store.set({ cursor: [y, x], pattern: "cursor", defect: null });
    return true;
  }
  const moves = /** @type {Record<string, [number, number]>} */ ({ i: [-1, 0], j: [0, -1], k: [1, 0], l: [0, 1] });
  if (moves[key]) {
    const [down, right] = moves[key];
    if (state.detector) {
      store.set({ detector: { ...state.detector, y: state.detector.y + far * down, x: state.detector.x + far * right } });
      viewer.dragDetector(true);
      return true;
    }
    if (!viewer.session.latents.length) return false;
    const start = state.decodeAt ?? viewer.session.latents.map(() => 0);
    const [x0, x1, y0, y1] = viewer.page.latents.range;
    const moved = [...start];
    moved[state.axes[0]] += (far * right * (x1 - x0)) / 100;
    if (moved.length > 1) moved[state.axes[1]] -= (far * down * (y1 - y0)) / 100;
    store.set({ decodeAt: moved, lowerRight: "decoded" });
    return true;
  }
  const tool = /** @type {Record<string, string>} */ ({ c: "cursor", r: "rectangle", o: "lasso", p: "line", h: "pan" })[key];
  if (tool) {
    store.set({ tool });
    return true;
  }
  if (key === "n" || key === "b") {
    const names = viewer.session.info.maps.map((/** @type {{name: string}} */ each) => each.name);
    const at = names.indexOf(state.map) + (key === "n" ? 1 : -1);
    store.set({ map: names[(at + names.length) % names.length] });
    return true;
  }
  const next = (/** @type {string[]} */ of, /** @type {string} */ value) => of[(of.indexOf(value) + 1) % of.length];
  if (key === "g") store.set({ mapScale: next(SCALES, state.mapScale) });
  else if (key === "t") store.set({ patternScale: next(SCALES, state.patternScale) });
  else if (key === "v") {
    const modes = ["cursor", ...(viewer.chosen?.plain ? ["mean"] : []), ...(viewer.chosen?.rotated ? ["rotated"] : [])];
    store.set({ pattern: next(modes, state.pattern) });
  } else if (key === "f") {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void (under ?? viewer.page.frames.map).requestFullscreen();
  } else if (key === "x") {
    for (const panel of [viewer.page.map.panel, viewer.page.patternPanel.panel, viewer.page.spectrum, viewer.page.decoded, viewer.page.grid]) panel.fit();
    viewer.page.latents.fit();
  } else if (key === "escape") store.set({ selection: null });
  else if (event.key === "?") showHelp(viewer.root);
  else if (/^Digit[1-9]$/.test(event.code)) return storedView(viewer, event.code.slice(5), event.shiftKey);
  else return false;
  return true;
}

/** @param {Viewer} viewer @param {string} digit @param {boolean} store whether to store it */
function storedView(viewer, digit, store) {
  const name = `stemvane:${viewer.session.info.name}:${digit}`;
  try {
    if (store) {
      localStorage.setItem(name, stateToHash(viewer.store.state));
      viewer.say(`view ${digit} stored`);
      return true;
    }
    const hash = localStorage.getItem(name);
    if (hash === null) {
      viewer.say(`no view ${digit} is stored; Shift+${digit} stores one`);
      return true;
    }
    const { selection = null, ...rest } = stateFromHash(hash);
    viewer.store.set({ ...rest, selection });
    if (selection) viewer.askSelection(false);
    if (viewer.store.state.detector) void viewer.loadExact();
  } catch {
    viewer.say("this browser stores nothing for the page");
  }
  return true;
}
