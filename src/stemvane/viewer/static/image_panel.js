// A canvas that shows one image: zoom, pan, colours, scale bar, colour bar, and whatever is drawn on top.
import { element, oncePerFrame } from "./dom.js";
import { formatLength, formatNumber, niceNumber } from "./numbers.js";
import { colorImage, paletteTable, unscaled } from "./raster.js";

/** @typedef {import("./wire.js").Coded} Coded */
/** @typedef {import("./raster.js").Coloring} Coloring */
/** @typedef {import("./geometry.js").Point} Point */

/**
 * @typedef {object} PointerPlace
 * @property {number} y in pixels of the image; the centre of the first is 0
 * @property {number} x
 * @property {number} size screen pixels of one pixel of the image, along x
 * @property {PointerEvent} event
 */

/**
 * @typedef {object} PanelOptions
 * @property {string} label for screen readers
 * @property {(place: PointerPlace) => boolean} [onPress] true where it takes the drag; otherwise the image is panned
 * @property {(place: PointerPlace) => void} [onDrag]
 * @property {(place: PointerPlace | null) => void} [onRelease]
 * @property {(place: PointerPlace | null) => void} [onHover]
 * @property {(context: CanvasRenderingContext2D, panel: ImagePanel) => void} [drawOver]
 */

export class ImagePanel {
  /** @param {PanelOptions} options */
  constructor(options) {
    this.options = options;
    this.canvas = element("canvas", { role: "img", "aria-label": options.label, tabindex: "0" });
    this.bar = element("canvas", { class: "bar", "aria-hidden": "true" });
    this.barLow = element("span");
    this.barHigh = element("span");
    this.barUnit = element("span", { class: "unit" });
    this.barRow = element("div", { class: "bar-row" }, [this.barLow, this.bar, this.barHigh, this.barUnit]);
    this.message = element("p", { class: "panel-message", role: "status" });
    this.stage = element("div", { class: "stage" }, [this.canvas, this.message]);
    this.root = element("div", { class: "image-panel" }, [this.stage, this.barRow]);
    /** @type {Coded | null} */
    this.array = null;
    /** @type {Coded | undefined} */
    this.strength = undefined;
    /** @type {Coloring | null} */
    this.coloring = null;
    /** @type {ImageData | undefined} */
    this.pixels = undefined;
    this.buffer = document.createElement("canvas");
    this.aspect = 1; // height of a pixel over its width
    this.stepX = 0; // length of a pixel along x, for the scale bar; 0 where it is unknown
    this.stepUnit = "";
    this.hasScaleBar = true;
    this.zoom = 1;
    /** @type {Point} shift of the image on the screen (y, x), in parts of the fitted image's size */
    this.shift = [0, 0];
    this.drawn = 0;
    this.schedule = oncePerFrame(() => this.paint());
    this.stale = false;
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    this.dragging = "";
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  /**
   * Show an array.
   * @param {Coded} array
   * @param {Coloring} coloring
   * @param {Coded} [strength]
   */
  show(array, coloring, strength) {
    this.array = array;
    this.strength = strength;
    this.coloring = coloring;
    this.stale = true;
    this.say("");
    this.draw();
  }

  /** Show a sentence in place of the image. @param {string} text */
  say(text) {
    this.message.textContent = text;
    if (text) {
      this.array = null;
      this.draw();
    }
  }

  /** Rows and columns of the image. @returns {[number, number]} */
  get size() {
    const shape = this.array?.shape ?? [1, 1];
    return [shape[shape.length - 2], shape[shape.length - 1]];
  }

  /** Where the image lies on the canvas, in CSS pixels. */
  get frame() {
    const [rows, columns] = this.size;
    const width = this.stage.clientWidth;
    const height = this.stage.clientHeight;
    const fit = Math.min(width / columns, height / (rows * this.aspect)) * this.zoom;
    return {
      scaleX: fit,
      scaleY: fit * this.aspect,
      left: width / 2 - (columns * fit) / 2 + this.shift[1] * columns * fit,
      top: height / 2 - (rows * fit * this.aspect) / 2 + this.shift[0] * rows * fit * this.aspect,
      width,
      height,
    };
  }

  /** Place on the canvas of a place in the image. @param {number} y @param {number} x @returns {Point} */
  toScreen(y, x) {
    const { scaleX, scaleY, left, top } = this.frame;
    return [top + (y + 0.5) * scaleY, left + (x + 0.5) * scaleX];
  }

  /** @param {PointerEvent | WheelEvent} event @returns {Point} */
  toImage(event) {
    const box = this.stage.getBoundingClientRect();
    const { scaleX, scaleY, left, top } = this.frame;
    return [(event.clientY - box.top - top) / scaleY - 0.5, (event.clientX - box.left - left) / scaleX - 0.5];
  }

  /** Draw in the next frame. */
  draw() {
    this.schedule();
  }

  paint() {
    const { canvas } = this;
    const { width, height, scaleX, scaleY, left, top } = this.frame;
    const ratio = window.devicePixelRatio || 1;
    const [pixelWidth, pixelHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== pixelWidth || canvas.height !== pixelHeight) {
      canvas.width = pixelWidth;
      canvas.height = pixelHeight;
    }
    const context = canvas.getContext("2d");
    if (!context || !width) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.barRow.hidden = !this.array;
    if (!this.array || !this.coloring) return;
    if (this.stale) {
      this.pixels = colorImage(this.array, this.coloring, this.strength, this.pixels);
      this.buffer.width = this.pixels.width;
      this.buffer.height = this.pixels.height;
      this.buffer.getContext("2d")?.putImageData(this.pixels, 0, 0);
      this.stale = false;
      this.paintBar();
    }
    const [rows, columns] = this.size;
    context.imageSmoothingEnabled = false;
    context.fillStyle = getComputedStyle(this.root).getPropertyValue("--missing") || "#999";
    context.fillRect(left, top, columns * scaleX, rows * scaleY);
    context.drawImage(this.buffer, left, top, columns * scaleX, rows * scaleY);
    this.options.drawOver?.(context, this);
    if (this.hasScaleBar) this.paintScaleBar(context);
    this.drawn++;
  }

  /**
   * Cover painted pixels.
   * @param {CanvasRenderingContext2D} context
   * @param {[number, number][]} pixels
   */
  fillPixels(context, pixels) {
    const { scaleX, scaleY } = this.frame;
    context.fillStyle = "rgb(255 40 40 / 75%)";
    for (const pixel of pixels) {
      const [y, x] = this.toScreen(...pixel);
      context.fillRect(x - scaleX / 2, y - scaleY / 2, scaleX, scaleY);
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  paintScaleBar(context) {
    const { scaleX, left, top, width, height } = this.frame;
    const [rows, columns] = this.size;
    const step = this.stepX || 1;
    const shown = Math.min(columns * scaleX, width);
    const length = niceNumber(((0.3 * shown) / scaleX) * step);
    const pixels = (length / step) * scaleX;
    const text = formatLength(length, this.stepUnit);
    const y = Math.min(top + rows * this.frame.scaleY, height) - 12;
    const x = Math.max(left, 0) + 10;
    context.font = "600 12px system-ui, sans-serif";
    const wide = Math.max(pixels, context.measureText(text).width) + 12;
    context.fillStyle = "rgb(0 0 0 / 55%)";
    context.fillRect(x - 6, y - 20, wide, 27);
    context.fillStyle = "#fff";
    context.fillRect(x, y, pixels, 3);
    context.fillText(text, x, y - 6);
  }

  paintBar() {
    const { coloring, array } = this;
    if (!coloring || !array) return;
    const isWheel = coloring.kind === "angle" || coloring.kind === "vector";
    this.barRow.classList.toggle("wheel", isWheel);
    this.barRow.classList.toggle("hidden-bar", coloring.kind === "class");
    const table = paletteTable(coloring.palette);
    const side = isWheel ? 44 : 0;
    this.bar.width = isWheel ? side : 256;
    this.bar.height = isWheel ? side : 1;
    const context = this.bar.getContext("2d");
    if (!context) return;
    const image = new ImageData(this.bar.width, this.bar.height);
    const pixels = new Uint32Array(image.data.buffer);
    if (isWheel) {
      const period = coloring.period ?? 2 * Math.PI;
      for (let i = 0; i < pixels.length; i++) {
        const up = (side - 1) / 2 - Math.floor(i / side);
        const right = (i % side) - (side - 1) / 2;
        const radius = Math.hypot(up, right) / (side / 2);
        if (radius > 1 || (coloring.kind === "angle" && radius < 0.45)) continue;
        const turns = Math.atan2(up, right) / period + 0.5;
        const color = table[Math.floor((turns - Math.floor(turns)) * 256) & 255];
        const weight = coloring.kind === "vector" ? radius : 1;
        const part = (/** @type {number} */ shift) => Math.round(((color >> shift) & 255) * weight) << shift;
        pixels[i] = (0xff000000 | part(16) | part(8) | part(0)) >>> 0;
      }
    } else {
      pixels.set(table);
    }
    context.putImageData(image, 0, 0);
    const unit = this.strength ? this.strength.unit : array.unit;
    if (isWheel) {
      this.barLow.textContent = "";
      this.barHigh.textContent = coloring.kind === "vector" ? `up to ${formatNumber(coloring.high, 3)}` : "direction";
      this.barUnit.textContent = coloring.kind === "vector" ? unit : "";
    } else {
      this.barLow.textContent = formatNumber(unscaled(0, coloring), 3);
      this.barHigh.textContent = formatNumber(coloring.high, 3);
      this.barUnit.textContent = unit;
    }
  }

  /** Show the whole image again. */
  fit() {
    this.zoom = 1;
    this.shift = [0, 0];
    this.draw();
  }

  /**
   * Zoom about a place of the canvas.
   * @param {number} factor
   * @param {number} clientX
   * @param {number} clientY
   */
  zoomAbout(factor, clientX, clientY) {
    const box = this.stage.getBoundingClientRect();
    const { left, top, scaleX, scaleY } = this.frame;
    const [rows, columns] = this.size;
    const zoom = Math.min(Math.max(this.zoom * factor, 1), 80);
    const used = zoom / this.zoom;
    const x = clientX - box.left;
    const y = clientY - box.top;
    const newLeft = x - (x - left) * used;
    const newTop = y - (y - top) * used;
    this.zoom = zoom;
    const [width, height] = [columns * scaleX * used, rows * scaleY * used];
    this.shift =
      zoom === 1 ? [0, 0] : [(newTop - box.height / 2) / height + 0.5, (newLeft - box.width / 2) / width + 0.5];
    this.draw();
  }

  listen() {
    const { canvas, options } = this;
    const place = (/** @type {PointerEvent} */ event) => {
      const [y, x] = this.toImage(event);
      return { y, x, size: this.frame.scaleX, event };
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.array) return;
      this.pointers.set(event.pointerId, event);
      canvas.setPointerCapture(event.pointerId);
      if (this.pointers.size > 1) {
        if (this.dragging === "tool") options.onRelease?.(null);
        this.dragging = "pinch";
        return;
      }
      const taken = event.button === 0 && options.onPress?.(place(event));
      this.dragging = taken ? "tool" : "pan";
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.array) return;
      const before = this.pointers.get(event.pointerId);
      if (!before) {
        options.onHover?.(place(event));
        return;
      }
      if (this.dragging === "tool") options.onDrag?.(place(event));
      else if (this.dragging === "pan") this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
      else if (this.dragging === "pinch" && this.pointers.size === 2) {
        const other = [...this.pointers.values()].find((each) => each.pointerId !== event.pointerId);
        if (other) {
          const apart = (/** @type {PointerEvent} */ each) =>
            Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY) || 1;
          const middle = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
          this.zoomAbout(apart(event) / apart(before), middle[0], middle[1]);
          this.pan((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
        }
      }
      this.pointers.set(event.pointerId, event);
    });
    const end = (/** @type {PointerEvent} */ event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      if (this.dragging === "tool") options.onRelease?.(place(event));
      if (!this.pointers.size) this.dragging = "";
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => options.onHover?.(null));
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomAbout(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX, event.clientY);
      },
      { passive: false },
    );
  }

  /** @param {number} dx @param {number} dy in CSS pixels */
  pan(dx, dy) {
    if (this.zoom === 1) return;
    const { scaleX, scaleY } = this.frame;
    const [rows, columns] = this.size;
    this.shift = [this.shift[0] + dy / (rows * scaleY), this.shift[1] + dx / (columns * scaleX)];
    this.draw();
  }
}
