// The map: cursor, selections, the line of the profile, defects and labels on any map of the scan.
import { paintPixels, thinLine } from "./geometry.js";
import { ImagePanel } from "./image_panel.js";
import { usualContrast, usualPalette } from "./raster.js";
import { DETECTOR_MAP } from "./store.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Chosen} Chosen */
/** @typedef {import("./image_panel.js").PointerPlace} PointerPlace */
/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./wire.js").Coded} Coded */

/** Colours of marks, which stand out on every palette. */
export const MARKS = { cursor: "#ff4d2e", select: "#ffd23f", line: "#35d0ff", defect: "#ff5bd1", shade: "rgb(0 0 0 / 55%)" };

/**
 * Write on a dark ground, from its upper left corner on.
 * @param {CanvasRenderingContext2D} context @param {string} text @param {number} top @param {number} left
 */
export function writeOn(context, text, top, left) {
  context.font = "600 12px system-ui, sans-serif";
  context.fillStyle = MARKS.shade;
  context.fillRect(left, top, context.measureText(text).width + 8, 18);
  context.fillStyle = "#fff";
  context.fillText(text, left + 4, top + 13);
}

/**
 * Draw a line twice, so that it shows on bright and on dark ground.
 * @param {CanvasRenderingContext2D} context
 * @param {string} color
 * @param {() => void} trace
 * @param {number} [width]
 */
export function strokeTwice(context, color, trace, width = 2) {
  for (const [style, wide] of /** @type {[string, number][]} */ ([
    ["rgb(0 0 0 / 70%)", width + 2],
    [color, width],
  ])) {
    context.beginPath();
    trace();
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.stroke();
  }
}

export class MapPanel {
  /**
   * @param {Session} session
   * @param {Store} store
   * @param {{onHover: (place: PointerPlace | null) => void, onSelect: (quick: boolean) => void}} hooks
   */
  constructor(session, store, hooks) {
    this.session = session;
    this.store = store;
    this.hooks = hooks;
    /** @type {Chosen | null} */
    this.chosen = null;
    /** @type {ImageData | null} */
    this.shade = null;
    this.shadeBuffer = document.createElement("canvas");
    /** @type {Point | null} */
    this.start = null;
    /** @type {Point[]} */
    this.stroke = [];
    /** @type {import("./session.js").MapEntry | null} */
    this.entry = null;
    /** @type {PointerPlace | null} */
    this.brushedAt = null;
    this.panel = new ImagePanel({
      label: "Map of the scan",
      onPress: (place) => this.press(place),
      onDrag: (place) => this.drag(place),
      onRelease: (place) => this.release(place),
      onHover: hooks.onHover,
      drawOver: (context) => this.drawOver(context),
    });
  }

  /** Take over steps and shape of the scan. */
  adopt() {
    const step = this.session.info.calibration?.scan_step;
    this.panel.aspect = step ? step[0] / step[1] : 1;
    this.panel.stepX = step ? step[1] : 0;
    this.panel.stepUnit = step ? "Å" : "px";
  }

  /**
   * Show a map.
   * @param {import("./session.js").MapEntry} entry
   * @param {Coded} values
   * @param {Coded} [strength]
   */
  show(entry, values, strength) {
    this.entry = entry;
    const { state } = this.store;
    const [low, high] = state.contrast[entry.name] ?? usualContrast(strength ?? values, entry.kind);
    const palette = state.palettes[entry.kind] ?? usualPalette(entry.kind);
    const coloring = { kind: entry.kind, palette, scale: state.mapScale, low, high, period: entry.period };
    this.panel.show(values, coloring, strength);
  }

  /** @param {Chosen | null} chosen */
  choose(chosen) {
    this.chosen = chosen;
    this.shade = null;
    if (chosen && chosen.n) {
      const [rows, columns] = this.session.scanShape;
      this.shade = new ImageData(columns, rows);
      const pixels = new Uint32Array(this.shade.data.buffer);
      for (let i = 0; i < pixels.length; i++) pixels[i] = chosen.mask.codes[i] ? 0 : 0x9c000000;
      this.shadeBuffer.width = columns;
      this.shadeBuffer.height = rows;
      this.shadeBuffer.getContext("2d")?.putImageData(this.shade, 0, 0);
    }
    this.panel.draw();
  }

  /** @param {PointerPlace} place @returns {Point} */
  clamp(place) {
    const [rows, columns] = this.session.scanShape;
    return [Math.min(Math.max(place.y, -0.5), rows - 0.5), Math.min(Math.max(place.x, -0.5), columns - 0.5)];
  }

  /** @param {PointerPlace} place */
  position(place) {
    const [rows, columns] = this.session.scanShape;
    const limit = (/** @type {number} */ v, /** @type {number} */ n) => Math.min(Math.max(Math.round(v), 0), n - 1);
    return /** @type {Point} */ ([limit(place.y, rows), limit(place.x, columns)]);
  }

  /** @param {PointerPlace} place */
  press(place) {
    const { tool, brush } = this.store.state;
    if (brush?.on === "painted") {
      this.brushedAt = place;
      this.paint(place);
      return true;
    }
    if (tool === "pan") return false;
    this.start = this.clamp(place);
    this.stroke = [this.start];
    if (tool === "cursor") this.moveCursor(place);
    return true;
  }

  /** @param {PointerPlace} place */
  moveCursor(place) {
    this.store.set({ cursor: this.position(place), pattern: "cursor", defect: null });
  }

  /** @param {PointerPlace} place */
  drag(place) {
    const { tool, brush } = this.store.state;
    if (brush?.on === "painted") return this.paint(place);
    if (!this.start) return;
    const here = this.clamp(place);
    if (tool === "cursor") this.moveCursor(place);
    if (tool === "line") this.store.set({ line: [this.start, here], lowerLeft: "profile" });
    if (tool === "rectangle") {
      this.store.set({ selection: { kind: "rectangle", space: "scan", points: [this.start, here] } });
      this.hooks.onSelect(true);
    }
    if (tool === "lasso") {
      this.stroke = thinLine([...this.stroke, here], 3 / place.size);
      if (this.stroke.length > 2) {
        this.store.set({ selection: { kind: "lasso", space: "scan", points: this.stroke.slice(0, 2000) } });
        this.hooks.onSelect(true);
      }
    }
  }

  /** Leave a position out of another run, or take it back. @param {PointerPlace} place */
  paint(place) {
    const { brush, changes } = this.store.state;
    const painted = paintPixels(changes.painted, this.brushedAt ?? place, place, this.session.scanShape, Boolean(brush?.adds));
    this.brushedAt = place;
    this.store.set({ changes: { ...changes, painted } });
  }

  /** @param {PointerPlace | null} place */
  release(place) {
    const { tool } = this.store.state;
    if (place && this.start && (tool === "rectangle" || tool === "lasso")) {
      const moved = Math.hypot(place.y - this.start[0], place.x - this.start[1]) * place.size;
      // a click beside a selection lets go of it
      if (moved < 4 && this.stroke.length < 3) this.store.set({ selection: null });
      this.hooks.onSelect(false);
    }
    this.start = null;
  }

  /** @param {CanvasRenderingContext2D} context */
  drawOver(context) {
    const { state } = this.store;
    const { panel } = this;
    const { left, top, scaleX, scaleY } = panel.frame;
    const [rows, columns] = this.session.scanShape;
    panel.fillPixels(context, state.changes.painted);
    if (this.shade) context.drawImage(this.shadeBuffer, left, top, columns * scaleX, rows * scaleY);
    const { selection } = state;
    if (selection?.space === "scan" && selection.points && selection.kind !== "points") {
      const points = selection.points;
      const corners =
        selection.kind === "rectangle"
          ? [points[0], /** @type {Point} */ ([points[0][0], points[1][1]]), points[1], /** @type {Point} */ ([points[1][0], points[0][1]])]
          : points;
      strokeTwice(context, MARKS.select, () => this.trace(context, corners, true));
    }
    for (const label of this.session.info.annotations?.labels ?? []) this.drawLabel(context, label);
    this.drawDefects(context);
    if (state.line) {
      const [from, to] = state.line.map(([y, x]) => panel.toScreen(y, x));
      strokeTwice(context, MARKS.line, () => {
        context.moveTo(from[1], from[0]);
        context.lineTo(to[1], to[0]);
      });
    }
    this.drawCursor(context);
  }

  /** @param {CanvasRenderingContext2D} context */
  drawCursor(context) {
    const [y, x] = this.panel.toScreen(...this.store.state.cursor);
    const half = Math.max(this.panel.frame.scaleX / 2, 5);
    strokeTwice(context, MARKS.cursor, () => {
      context.rect(x - half, y - half, 2 * half, 2 * half);
      for (const [dy, dx] of [
        [-1, 0],
        [1, 0],
        [0, -1],
        [0, 1],
      ]) {
        context.moveTo(x + dx * half, y + dy * half);
        context.lineTo(x + dx * (half + 8), y + dy * (half + 8));
      }
    });
  }

  /** @param {CanvasRenderingContext2D} context */
  drawDefects(context) {
    const { state } = this.store;
    /** @type {{y: number, x: number, kind: number | null}[]} */
    const defects = this.session.info.defects ?? [];
    defects.forEach((defect, number) => {
      const [y, x] = this.panel.toScreen(defect.y, defect.x);
      strokeTwice(context, MARKS.defect, () => context.arc(x, y, number === state.defect ? 14 : 9, 0, 2 * Math.PI));
    });
  }

  /** @param {CanvasRenderingContext2D} context @param {{name: string, selection: any}} label */
  drawLabel(context, label) {
    const points = /** @type {Point[]} */ (label.selection.points ?? []);
    if (label.selection.space === "latents" || !points.length) return;
    const [y, x] = this.panel.toScreen(points[0][0], points[0][1]);
    writeOn(context, label.name.length > 24 ? `${label.name.slice(0, 23)}…` : label.name, y - 16, x + 4);
  }

  /** @param {CanvasRenderingContext2D} context @param {Point[]} points @param {boolean} closed */
  trace(context, points, closed) {
    points.forEach((point, i) => {
      const [y, x] = this.panel.toScreen(...point);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    if (closed) context.closePath();
  }
}

/** Whether a name is that of the dragged detector's map. @param {string} name */
export function isDetectorMap(name) {
  return name === DETECTOR_MAP;
}
