// The pattern, and the virtual detector that is dragged on it.
import { describeDetector, paintPixels } from "./geometry.js";
import { ImagePanel } from "./image_panel.js";
import { MARKS, strokeTwice, writeOn } from "./map_panel.js";
import { usualContrast } from "./raster.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./store.js").Detector} Detector */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./image_panel.js").PointerPlace} PointerPlace */
/** @typedef {import("./wire.js").Coded} Coded */

const GRIP = 9; // screen pixels within which an edge is taken hold of

/**
 * Contrast of a pattern: of all its pixels, or of those well within the disc.
 * @param {Coded} array of one pattern, or of several beside one another
 * @param {Session} session
 * @param {string} of full or disc
 * @returns {[number, number]}
 */
export function patternContrast(array, session, of) {
  const { optical_axis: axis, disc_radius: radius } = session.info.calibration ?? {};
  if (of !== "disc" || !axis || !radius) return usualContrast(array, "image");
  const [height, width] = session.detectorShape;
  const aspect = session.info.aspect ?? 1;
  const columns = array.shape[array.shape.length - 1];
  const inside = array.codes.filter((_, i) => {
    const y = Math.floor(i / columns) % height;
    const x = (i % columns) % width;
    return Math.hypot((y - axis[0]) * aspect, x - axis[1]) < 0.9 * radius;
  });
  return usualContrast({ ...array, codes: inside, shape: [inside.length] }, "image");
}

/**
 * Settle size and step of the panels that show patterns.
 * @param {ImagePanel} panel
 * @param {Session} session
 */
export function adoptDetector(panel, session) {
  const pixel = session.info.calibration?.pixel_size;
  panel.aspect = session.info.aspect ?? 1;
  panel.stepX = pixel ? pixel[1] : 0;
  panel.stepUnit = pixel ? "mrad" : "px";
}

export class PatternPanel {
  /**
   * @param {Session} session
   * @param {Store} store
   * @param {{onHover: (place: PointerPlace | null) => void, onDetector: (settled: boolean) => void}} hooks
   */
  constructor(session, store, hooks) {
    this.session = session;
    this.store = store;
    this.hooks = hooks;
    this.grip = "";
    /** @type {PointerPlace | null} */
    this.brushedAt = null;
    /** @type {{place: PointerPlace, detector: Detector} | null} */
    this.held = null;
    this.panel = new ImagePanel({
      label: "Diffraction pattern",
      onPress: (place) => this.press(place),
      onDrag: (place) => this.drag(place),
      onRelease: () => {
        if (this.held) hooks.onDetector(true);
        this.held = null;
      },
      onHover: (place) => {
        this.panel.canvas.dataset.grip = place ? this.gripAt(place) : "";
        hooks.onHover(place);
      },
      drawOver: (context) => this.drawOver(context),
    });
  }

  /**
   * Show a pattern.
   * @param {Coded} array
   */
  show(array) {
    const { state } = this.store;
    const [low, high] = state.contrast["@pattern"] ?? patternContrast(array, this.session, state.patternContrast);
    const palette = state.palettes.pattern ?? "inferno";
    this.panel.show(array, { kind: "image", palette, scale: state.patternScale, low, high });
  }

  /**
   * What would be taken hold of at a place: an edge, the whole detector, or nothing.
   * @param {PointerPlace} place
   */
  gripAt(place) {
    const { detector } = this.store.state;
    if (!detector) return "";
    const aspect = this.session.info.aspect ?? 1;
    const down = (place.y - detector.y) * aspect;
    const right = place.x - detector.x;
    const near = GRIP / place.size;
    if (detector.shape === "point") return "move";
    if (detector.shape === "rectangle") {
      const inside = Math.abs(down) < detector.inner + near && Math.abs(right) < detector.outer + near;
      if (!inside) return "";
      if (Math.abs(Math.abs(right) - detector.outer) < near) return "outer";
      if (Math.abs(Math.abs(down) - detector.inner) < near) return "inner";
      return "move";
    }
    const radius = Math.hypot(down, right);
    if (detector.shape === "wedge" && radius > near && radius < detector.outer) {
      const direction = Math.atan2(-down, right);
      for (const side of /** @type {const} */ (["start", "stop"])) {
        const away = direction - (detector[side] * Math.PI) / 180;
        if (Math.abs(radius * Math.sin(away)) < near && Math.cos(away) > 0) return side;
      }
    }
    if (Math.abs(radius - detector.outer) < near) return "outer";
    if (detector.shape !== "disc" && Math.abs(radius - detector.inner) < near) return "inner";
    return radius < detector.outer ? "move" : "";
  }

  /** @param {PointerPlace} place */
  press(place) {
    const { detector, brush } = this.store.state;
    if (brush?.on === "pixels") {
      this.grip = "brush";
      this.brushedAt = place;
      this.paint(place);
      return true;
    }
    this.grip = this.gripAt(place);
    if (!detector || !this.grip) return false;
    this.held = { place, detector };
    if (detector.shape === "point") this.drag(place);
    return true;
  }

  /** @param {PointerPlace} place */
  drag(place) {
    if (this.grip === "brush") return this.paint(place);
    if (!this.held) return;
    const { detector, place: from } = this.held;
    const aspect = this.session.info.aspect ?? 1;
    const changed = { ...detector };
    const down = (place.y - detector.y) * aspect;
    const right = place.x - detector.x;
    if (this.grip === "move") {
      const [rows, columns] = this.session.detectorShape;
      const isPoint = detector.shape === "point";
      const y = isPoint ? Math.round(place.y) : detector.y + place.y - from.y;
      const x = isPoint ? Math.round(place.x) : detector.x + place.x - from.x;
      changed.y = Math.min(Math.max(y, 0), rows - 1);
      changed.x = Math.min(Math.max(x, 0), columns - 1);
    } else if (detector.shape === "rectangle") {
      if (this.grip === "outer") changed.outer = Math.max(Math.abs(right), 0.5);
      else changed.inner = Math.max(Math.abs(down), 0.5);
    } else if (this.grip === "start" || this.grip === "stop") {
      changed[this.grip] = Math.round((Math.atan2(-down, right) * 180) / Math.PI);
    } else {
      const radius = Math.hypot(down, right);
      if (this.grip === "outer") changed.outer = Math.max(radius, (detector.shape === "disc" ? 0 : detector.inner) + 0.5);
      else changed.inner = Math.min(Math.max(radius, 0), detector.outer - 0.5);
    }
    this.store.set({ detector: changed });
    this.hooks.onDetector(false);
  }

  /** Mark a pixel as bad, or as good again. @param {PointerPlace} place */
  paint(place) {
    const { brush, changes } = this.store.state;
    const pixels = paintPixels(changes.pixels, this.brushedAt ?? place, place, this.session.detectorShape, Boolean(brush?.adds));
    this.brushedAt = place;
    this.store.set({ changes: { ...changes, pixels } });
  }

  /** What another run is to do otherwise. @param {CanvasRenderingContext2D} context */
  drawChanges(context) {
    const { changes } = this.store.state;
    const { scaleX } = this.panel.frame;
    this.panel.fillPixels(context, changes.pixels);
    const { axis, radius } = changes;
    if (!axis || !radius) return;
    const [y, x] = this.panel.toScreen(...axis);
    strokeTwice(context, MARKS.select, () => {
      context.arc(x, y, radius * scaleX, 0, 2 * Math.PI);
      context.moveTo(x - 6, y);
      context.lineTo(x + 6, y);
      context.moveTo(x, y - 6);
      context.lineTo(x, y + 6);
    });
  }

  /** @param {CanvasRenderingContext2D} context */
  drawOver(context) {
    this.drawChanges(context);
    const { detector } = this.store.state;
    const { calibration } = this.session.info;
    const { scaleX, scaleY } = this.panel.frame;
    if (calibration?.optical_axis) {
      const [y, x] = this.panel.toScreen(calibration.optical_axis[0], calibration.optical_axis[1]);
      context.strokeStyle = "rgb(255 255 255 / 75%)";
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x - 5, y);
      context.lineTo(x + 5, y);
      context.moveTo(x, y - 5);
      context.lineTo(x, y + 5);
      context.stroke();
      if (calibration.disc_radius && !detector) {
        context.setLineDash([3, 4]);
        context.beginPath();
        const radius = calibration.disc_radius * scaleX;
        context.ellipse(x, y, radius, radius, 0, 0, 2 * Math.PI);
        context.stroke();
        context.setLineDash([]);
      }
    }
    if (!detector) return;
    const [y, x] = this.panel.toScreen(detector.y, detector.x);
    const aspect = this.session.info.aspect ?? 1;
    const outer = detector.outer * scaleX;
    const inner = detector.inner * scaleX;
    strokeTwice(context, MARKS.line, () => {
      if (detector.shape === "point") {
        context.rect(x - scaleX / 2 - 2, y - scaleY / 2 - 2, scaleX + 4, scaleY + 4);
      } else if (detector.shape === "rectangle") {
        const half = (detector.inner / aspect) * scaleY;
        context.rect(x - outer, y - half, 2 * outer, 2 * half);
      } else if (detector.shape === "wedge") {
        const [start, stop] = [detector.start, detector.stop].map((angle) => (-angle * Math.PI) / 180);
        context.arc(x, y, outer, start, stop, true);
        context.arc(x, y, inner, stop, start, false);
        context.closePath();
      } else {
        context.arc(x, y, outer, 0, 2 * Math.PI);
        if (detector.shape === "annulus") {
          context.moveTo(x + inner, y);
          context.arc(x, y, inner, 0, 2 * Math.PI);
        }
      }
    });
    context.fillStyle = MARKS.line;
    const edge = detector.shape === "point" ? [] : [[0, outer]];
    if (detector.shape === "annulus" || detector.shape === "wedge") edge.push([0, inner]);
    if (detector.shape !== "wedge") for (const [dy, dx] of edge) context.fillRect(x + dx - 4, y + dy - 4, 8, 8);
    writeOn(context, describeDetector(detector, calibration, aspect), 6, Math.max(this.panel.frame.left, 0) + 6);
  }
}
