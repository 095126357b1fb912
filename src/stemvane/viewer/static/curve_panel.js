// Curves: the histogram, whose ends set the contrast, and the profile along a line.
import { element, oncePerFrame } from "./dom.js";
import { formatTick, histogramOf, niceNumber, percentilesOf } from "./numbers.js";

/** @typedef {import("./wire.js").Coded} Coded */

const MARGIN = { left: 58, right: 18, top: 10, bottom: 34 };

/** A canvas with axes. */
export class CurvePanel {
  /** @param {string} label */
  constructor(label) {
    this.canvas = element("canvas", { role: "img", "aria-label": label, tabindex: "0" });
    this.message = element("p", { class: "panel-message" });
    this.stage = element("div", { class: "stage plain" }, [this.canvas, this.message]);
    this.root = element("div", { class: "image-panel" }, [this.stage]);
    this.schedule = oncePerFrame(() => this.repaint());
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  /** Draw in the next frame. */
  draw() {
    this.schedule();
  }

  repaint() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.stage.clientWidth * ratio);
    this.canvas.height = Math.round(this.stage.clientHeight * ratio);
    const context = this.canvas.getContext("2d");
    if (!context || !this.stage.clientWidth) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paint(context);
  }

  /** @param {CanvasRenderingContext2D} context */
  paint(context) {
    context.clearRect(0, 0, this.stage.clientWidth, this.stage.clientHeight);
  }

  get frame() {
    return {
      width: Math.max(this.stage.clientWidth - MARGIN.left - MARGIN.right, 1),
      height: Math.max(this.stage.clientHeight - MARGIN.top - MARGIN.bottom, 1),
    };
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {{x: [number, number], y: [number, number] | null, labelX: string, labelY: string}} axes
   */
  paintAxes(context, { x, y, labelX, labelY }) {
    const style = getComputedStyle(this.root);
    const { width, height } = this.frame;
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--text");
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 1;
    context.strokeRect(MARGIN.left + 0.5, MARGIN.top + 0.5, width - 1, height - 1);
    context.textAlign = "center";
    const step = niceNumber((x[1] - x[0] || 1) / Math.max(width / 90, 1));
    for (let v = Math.ceil(x[0] / step) * step; v <= x[1]; v += step) {
      const at = MARGIN.left + ((v - x[0]) / (x[1] - x[0] || 1)) * width;
      context.fillRect(at, MARGIN.top + height, 1, 4);
      context.fillText(formatTick(v, step), at, MARGIN.top + height + 16);
    }
    context.fillText(labelX, MARGIN.left + width / 2, MARGIN.top + height + 31);
    if (y) {
      context.textAlign = "right";
      const stepY = niceNumber((y[1] - y[0] || 1) / 3);
      for (let v = Math.ceil(y[0] / stepY) * stepY; v <= y[1]; v += stepY) {
        const at = MARGIN.top + (1 - (v - y[0]) / (y[1] - y[0] || 1)) * height;
        context.fillRect(MARGIN.left - 4, at, 4, 1);
        context.fillText(formatTick(v, stepY), MARGIN.left - 6, at + 4);
      }
    }
    context.save();
    context.translate(11, MARGIN.top + height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(labelY, 0, 0);
    context.restore();
  }
}

/** Histogram of the map; its two ends are dragged to set the contrast, the middle to select a range. */
export class HistogramPanel extends CurvePanel {
  /** @param {{onContrast: (low: number, high: number) => void, onRange: (low: number, high: number, settled: boolean) => void}} hooks */
  constructor(hooks) {
    super("Histogram of the map; drag its ends to set the contrast, with Shift to select a range of values");
    this.hooks = hooks;
    /** @type {Coded | null} */
    this.array = null;
    this.unit = "";
    /** @type {[number, number]} */
    this.ends = [0, 1];
    /** @type {[number, number]} */
    this.range = [0, 1];
    this.held = "";
    this.from = 0;
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    this.canvas.addEventListener("pointerup", (event) => {
      if (this.held === "range") this.hooks.onRange(...this.between(this.valueAt(event)), true);
      this.held = "";
    });
  }

  /**
   * @param {Coded} array
   * @param {[number, number]} ends
   * @param {string} unit
   */
  show(array, ends, unit) {
    if (array !== this.array) {
      const [low, high] = percentilesOf(array, [0, 1]);
      this.range = high > low ? [low, high] : [low, low + 1];
      this.counts = histogramOf(array, this.range[0], this.range[1], 160);
    }
    this.array = array;
    this.ends = ends;
    this.unit = unit;
    this.draw();
  }

  /** @param {PointerEvent} event */
  valueAt(event) {
    const box = this.stage.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / this.frame.width;
    return this.range[0] + Math.min(Math.max(share, 0), 1) * (this.range[1] - this.range[0]);
  }

  /** @param {number} value @returns {[number, number]} */
  between(value) {
    return [Math.min(value, this.from), Math.max(value, this.from)];
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (!this.array) return;
    this.canvas.setPointerCapture(event.pointerId);
    const value = this.valueAt(event);
    this.from = value;
    if (event.shiftKey) this.held = "range";
    else this.held = Math.abs(value - this.ends[0]) < Math.abs(value - this.ends[1]) ? "low" : "high";
    this.drag(event);
  }

  /** @param {PointerEvent} event */
  drag(event) {
    if (!this.held) return;
    const value = this.valueAt(event);
    const least = (this.range[1] - this.range[0]) / 500;
    if (this.held === "range") this.hooks.onRange(...this.between(value), false);
    else if (this.held === "low") this.hooks.onContrast(Math.min(value, this.ends[1] - least), this.ends[1]);
    else this.hooks.onContrast(this.ends[0], Math.max(value, this.ends[0] + least));
  }

  /** @param {CanvasRenderingContext2D} context */
  paint(context) {
    super.paint(context);
    if (!this.array || !this.counts) return;
    const { width, height } = this.frame;
    const style = getComputedStyle(this.root);
    const most = Math.log1p(Math.max(...this.counts));
    context.fillStyle = style.getPropertyValue("--accent");
    this.counts.forEach((count, i) => {
      const tall = most ? (Math.log1p(count) / most) * (height - 4) : 0;
      const n = this.counts?.length ?? 1;
      context.fillRect(MARGIN.left + (i / n) * width, MARGIN.top + height - tall, width / n + 0.5, tall);
    });
    for (const [i, end] of this.ends.entries()) {
      const share = (end - this.range[0]) / (this.range[1] - this.range[0]);
      const x = MARGIN.left + Math.min(Math.max(share, 0), 1) * width;
      context.fillStyle = "rgb(127 127 127 / 25%)";
      if (i) context.fillRect(x, MARGIN.top, MARGIN.left + width - x, height);
      else context.fillRect(MARGIN.left, MARGIN.top, x - MARGIN.left, height);
      context.fillStyle = style.getPropertyValue("--text");
      context.fillRect(x - 1, MARGIN.top, 2, height);
      context.fillRect(x - 4, MARGIN.top + height / 2 - 10, 8, 20);
    }
    this.paintAxes(context, { x: this.range, y: null, labelX: this.unit || "value", labelY: "positions, log" });
  }
}

/** Mean values along a line. */
export class ProfilePanel extends CurvePanel {
  constructor() {
    super("Profile along the line");
    /** @type {{at: number[], mean: number[]} | null} */
    this.profile = null;
    this.unit = "";
    this.lengthUnit = "px";
  }

  /**
   * @param {{at: number[], mean: number[]} | null} profile
   * @param {string} unit
   * @param {string} lengthUnit
   */
  show(profile, unit, lengthUnit) {
    this.profile = profile;
    this.unit = unit;
    this.lengthUnit = lengthUnit;
    this.message.textContent = profile ? "" : "Choose “Line” above the map and draw one.";
    this.draw();
  }

  /** @param {CanvasRenderingContext2D} context */
  paint(context) {
    super.paint(context);
    if (!this.profile) return;
    const { at, mean } = this.profile;
    const finite = mean.filter(Number.isFinite);
    if (!finite.length) return;
    let [low, high] = [Math.min(...finite), Math.max(...finite)];
    const room = 0.05 * (high - low) || Math.abs(low) || 1;
    [low, high] = [low - room, high + room];
    const { width, height } = this.frame;
    const end = at[at.length - 1] || 1;
    context.beginPath();
    let pen = false;
    mean.forEach((v, i) => {
      const x = MARGIN.left + (at[i] / end) * width;
      const y = MARGIN.top + (1 - (v - low) / (high - low)) * height;
      if (!Number.isFinite(v)) pen = false;
      else if (pen) context.lineTo(x, y);
      else {
        context.moveTo(x, y);
        pen = true;
      }
    });
    context.strokeStyle = getComputedStyle(this.root).getPropertyValue("--accent");
    context.lineWidth = 2;
    context.stroke();
    this.paintAxes(context, { x: [0, end], y: [low, high], labelX: `distance (${this.lengthUnit})`, labelY: this.unit || "value" });
  }
}
