// From codes to colours.
import { PALETTE_CODES } from "./palette_codes.js";
import { percentilesOf } from "./numbers.js";

/** @typedef {import("./wire.js").Coded} Coded */

/**
 * How an image is coloured.
 * @typedef {object} Coloring
 * @property {string} kind image, scalar, signed, angle, vector or class
 * @property {string} palette
 * @property {string} scale linear, sqrt or log
 * @property {number} low
 * @property {number} high
 * @property {number} [period] of angles, in rad
 */

export const SCALES = ["linear", "sqrt", "log"];
/** Palettes that a user may choose for images and scalars. */
export const PALETTES = ["grayC", "batlow", "viridis", "cividis", "inferno"];
// Okabe and Ito's colours, which colour-blind people can tell apart
const CLASS_COLORS = ["#888888", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];

/** @type {Map<string, Uint32Array>} */
const TABLES = new Map();

/**
 * Table of a palette: opaque colours as little-endian RGBA.
 * @param {string} name
 */
export function paletteTable(name) {
  let table = TABLES.get(name);
  if (!table) {
    const text = PALETTE_CODES[name] ?? PALETTE_CODES.grayC;
    table = new Uint32Array(256);
    for (let i = 0; i < 256; i++) {
      const rgb = parseInt(text.slice(6 * i, 6 * i + 6), 16);
      table[i] = (255 << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
    }
    TABLES.set(name, table);
  }
  return table;
}

/** Palette of a kind of map, where the user has not chosen one. @param {string} kind */
export function usualPalette(kind) {
  if (kind === "signed") return "vik";
  if (kind === "angle" || kind === "vector") return "romaO";
  return kind === "scalar" ? "batlow" : "grayC";
}

/**
 * Contrast that leaves out a share of outliers; symmetric for quantities with a sign.
 * @param {Coded} array
 * @param {string} kind
 * @returns {[number, number]}
 */
export function usualContrast(array, kind) {
  if (kind === "vector") return [0, percentilesOf(array, [0.995])[0] || 1];
  const [low, high] = percentilesOf(array, [0.002, 0.998]);
  if (!Number.isFinite(low)) return [0, 1];
  if (kind === "signed") {
    const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return [-size, size];
  }
  return high > low ? [low, high] : [low, low + (Math.abs(low) || 1) * 1e-6];
}

/**
 * Place of a value on the colour scale, 0 to 1.
 * @param {number} value
 * @param {Coloring} coloring
 */
export function scaled(value, coloring) {
  const { low, high, scale } = coloring;
  let place = (value - low) / (high - low || 1);
  if (scale === "sqrt") place = Math.sqrt(Math.max(place, 0));
  if (scale === "log") {
    const floor = Math.max(low, high * 1e-4);
    place = value > floor ? Math.log(value / floor) / Math.log(high / floor || Math.E) : 0;
  }
  return Math.min(Math.max(place, 0), 1);
}

/**
 * Value at a place of the colour scale.
 * @param {number} place
 * @param {Coloring} coloring
 */
export function unscaled(place, coloring) {
  const { low, high, scale } = coloring;
  if (scale === "sqrt") return low + place ** 2 * (high - low);
  if (scale === "log") {
    const floor = Math.max(low, high * 1e-4);
    return floor * (high / floor) ** place;
  }
  return low + place * (high - low);
}

/**
 * Colour of every code of an array.
 * @param {Coded} array
 * @param {Coloring} coloring
 */
function colorsOfCodes(array, coloring) {
  const n = array.missing + 1;
  const colors = new Uint32Array(n);
  const table = paletteTable(coloring.palette);
  if (coloring.kind === "class") {
    for (let code = 0; code < n; code++) {
      const value = Math.round(array.low + array.step * code);
      colors[code] = value < 0 ? 0 : hexColor(CLASS_COLORS[value % CLASS_COLORS.length]);
    }
  } else if (coloring.kind === "angle" || coloring.kind === "vector") {
    const period = coloring.period ?? 2 * Math.PI;
    for (let code = 0; code < n; code++) {
      const turns = (array.low + array.step * code) / period + 0.5;
      colors[code] = table[Math.floor((turns - Math.floor(turns)) * 256) & 255];
    }
  } else {
    for (let code = 0; code < n; code++) {
      colors[code] = table[Math.min(255, Math.floor(scaled(array.low + array.step * code, coloring) * 256))];
    }
  }
  // what is missing lets the panel's ground show through
  colors[array.missing] = 0;
  return colors;
}

/** @param {string} text as #rrggbb */
function hexColor(text) {
  const rgb = parseInt(text.slice(1), 16);
  return ((255 << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

/**
 * Colour an array.
 * @param {Coded} array of two axes
 * @param {Coloring} coloring
 * @param {Coded} [strength] of vectors: where it is low, colours are dark
 * @param {ImageData} [reuse] of the same size
 * @returns {ImageData}
 */
export function colorImage(array, coloring, strength, reuse) {
  const [rows, columns] = array.shape.slice(-2);
  const image = reuse && reuse.width === columns && reuse.height === rows ? reuse : new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const colors = colorsOfCodes(array, coloring);
  const { codes } = array;
  if (!strength) {
    for (let i = 0; i < codes.length; i++) pixels[i] = colors[codes[i]];
    return image;
  }
  const weights = new Float32Array(strength.missing + 1);
  for (let code = 0; code < weights.length; code++) {
    weights[code] = scaled(strength.low + strength.step * code, coloring);
  }
  weights[strength.missing] = 0;
  for (let i = 0; i < codes.length; i++) {
    const color = colors[codes[i]];
    const weight = weights[strength.codes[i]];
    const red = (color & 255) * weight;
    const green = ((color >> 8) & 255) * weight;
    const blue = ((color >> 16) & 255) * weight;
    pixels[i] = (color & 0xff000000) | (blue << 16) | (green << 8) | red;
  }
  return image;
}
