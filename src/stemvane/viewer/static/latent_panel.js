// The learned space: every position of the scan at its latents, coloured as on the map.
import { element, oncePerFrame } from "./dom.js";
import { thinLine } from "./geometry.js";
import { MARKS, strokeTwice } from "./map_panel.js";
import { formatTick, niceNumber } from "./numbers.js";
import { valuesOf } from "./wire.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./session.js").Chosen} Chosen */
/** @typedef {import("./geometry.js").Point} Point */

// little-endian RGBA: what is selected, and what is not
const CHOSEN = 0xff3fd2ff;
const REST = 0x50282c33;
const MARGIN = { left: 62, right: 10, top: 10, bottom: 38 };

export class LatentPanel {
  /**
   * @param {Session} session
   * @param {Store} store
   * @param {{onPoint: (latents: number[] | null, pin: boolean) => void, onSelect: (quick: boolean) => void}} hooks
   */
  constructor(session, store, hooks) {
    this.session = session;
    this.store = store;
    this.hooks = hooks;
    this.tool = "point";
    this.canvas = element("canvas", { role: "img", "aria-label": "Learned space: all positions by their latents", tabindex: "0" });
    this.message = element("p", { class: "panel-message", role: "status" });
    this.stage = element("div", { class: "stage plain" }, [this.canvas, this.message]);
    this.root = element("div", { class: "image-panel" }, [this.stage]);
    /** @type {Float32Array[]} */
    this.values = [];
    /** @type {[number, number, number, number]} lowest and highest of x, lowest and highest of y */
    this.range = [0, 1, 0, 1];
    /** @type {Uint32Array | null} */
    this.colors = null;
    /** @type {Chosen | null} */
    this.chosen = null;
    this.buffer = document.createElement("canvas");
    this.stale = true;
    this.schedule = oncePerFrame(() => this.paint());
    /** @type {Point | null} */
    this.start = null;
    /** @type {Point[]} */
    this.stroke = [];
    /** @type {PointerEvent | null} */
    this.panFrom = null;
    this.drawn = 0;
    this.listen();
    new ResizeObserver(() => this.refresh()).observe(this.stage);
  }

  /** Take over the latents. */
  adopt() {
    this.values = this.session.latents.map(valuesOf);
    this.message.textContent = this.values.length
      ? ""
      : this.session.info.has_angle
        ? "The model has no latents besides the angle."
        : "Nothing has been learned from this scan yet: stemvane run learns such a space.";
    this.fit();
  }

  /** Columns of values along x and y; one latent alone is spread along y by chance, always the same. */
  columns() {
    const [first, second] = this.store.state.axes;
    const x = this.values[first] ?? this.values[0];
    if (this.values.length > 1) return [x, this.values[second] ?? this.values[1]];
    if (!this.spread || this.spread.length !== x.length) {
      this.spread = new Float32Array(x.length);
      for (let i = 0, seed = 1; i < x.length; i++) {
        seed = (seed * 1664525 + 1013904223) % 4294967296;
        this.spread[i] = seed / 4294967296 - 0.5;
      }
    }
    return [x, this.spread];
  }

  /** Show all points. */
  fit() {
    if (!this.values.length) return this.refresh();
    const bounds = this.columns().flatMap((values) => {
      let low = Infinity;
      let high = -Infinity;
      for (const v of values) {
        if (v < low) low = v;
        if (v > high) high = v;
      }
      const room = 0.05 * (high - low) || 1;
      return [low - room, high + room];
    });
    this.range = /** @type {[number, number, number, number]} */ (bounds);
    this.refresh();
  }

  /** Draw the points again. */
  refresh() {
    this.stale = true;
    this.draw();
  }

  draw() {
    this.schedule();
  }

  get frame() {
    const width = this.stage.clientWidth - MARGIN.left - MARGIN.right;
    const height = this.stage.clientHeight - MARGIN.top - MARGIN.bottom;
    return { width: Math.max(width, 1), height: Math.max(height, 1) };
  }

  /** @param {number} x @param {number} y latents @returns {Point} (y, x) on the canvas */
  toScreen(x, y) {
    const { width, height } = this.frame;
    const [x0, x1, y0, y1] = this.range;
    return [MARGIN.top + ((y1 - y) / (y1 - y0)) * height, MARGIN.left + ((x - x0) / (x1 - x0)) * width];
  }

  /** @param {PointerEvent | WheelEvent} event @returns {Point} latents (y, x) */
  toData(event) {
    const box = this.stage.getBoundingClientRect();
    const { width, height } = this.frame;
    const [x0, x1, y0, y1] = this.range;
    const x = x0 + ((event.clientX - box.left - MARGIN.left) / width) * (x1 - x0);
    const y = y1 - ((event.clientY - box.top - MARGIN.top) / height) * (y1 - y0);
    return [y, x];
  }

  paintPoints() {
    const { width, height } = this.frame;
    const ratio = window.devicePixelRatio || 1;
    const columns = Math.round(width * ratio);
    const rows = Math.round(height * ratio);
    this.buffer.width = columns;
    this.buffer.height = rows;
    const [xs, ys] = this.columns();
    const [x0, x1, y0, y1] = this.range;
    const scaleX = columns / (x1 - x0);
    const scaleY = rows / (y1 - y0);
    const counts = new Uint16Array(columns * rows);
    const shown = new Uint32Array(columns * rows);
    const half = xs.length > 100_000 ? 0 : xs.length > 10_000 ? 1 : Math.round(1.5 * ratio);
    const mask = this.chosen?.n ? this.chosen.mask.codes : null;
    const { colors } = this;
    for (const pass of mask ? [0, 1] : [1]) {
      for (let i = 0; i < xs.length; i++) {
        if (mask && mask[i] !== pass) continue;
        const column = Math.floor((xs[i] - x0) * scaleX);
        const row = Math.floor((y1 - ys[i]) * scaleY);
        // NaN fails here, too
        if (!(column >= 0 && column < columns && row >= 0 && row < rows)) continue;
        const color = pass ? (mask ? CHOSEN : colors?.[i] || 0xff808080) : REST;
        for (let y = Math.max(row - half, 0); y <= Math.min(row + half, rows - 1); y++) {
          for (let x = Math.max(column - half, 0); x <= Math.min(column + half, columns - 1); x++) {
            const at = y * columns + x;
            shown[at] = color;
            if (counts[at] < 65535) counts[at]++;
          }
        }
      }
    }
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let at = 0; at < shown.length; at++) {
      if (!counts[at]) continue;
      // where points are rare, they are pale enough to show where they are many
      const opaque = shown[at] >>> 24 < 255 ? 80 : Math.min(255, 120 + 45 * Math.log2(counts[at] + 1));
      pixels[at] = ((shown[at] & 0xffffff) | (Math.round(opaque) << 24)) >>> 0;
    }
    this.buffer.getContext("2d")?.putImageData(image, 0, 0);
  }

  paint() {
    const { canvas, stage } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(stage.clientWidth * ratio);
    canvas.height = Math.round(stage.clientHeight * ratio);
    const context = canvas.getContext("2d");
    if (!context || !this.values.length || !stage.clientWidth) return;
    if (this.stale) this.paintPoints();
    this.stale = false;
    const style = getComputedStyle(this.root);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { width, height } = this.frame;
    // a middle ground, on which the dark and the bright end of every palette show
    context.fillStyle = style.getPropertyValue("--middle");
    context.fillRect(MARGIN.left, MARGIN.top, width, height);
    context.drawImage(this.buffer, MARGIN.left, MARGIN.top, width, height);
    this.paintAxes(context, style.getPropertyValue("--text"), style.getPropertyValue("--line"));
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, MARGIN.top, width, height);
    context.clip();
    const { state } = this.store;
    const { selection } = state;
    if (selection?.space === "latents" && selection.points) {
      const corners = selection.points.map(([y, x]) => this.toScreen(x, y));
      strokeTwice(context, MARKS.select, () => {
        corners.forEach(([y, x], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
        context.closePath();
      });
    }
    const at = state.cursor[0] * this.session.scanShape[1] + state.cursor[1];
    const [xs, ys] = this.columns();
    const [y, x] = this.toScreen(xs[at], ys[at]);
    if (Number.isFinite(x) && Number.isFinite(y)) {
      strokeTwice(context, MARKS.cursor, () => context.arc(x, y, 7, 0, 2 * Math.PI));
    }
    if (state.decodeAt && this.values.length > 1) {
      const [py, px] = this.toScreen(state.decodeAt[state.axes[0]], state.decodeAt[state.axes[1]]);
      strokeTwice(context, MARKS.line, () => {
        context.moveTo(px - 8, py);
        context.lineTo(px + 8, py);
        context.moveTo(px, py - 8);
        context.lineTo(px, py + 8);
      });
    }
    context.restore();
    this.drawn++;
  }

  /** @param {CanvasRenderingContext2D} context @param {string} text @param {string} line */
  paintAxes(context, text, line) {
    const { width, height } = this.frame;
    const [x0, x1, y0, y1] = this.range;
    context.strokeStyle = line;
    context.fillStyle = text;
    context.lineWidth = 1;
    context.strokeRect(MARGIN.left + 0.5, MARGIN.top + 0.5, width - 1, height - 1);
    context.font = "12px system-ui, sans-serif";
    const unit = this.session.info.latent_unit ? ` (${this.session.info.latent_unit})` : "";
    const [first, second] = this.store.state.axes;
    context.textAlign = "center";
    const stepX = niceNumber((x1 - x0) / Math.max(width / 80, 1));
    for (let v = Math.ceil(x0 / stepX) * stepX; v < x1; v += stepX) {
      const [, x] = this.toScreen(v, y0);
      context.fillRect(x, MARGIN.top + height, 1, 4);
      context.fillText(formatTick(v, stepX), x, MARGIN.top + height + 16);
    }
    context.fillText(`latent ${first + 1}${unit}`, MARGIN.left + width / 2, MARGIN.top + height + 32);
    if (this.values.length < 2) return;
    context.textAlign = "right";
    const stepY = niceNumber((y1 - y0) / Math.max(height / 60, 1));
    for (let v = Math.ceil(y0 / stepY) * stepY; v < y1; v += stepY) {
      const [y] = this.toScreen(x0, v);
      context.fillRect(MARGIN.left - 4, y, 4, 1);
      context.fillText(formatTick(v, stepY), MARGIN.left - 6, y + 4);
    }
    context.save();
    context.translate(12, MARGIN.top + height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(`latent ${second + 1}${unit}`, 0, 0);
    context.restore();
  }

  /**
   * Latents at a place of the panel; those that are not shown are 0.
   * @param {Point} place
   */
  latentsAt(place) {
    const [first, second] = this.store.state.axes;
    return this.values.map((_, k) => (k === first ? place[1] : k === second && this.values.length > 1 ? place[0] : 0));
  }

  /** Scan position whose latents are nearest on the screen. @param {Point} place @returns {Point | null} */
  nearest(place) {
    const [xs, ys] = this.columns();
    const { width, height } = this.frame;
    const [x0, x1, y0, y1] = this.range;
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < xs.length; i++) {
      const dx = ((xs[i] - place[1]) / (x1 - x0)) * width;
      const dy = ((ys[i] - place[0]) / (y1 - y0)) * height;
      const away = dx * dx + dy * dy;
      if (away < least) [least, best] = [away, i];
    }
    const columns = this.session.scanShape[1];
    return best < 0 ? null : [Math.floor(best / columns), best % columns];
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.values.length) return;
      canvas.setPointerCapture(event.pointerId);
      if (event.button !== 0) {
        this.panFrom = event;
        return;
      }
      this.start = this.toData(event);
      this.stroke = [this.start];
      if (this.tool === "point") {
        const cursor = this.nearest(this.start);
        this.hooks.onPoint(this.latentsAt(this.start), true);
        if (cursor) this.store.set({ cursor, pattern: "cursor", defect: null });
      }
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.values.length) return;
      const place = this.toData(event);
      if (this.panFrom) {
        const from = this.toData(this.panFrom);
        const [x0, x1, y0, y1] = this.range;
        const [dx, dy] = [from[1] - place[1], from[0] - place[0]];
        this.range = [x0 + dx, x1 + dx, y0 + dy, y1 + dy];
        this.panFrom = event;
        this.refresh();
      } else if (this.start && this.tool !== "point") {
        this.stretch(place);
        this.hooks.onSelect(true);
      } else {
        this.hooks.onPoint(this.latentsAt(place), Boolean(this.start));
      }
    });
    const end = () => {
      if (this.start && this.tool !== "point") {
        if (this.stroke.length < 3) this.store.set({ selection: null });
        this.hooks.onSelect(false);
      }
      this.start = null;
      this.panFrom = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => this.hooks.onPoint(null, false));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const factor = Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.0015));
        const [y, x] = this.toData(event);
        const [x0, x1, y0, y1] = this.range;
        this.range = [x + (x0 - x) * factor, x + (x1 - x) * factor, y + (y0 - y) * factor, y + (y1 - y) * factor];
        this.refresh();
      },
      { passive: false },
    );
  }

  /** Let the lasso reach a place; with a single latent it is a range. @param {Point} place */
  stretch(place) {
    if (!this.start) return;
    const { width } = this.frame;
    const [x0, x1, y0, y1] = this.range;
    if (this.values.length < 2) {
      const [low, high] = [Math.min(this.start[1], place[1]), Math.max(this.start[1], place[1])];
      this.stroke = [this.start, place, place];
      this.store.set({ selection: { kind: "range", map: "latent_1", low, high } });
      return;
    }
    // distances on the screen, so that a lasso has as many corners in any unit
    const [perX, perY] = [(x1 - x0) / width, (y1 - y0) / width];
    const flat = thinLine(
      [...this.stroke, place].map(([y, x]) => /** @type {Point} */ ([y / perY, x / perX])),
      3,
    );
    this.stroke = flat.map(([y, x]) => [y * perY, x * perX]);
    if (this.stroke.length > 2) {
      const points = this.stroke.slice(0, 2000);
      this.store.set({ selection: { kind: "lasso", space: "latents", points, axes: this.store.state.axes } });
    }
  }
}
