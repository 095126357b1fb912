// How questions reach the server: over HTTP, or as messages of a notebook's kernel.
import { readMessage } from "./wire.js";

/** @typedef {import("./wire.js").Message} Message */

/**
 * @typedef {object} AskOptions
 * @property {number} [scene]
 * @property {AbortSignal} [signal]
 * @property {(share: number) => void} [onProgress]
 */

/**
 * Something that answers questions.
 * @typedef {object} Transport
 * @property {(question: string, values?: object, options?: AskOptions) => Promise<Message>} ask
 */

/** What the server refuses, in words for the user. */
export class AnswerError extends Error {}

/**
 * Take a message that may be an error or tell of progress.
 * @param {Message} message
 * @param {AskOptions} options
 */
export function checkMessage(message, options) {
  if (message.header.error) throw new AnswerError(message.header.error);
  const share = message.header.progress;
  if (typeof share === "number" && options.onProgress) options.onProgress(share);
  return message;
}

/** Questions over HTTP, by addresses relative to the page. @implements {Transport} */
export class HttpTransport {
  /**
   * @param {string} question
   * @param {object} [values]
   * @param {AskOptions} [options]
   * @returns {Promise<Message>}
   */
  async ask(question, values = {}, options = {}) {
    let response;
    try {
      response = await fetch(`api/${options.scene ?? 0}/${question}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(values),
        signal: options.signal,
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new AnswerError("the server does not answer; start it again: stemvane view");
    }
    if (!response.ok || !response.body) throw new AnswerError((await response.text()) || response.statusText);
    const reader = response.body.getReader();
    let bytes = new Uint8Array(0);
    /** @type {Message | undefined} */
    let last;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const joined = new Uint8Array(bytes.length + value.length);
      joined.set(bytes);
      joined.set(value, bytes.length);
      bytes = joined;
      for (;;) {
        if (bytes.length < 4) break;
        const length = new DataView(bytes.buffer).getUint32(0, true);
        if (bytes.length < 4 + length) break;
        last = checkMessage(readMessage(bytes.buffer.slice(4, 4 + length)), options);
        bytes = bytes.slice(4 + length);
      }
    }
    if (!last) throw new AnswerError("the answer was cut short; try again");
    return last;
  }
}

/**
 * Call a function with the newest value only: while it works, values replace one another.
 * @template T
 * @param {(value: T) => Promise<void>} work
 * @returns {(value: T) => void}
 */
export function latestOnly(work) {
  let busy = false;
  /** @type {{value: T} | null} */
  let waiting = null;
  const run = async () => {
    busy = true;
    while (waiting) {
      const { value } = waiting;
      waiting = null;
      await work(value);
    }
    busy = false;
  };
  return (value) => {
    waiting = { value };
    if (!busy) void run();
  };
}
