// Numbers: how they are written, percentiles, and the Fourier transform of a map.

/** @typedef {import("./wire.js").Coded} Coded */

/**
 * A number with few digits and a true minus sign.
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function formatNumber(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (size >= 1e5 || size < 1e-3) {
    const [mantissa, power] = value.toExponential(digits - 2).split("e");
    const raised = [...String(Number(power))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)] ?? "⁻").join("");
    text = `${mantissa} × 10${raised}`;
  } else {
    text = String(Number(value.toPrecision(digits)));
  }
  return text.replace(/-/g, "−");
}

/**
 * The number beside a tick, with as many digits as tell it from the next one.
 * @param {number} value
 * @param {number} step from tick to tick
 */
export function formatTick(value, step) {
  if (Math.abs(value) < step / 1e6) return "0";
  return formatNumber(value, Math.min(Math.max(Math.ceil(Math.log10(Math.abs(value) / step)) + 1, 2), 9));
}

/**
 * A length on a scale bar; long ones in nanometres.
 * @param {number} length
 * @param {string} unit
 */
export function formatLength(length, unit) {
  if (unit === "Å" && length >= 100) return `${formatNumber(length / 10)} nm`;
  return `${formatNumber(length)} ${unit || "px"}`;
}

/**
 * Largest of 1, 2, 5 times a power of ten that does not exceed a positive value.
 * @param {number} value
 */
export function niceNumber(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [5, 2]) if (step * power <= value * (1 + 1e-9)) return step * power;
  return power;
}

/**
 * Values below which given shares of an array lie.
 * @param {Coded} array
 * @param {number[]} shares
 * @returns {number[]} NaN where the array has no value
 */
export function percentilesOf(array, shares) {
  const counts = new Uint32Array(array.missing);
  let n = 0;
  for (const code of array.codes) {
    if (code !== array.missing) {
      counts[code]++;
      n++;
    }
  }
  return shares.map((share) => {
    if (!n) return NaN;
    let rest = share * (n - 1);
    for (let code = 0; code < counts.length; code++) {
      rest -= counts[code];
      if (rest < 0) return array.low + array.step * code;
    }
    return array.low + array.step * (counts.length - 1);
  });
}

/**
 * Numbers of values in equal classes.
 * @param {Coded} array
 * @param {number} low
 * @param {number} high
 * @param {number} n
 */
export function histogramOf(array, low, high, n) {
  const counts = new Uint32Array(n);
  const scale = high > low ? n / (high - low) : 0;
  for (const code of array.codes) {
    if (code === array.missing) continue;
    const place = Math.floor((array.low + array.step * code - low) * scale);
    if (place >= 0 && place <= n) counts[Math.min(place, n - 1)]++;
  }
  return counts;
}

/** Mean of the finite values. @param {Float32Array} values */
function meanOf(values) {
  let sum = 0;
  let count = 0;
  for (const v of values) {
    if (Number.isFinite(v)) {
      sum += v;
      count++;
    }
  }
  return count ? sum / count : 0;
}

/**
 * Fourier transform in place, of a length that is a power of two.
 * @param {Float64Array} re
 * @param {Float64Array} im
 */
export function fourierTransform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    const angle = (-2 * Math.PI) / size;
    for (let k = 0; k < size / 2; k++) {
      const c = Math.cos(angle * k);
      const s = Math.sin(angle * k);
      for (let at = k; at < n; at += size) {
        const other = at + size / 2;
        const a = re[other] * c - im[other] * s;
        const b = re[other] * s + im[other] * c;
        re[other] = re[at] - a;
        im[other] = im[at] - b;
        re[at] += a;
        im[at] += b;
      }
    }
  }
}

/**
 * Modulus of the Fourier transform of a map, its mean removed and its edges faded by Hann windows, padded to powers of
 * two, with the zero frequency in the middle.
 * @param {Float32Array} values NaN counts as the mean
 * @param {number} rows
 * @param {number} columns
 * @param {Float32Array} [imaginary] part of values that are complex numbers, as directions are
 * @returns {{modulus: Float32Array, rows: number, columns: number}}
 */
export function spectrumOf(values, rows, columns, imaginary) {
  const mean = meanOf(values);
  const meanImaginary = imaginary ? meanOf(imaginary) : 0;
  const height = 2 ** Math.ceil(Math.log2(Math.max(2, rows)));
  const width = 2 ** Math.ceil(Math.log2(Math.max(2, columns)));
  const hann = (/** @type {number} */ i, /** @type {number} */ n) =>
    n < 3 ? 1 : 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / n);
  const re = Array.from({ length: height }, () => new Float64Array(width));
  const im = Array.from({ length: height }, () => new Float64Array(width));
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const v = values[y * columns + x];
      const window = Number.isFinite(v) ? hann(y, rows) * hann(x, columns) : 0;
      re[y][x] = window ? (v - mean) * window : 0;
      im[y][x] = window && imaginary ? (imaginary[y * columns + x] - meanImaginary) * window : 0;
    }
    fourierTransform(re[y], im[y]);
  }
  const modulus = new Float32Array(height * width);
  const lineRe = new Float64Array(height);
  const lineIm = new Float64Array(height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      lineRe[y] = re[y][x];
      lineIm[y] = im[y][x];
    }
    fourierTransform(lineRe, lineIm);
    for (let y = 0; y < height; y++) {
      const row = (y + height / 2) % height;
      const column = (x + width / 2) % width;
      modulus[row * width + column] = Math.hypot(lineRe[y], lineIm[y]);
    }
  }
  return { modulus, rows: height, columns: width };
}
