// Messages of the server: a header in JSON, then arrays as codes of 8 or 16 bits.

/**
 * An array as codes; a value is `low + step * code`, and the largest code is a missing value.
 * @typedef {object} Coded
 * @property {Uint8Array | Uint16Array} codes
 * @property {number[]} shape
 * @property {number} low
 * @property {number} step
 * @property {string} unit
 * @property {number} missing the code of a missing value
 */

/**
 * @typedef {object} Message
 * @property {Record<string, any>} header
 * @property {Record<string, Coded>} arrays
 */

/**
 * Read one message.
 * @param {ArrayBuffer} buffer
 * @param {number} [start] first byte
 * @returns {Message}
 */
export function readMessage(buffer, start = 0) {
  const length = new DataView(buffer).getUint32(start, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, start + 4, length)));
  /** @type {Record<string, Coded>} */
  const arrays = {};
  for (const entry of header.arrays) {
    const count = entry.shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
    const at = start + 4 + length + entry.offset;
    const codes =
      entry.bits === 8
        ? new Uint8Array(buffer, at, count)
        : at % 2
          ? new Uint16Array(buffer.slice(at, at + 2 * count))
          : new Uint16Array(buffer, at, count);
    const missing = entry.bits === 8 ? 255 : 65535;
    arrays[entry.name] = { codes, shape: entry.shape, low: entry.low, step: entry.step, unit: entry.unit, missing };
  }
  return { header, arrays };
}

/**
 * Value of an entry; NaN where it is missing.
 * @param {Coded} array
 * @param {number} index
 */
export function valueAt(array, index) {
  const code = array.codes[index];
  return code === undefined || code === array.missing ? NaN : array.low + array.step * code;
}

/**
 * All values; NaN where they are missing.
 * @param {Coded} array
 * @returns {Float32Array}
 */
export function valuesOf(array) {
  const { codes, low, step, missing } = array;
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) values[i] = codes[i] === missing ? NaN : low + step * codes[i];
  return values;
}

/**
 * An array of values as codes, for arrays that the page computes itself.
 * @param {ArrayLike<number>} values
 * @param {number[]} shape
 * @param {string} unit
 * @returns {Coded}
 */
export function codeValues(values, shape, unit) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const v = values[i];
    if (v < low) low = v;
    if (v > high) high = v;
  }
  const step = high > low ? (high - low) / 65534 : 1;
  const codes = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    codes[i] = Number.isFinite(values[i]) ? Math.round((values[i] - low) / step) : 65535;
  }
  return { codes, shape, low: Number.isFinite(low) ? low : 0, step, unit, missing: 65535 };
}
