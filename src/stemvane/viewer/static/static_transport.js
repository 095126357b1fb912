// Questions answered from what a report carries: maps, some patterns, the grid of decoded ones.
import { insidePolygon } from "./geometry.js";
import { AnswerError } from "./transport.js";
import { codeValues, valueAt, valuesOf } from "./wire.js";

/** @typedef {import("./transport.js").Transport} Transport */
/** @typedef {import("./wire.js").Message} Message */
/** @typedef {import("./wire.js").Coded} Coded */

/** @implements {Transport} */
export class StaticTransport {
  /** @param {Record<string, Message>} answers by question; of maps by `map:` and their name */
  constructor(answers) {
    this.answers = answers;
  }

  /**
   * @param {string} question
   * @param {any} [values]
   * @returns {Promise<Message>}
   */
  async ask(question, values = {}) {
    const ready = this.answers[question === "map" ? `map:${values.name}` : question];
    if (ready) return ready;
    if (question === "pattern") return this.pattern(values.y, values.x);
    if (question === "decode") return this.decode(values.latents, values.angle);
    if (question === "select") return this.select(values.selection);
    throw new AnswerError("a report does not answer that; open the run: stemvane view");
  }

  /** The nearest of the patterns that the report carries. @param {number} y @param {number} x @returns {Message} */
  pattern(y, x) {
    const { header, arrays } = this.answers.patterns;
    let best = 0;
    header.positions.forEach((/** @type {[number, number]} */ [py, px], /** @type {number} */ i) => {
      const [by, bx] = header.positions[best];
      if (Math.hypot(py - y, px - x) < Math.hypot(by - y, bx - x)) best = i;
    });
    return { header: { source: "report" }, arrays: { pattern: slice(arrays.patterns, best) } };
  }

  /**
   * Between the patterns of the grid, rotated.
   * @param {number[]} latents
   * @param {number} angle in rad
   * @returns {Message}
   */
  decode(latents, angle) {
    const { header, arrays } = this.answers.manifold;
    const grid = arrays.manifold;
    const [rows, columns, height, width] = grid.shape;
    /** @type {number[][][]} */
    const at = header.latents;
    const place = (/** @type {number} */ v, /** @type {number} */ from, /** @type {number} */ to, /** @type {number} */ n) =>
      n > 1 && to !== from ? Math.min(Math.max(((v - from) / (to - from)) * (n - 1), 0), n - 1) : 0;
    const column = place(latents[0] ?? 0, at[0][0][0], at[0][columns - 1][0], columns);
    const row = place(latents[1] ?? 0, at[0][0][1], at[rows - 1][0][1], rows);
    const values = new Float32Array(height * width);
    for (const [r, shareR] of shares(row, rows)) {
      for (const [c, shareC] of shares(column, columns)) {
        const part = valuesOf(slice({ ...grid, shape: [rows * columns, height, width] }, r * columns + c));
        for (let i = 0; i < values.length; i++) values[i] += shareR * shareC * part[i];
      }
    }
    const axis = this.answers.scene.header.calibration.optical_axis ?? [(height - 1) / 2, (width - 1) / 2];
    const upright = rotateImage(values, height, width, axis, angle);
    return { header: {}, arrays: { decoded: codeValues(upright, [height, width], "relative") } };
  }

  /** @param {any} selection @returns {Message} */
  select(selection) {
    const [rows, columns] = this.answers.scene.header.scan_shape;
    const codes = new Uint8Array(rows * columns);
    const latents = Object.values(this.answers.latents?.arrays ?? {});
    const shown = this.answers[`map:${selection.map}`]?.arrays;
    const points = selection.points ?? [];
    const [ys, xs] = [0, 1].map((k) => points.map((/** @type {[number, number]} */ p) => p[k]));
    for (let i = 0; i < codes.length; i++) {
      let [y, x] = [Math.floor(i / columns), i % columns];
      let inside = false;
      if (selection.kind === "range") {
        const v = valueAt(shown.strength ?? shown.values, i);
        inside = v >= selection.low && v <= selection.high;
      } else if (selection.kind === "points") {
        inside = points.some((/** @type {[number, number]} */ p) => p[0] === y && p[1] === x);
      } else {
        if (selection.space === "latents") {
          [y, x] = [valueAt(latents[selection.axes[1]], i), valueAt(latents[selection.axes[0]], i)];
        }
        inside =
          selection.kind === "lasso"
            ? insidePolygon(y, x, points)
            : y >= Math.min(...ys) && y <= Math.max(...ys) && x >= Math.min(...xs) && x <= Math.max(...xs);
      }
      codes[i] = Number(inside);
    }
    /** @type {Record<string, Coded>} */
    const arrays = { mask: { codes, shape: [rows, columns], low: 0, step: 1, unit: "", missing: 255 } };
    const { header, arrays: carried } = this.answers.patterns;
    /** @type {number[]} */
    const members = [];
    header.positions.forEach((/** @type {[number, number]} */ [y, x], /** @type {number} */ i) => codes[y * columns + x] && members.push(i));
    if (members.length) {
      const first = slice(carried.patterns, members[0]);
      const mean = new Float32Array(first.codes.length);
      for (const member of members) {
        valuesOf(slice(carried.patterns, member)).forEach((v, i) => (mean[i] += v / members.length));
      }
      arrays.plain = codeValues(mean, first.shape, first.unit);
    }
    return { header: { n: codes.reduce((a, b) => a + b, 0), n_used: members.length }, arrays };
  }
}

/** @param {number} place @param {number} n @returns {[number, number][]} neighbours and their shares */
function shares(place, n) {
  const low = Math.min(Math.floor(place), n - 1);
  const rest = place - low;
  return rest > 0 ? [[low, 1 - rest], [low + 1, rest]] : [[low, 1]];
}

/** One image of a stack. @param {Coded} stack @param {number} index @returns {Coded} */
function slice(stack, index) {
  const [height, width] = stack.shape.slice(-2);
  const size = height * width;
  return { ...stack, codes: stack.codes.subarray(index * size, (index + 1) * size), shape: [height, width] };
}

/**
 * A pattern rotated counter-clockwise about the optical axis.
 * @param {Float32Array} values @param {number} height @param {number} width @param {[number, number]} axis @param {number} angle
 */
function rotateImage(values, height, width, axis, angle) {
  const result = new Float32Array(values.length);
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [down, right] = [y - axis[0], x - axis[1]];
      const fromY = axis[0] + c * down + s * right;
      const fromX = axis[1] - s * down + c * right;
      const top = Math.floor(fromY);
      const left = Math.floor(fromX);
      const at = (/** @type {number} */ r, /** @type {number} */ k) => (r >= 0 && k >= 0 && r < height && k < width ? values[r * width + k] : NaN);
      const [v, u] = [fromY - top, fromX - left];
      result[y * width + x] =
        (1 - v) * ((1 - u) * at(top, left) + (u ? u * at(top, left + 1) : 0)) +
        (v ? v * ((1 - u) * at(top + 1, left) + (u ? u * at(top + 1, left + 1) : 0)) : 0);
    }
  }
  return result;
}
