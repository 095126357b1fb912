// Polygons, lines, rectangles and virtual detectors in an image.
import { formatNumber } from "./numbers.js";

/** @typedef {[number, number]} Point a place (y, x) */

/**
 * Whether a point lies in a polygon, by the number of its sides that a ray to the right crosses.
 * @param {number} y
 * @param {number} x
 * @param {Point[]} corners
 */
export function insidePolygon(y, x, corners) {
  let inside = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [y1, x1] = corners[i];
    const [y0, x0] = corners[j];
    if (y0 > y !== y1 > y && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) inside = !inside;
  }
  return inside;
}

/**
 * A freehand line with fewer corners: those closer than a distance to the one before are left out.
 * @param {Point[]} points
 * @param {number} apart
 * @returns {Point[]}
 */
export function thinLine(points, apart) {
  /** @type {Point[]} */
  const kept = [];
  for (const point of points) {
    const last = kept[kept.length - 1];
    if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) >= apart) kept.push(point);
  }
  return kept;
}

/**
 * Places of pixels with those that the pointer has passed added or taken out.
 * @param {Point[]} painted
 * @param {{y: number, x: number}} from
 * @param {{y: number, x: number}} to
 * @param {[number, number]} shape of the image
 * @param {boolean} isAdded
 * @returns {Point[]}
 */
export function paintPixels(painted, from, to, shape, isAdded) {
  const passed = new Map(painted.map((pixel) => [pixel.join(), pixel]));
  const n = Math.ceil(2 * Math.max(Math.abs(to.y - from.y), Math.abs(to.x - from.x))) + 1;
  for (let i = 1; i <= n; i++) {
    const y = Math.round(from.y + ((to.y - from.y) * i) / n);
    const x = Math.round(from.x + ((to.x - from.x) * i) / n);
    if (y < 0 || x < 0 || y >= shape[0] || x >= shape[1]) continue;
    if (isAdded) passed.set(`${y},${x}`, [y, x]);
    else passed.delete(`${y},${x}`);
  }
  return [...passed.values()];
}

/**
 * Mean values of an image along a line of some width, at steps of about a pixel.
 * @param {Float32Array} values
 * @param {number} rows
 * @param {number} columns
 * @param {Point} from
 * @param {Point} to
 * @param {number} width in pixels
 * @returns {{at: number[], mean: number[]}} distances from the start in pixels, and means; NaN outside of the image
 */
export function profileAlong(values, rows, columns, from, to, width) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const n = Math.max(2, Math.ceil(length) + 1);
  const across = [(to[1] - from[1]) / (length || 1), -(to[0] - from[0]) / (length || 1)];
  const nAcross = Math.max(1, Math.round(width));
  const at = [];
  const mean = [];
  for (let i = 0; i < n; i++) {
    const share = i / (n - 1);
    let sum = 0;
    let count = 0;
    for (let k = 0; k < nAcross; k++) {
      const beside = nAcross > 1 ? k - (nAcross - 1) / 2 : 0;
      const v = interpolate(
        values,
        rows,
        columns,
        from[0] + share * (to[0] - from[0]) + beside * across[0],
        from[1] + share * (to[1] - from[1]) + beside * across[1],
      );
      if (Number.isFinite(v)) {
        sum += v;
        count++;
      }
    }
    at.push(share * length);
    mean.push(count ? sum / count : NaN);
  }
  return { at, mean };
}

/**
 * @param {Float32Array} values
 * @param {number} rows
 * @param {number} columns
 * @param {number} y
 * @param {number} x
 */
function interpolate(values, rows, columns, y, x) {
  if (y < -0.5 || x < -0.5 || y > rows - 0.5 || x > columns - 0.5) return NaN;
  const top = Math.min(Math.max(Math.floor(y), 0), Math.max(rows - 2, 0));
  const left = Math.min(Math.max(Math.floor(x), 0), Math.max(columns - 2, 0));
  const down = Math.min(Math.max(y - top, 0), 1);
  const right = Math.min(Math.max(x - left, 0), 1);
  const below = Math.min(top + 1, rows - 1);
  const beside = Math.min(left + 1, columns - 1);
  return (
    (1 - down) * ((1 - right) * values[top * columns + left] + right * values[top * columns + beside]) +
    down * ((1 - right) * values[below * columns + left] + right * values[below * columns + beside])
  );
}

/**
 * Shape of a virtual detector in words, in mrad where a pixel is known, and how far off the axis it lies.
 * @param {import("./store.js").Detector} detector
 * @param {{pixel_size?: Point | null, optical_axis?: Point | null} | null | undefined} calibration
 * @param {number} aspect height of a pixel divided by its width
 */
export function describeDetector(detector, calibration, aspect) {
  const pixel = calibration?.pixel_size?.[1];
  const unit = pixel ? "mrad" : "px";
  const size = (/** @type {number} */ pixels) => formatNumber(pixels * (pixel || 1), 3);
  const { shape, inner, outer, start, stop } = detector;
  const axis = calibration?.optical_axis;
  const away = axis ? Math.hypot((detector.y - axis[0]) * aspect, detector.x - axis[1]) : 0;
  const words = [];
  if (shape === "disc") words.push(`up to ${size(outer)} ${unit}`);
  else if (shape === "rectangle") words.push(`${size(2 * inner)} × ${size(2 * outer)} ${unit}`);
  else if (shape !== "point") words.push(`${size(inner)} to ${size(outer)} ${unit}`);
  if (shape === "wedge") words.push(`${formatNumber(start)}° to ${formatNumber(stop)}°`);
  if (axis && (away >= 0.5 || shape === "point")) words.push(`${size(away)} ${unit} off axis`);
  return words.join(", ");
}
