// The viewer within a report.
import { StaticTransport } from "./static_transport.js";
import { Viewer } from "./viewer.js";
import { readMessage } from "./wire.js";

/**
 * Read what the report carries: compressed messages, each after its length.
 * @param {string} text in base 64
 * @returns {Promise<Record<string, import("./wire.js").Message>>}
 */
export async function readAnswers(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  /** @type {Record<string, import("./wire.js").Message>} */
  const answers = {};
  for (let at = 0; at < bytes.byteLength; ) {
    const length = new DataView(bytes).getUint32(at, true);
    const message = readMessage(bytes.slice(at + 4, at + 4 + length));
    answers[message.header.answer] = message;
    at += 4 + length;
  }
  return answers;
}

/** Show the viewer where the report has a place for it. */
export async function showReport() {
  const root = document.getElementById("viewer");
  const carried = document.getElementById("answers");
  if (!root || !carried) return;
  const viewer = new Viewer(root, new StaticTransport(await readAnswers(carried.textContent ?? "")), { inPage: true });
  Object.assign(window, { viewer });
  await viewer.start();
}
