// A second run beside the first: the same map, and the pattern at the same place.
import { element } from "./dom.js";
import { ImagePanel } from "./image_panel.js";
import { MARKS, strokeTwice } from "./map_panel.js";
import { adoptDetector, patternContrast } from "./pattern_panel.js";
import { usualContrast, usualPalette } from "./raster.js";
import { Session } from "./session.js";
import { DETECTOR_MAP } from "./store.js";
import { latestOnly } from "./transport.js";

/** @typedef {import("./viewer.js").Viewer} Viewer */
/** @typedef {import("./image_panel.js").PointerPlace} PointerPlace */

export class Companion {
  /** @param {Viewer} viewer @param {number} number of the scene */
  constructor(viewer, number) {
    this.viewer = viewer;
    this.session = new Session(viewer.session.transport, number, (text) => viewer.report(text));
    this.map = new ImagePanel({
      label: "Map of the other run",
      onPress: (place) => this.press(place),
      onDrag: (place) => this.press(place),
      drawOver: (context) => this.drawCursor(context),
    });
    this.pattern = new ImagePanel({ label: "Pattern of the other run" });
    this.names = [element("figcaption"), element("figcaption")];
    this.roots = [this.map, this.pattern].map((panel, i) => element("figure", { class: "companion" }, [this.names[i], panel.root]));
    this.askMap = latestOnly((/** @type {null} */ _) => this.loadMap());
    this.askPattern = latestOnly((/** @type {null} */ _) => this.loadPattern());
    this.listener = (/** @type {import("./store.js").State} */ _, /** @type {Set<string>} */ changed) => {
      if (["map", "mapScale", "palettes", "contrast"].some((name) => changed.has(name))) this.askMap(null);
      if (["cursor", "patternScale", "patternContrast"].some((name) => changed.has(name))) this.askPattern(null);
      this.map.draw();
    };
  }

  /** Load the run and show it. */
  async start() {
    if (!(await this.session.load())) return;
    const { info } = this.session;
    for (const name of this.names) name.textContent = info.name;
    const step = info.calibration?.scan_step;
    this.map.aspect = step ? step[0] / step[1] : 1;
    this.map.stepX = step ? step[1] : 0;
    this.map.stepUnit = step ? "Å" : "px";
    adoptDetector(this.pattern, this.session);
    this.viewer.store.subscribe(this.listener);
    this.askMap(null);
    this.askPattern(null);
  }

  /** Listen no more, and leave the page. */
  remove() {
    this.viewer.store.listeners.delete(this.listener);
    for (const root of this.roots) root.remove();
  }

  /** Position in this scan that is at the same place as the cursor in the first. @returns {[number, number]} */
  get cursor() {
    const first = this.viewer.session.scanShape;
    const [y, x] = this.viewer.store.state.cursor.map((at, k) => {
      const n = this.session.scanShape[k];
      return Math.min(Math.max(Math.round(((at + 0.5) / first[k]) * n - 0.5), 0), n - 1);
    });
    return [y, x];
  }

  /** @param {PointerPlace} place */
  press(place) {
    const first = this.viewer.session.scanShape;
    const [y, x] = [place.y, place.x].map((at, k) => {
      const there = Math.round(((at + 0.5) / this.session.scanShape[k]) * first[k] - 0.5);
      return Math.min(Math.max(there, 0), first[k] - 1);
    });
    this.viewer.store.set({ cursor: [y, x], pattern: "cursor", defect: null });
    return true;
  }

  /** @param {CanvasRenderingContext2D} context */
  drawCursor(context) {
    const [y, x] = this.map.toScreen(...this.cursor);
    const half = Math.max(this.map.frame.scaleX / 2, 5);
    strokeTwice(context, MARKS.cursor, () => context.rect(x - half, y - half, 2 * half, 2 * half));
  }

  async loadMap() {
    const { state } = this.viewer.store;
    if (state.map === DETECTOR_MAP) return;
    const entry = this.session.entry(state.map);
    if (!entry) return this.map.say(`This run has no map “${state.map}”.`);
    const message = await this.session.map(state.map);
    if (!message) return;
    const { values, strength } = message.arrays;
    const [low, high] = state.contrast[entry.name] ?? usualContrast(strength ?? values, entry.kind);
    const palette = state.palettes[entry.kind] ?? usualPalette(entry.kind);
    this.map.show(values, { kind: entry.kind, palette, scale: state.mapScale, low, high, period: entry.period }, strength);
  }

  async loadPattern() {
    if (!this.session.info.pattern_source) return this.pattern.say("There are no patterns.");
    const [y, x] = this.cursor;
    const message = await this.session.ask("pattern", { y, x });
    if (!message) return;
    const { state } = this.viewer.store;
    const { pattern } = message.arrays;
    const [low, high] = state.contrast["@pattern"] ?? patternContrast(pattern, this.session, state.patternContrast);
    this.pattern.show(pattern, { kind: "image", palette: state.palettes.pattern ?? "inferno", scale: state.patternScale, low, high });
  }
}
