// A panel as a figure: SVG at the width of a journal's column, or PNG of it at 600 dots per inch.
import { formatLength, formatNumber, niceNumber } from "./numbers.js";
import { unscaled } from "./raster.js";

/** @typedef {import("./image_panel.js").ImagePanel} ImagePanel */

const WIDTH = 88; // mm, one column
const FONT = 2.5; // mm, 7 points
const DOTS = 600;

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/**
 * The whole image of a panel, with scale bar and colour bar.
 * @param {ImagePanel} panel
 */
export function panelSvg(panel) {
  const [rows, columns] = panel.size;
  const height = (WIDTH * rows * panel.aspect) / columns;
  const { coloring } = panel;
  const step = panel.stepX || 1;
  const length = niceNumber(0.3 * columns * step);
  const bar = ((length / step) * WIDTH) / columns;
  const text = (/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ words, anchor = "start", fill = "#000") =>
    `<text x="${x.toFixed(2)}" y="${y.toFixed(2)}" text-anchor="${anchor}" fill="${fill}">${escaped(words)}</text>`;
  const isWheel = coloring?.kind === "angle" || coloring?.kind === "vector";
  const foot = isWheel ? 14 : 8;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}mm" height="${(height + foot).toFixed(2)}mm" viewBox="0 0 ${WIDTH} ${(height + foot).toFixed(2)}" font-family="DejaVu Sans, Arial, sans-serif" font-size="${FONT}">`,
    `<rect width="${WIDTH}" height="${(height + foot).toFixed(2)}" fill="#fff"/>`,
    `<image x="0" y="0" width="${WIDTH}" height="${height.toFixed(2)}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${panel.buffer.toDataURL("image/png")}"/>`,
    `<rect x="2" y="${(height - 7).toFixed(2)}" width="${(Math.max(bar, 12) + 3).toFixed(2)}" height="5.5" fill="#000" fill-opacity="0.55"/>`,
    `<rect x="3.5" y="${(height - 3.2).toFixed(2)}" width="${bar.toFixed(2)}" height="0.8" fill="#fff"/>`,
    text(3.5, height - 4, formatLength(length, panel.stepUnit), "start", "#fff"),
  ];
  if (coloring && coloring.kind !== "class") {
    const unit = panel.strength ? panel.strength.unit : (panel.array?.unit ?? "");
    const address = panel.bar.toDataURL("image/png");
    if (isWheel) {
      parts.push(`<image x="${WIDTH - 13}" y="${(height + 1).toFixed(2)}" width="12" height="12" href="${address}"/>`);
      const words = coloring.kind === "vector" ? `direction; brightness up to ${formatNumber(coloring.high, 3)} ${unit}` : "direction";
      parts.push(text(WIDTH - 15, height + 8, words, "end"));
    } else {
      const low = formatNumber(unscaled(0, coloring), 3);
      parts.push(`<image x="14" y="${(height + 1.5).toFixed(2)}" width="${WIDTH - 50}" height="2.5" preserveAspectRatio="none" href="${address}"/>`);
      parts.push(text(13, height + 3.7, low, "end"));
      parts.push(text(WIDTH - 35, height + 3.7, `${formatNumber(coloring.high, 3)} ${unit}${coloring.scale === "linear" ? "" : ` (${coloring.scale})`}`));
    }
  }
  return [...parts, "</svg>"].join("\n");
}

/**
 * The same as PNG.
 * @param {ImagePanel} panel
 * @returns {Promise<Blob>}
 */
export async function panelPng(panel) {
  const image = new Image();
  const address = URL.createObjectURL(new Blob([panelSvg(panel)], { type: "image/svg+xml" }));
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("the picture cannot be drawn"));
    image.src = address;
  });
  const canvas = document.createElement("canvas");
  canvas.width = Math.round((WIDTH / 25.4) * DOTS);
  canvas.height = Math.round((canvas.width * image.height) / image.width);
  const context = canvas.getContext("2d");
  if (context) {
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
  }
  URL.revokeObjectURL(address);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture cannot be written"))), "image/png"),
  );
}
