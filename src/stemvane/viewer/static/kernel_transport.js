// Questions as messages to a notebook's kernel.
import { AnswerError, checkMessage } from "./transport.js";
import { readMessage } from "./wire.js";

/** @typedef {import("./transport.js").Transport} Transport */
/** @typedef {import("./transport.js").AskOptions} AskOptions */
/** @typedef {import("./wire.js").Message} Message */

/**
 * What anywidget hands over.
 * @typedef {object} WidgetModel
 * @property {(content: any) => void} send
 * @property {(event: string, listener: (content: any, buffers: DataView[]) => void) => void} on
 * @property {(event: string, listener: (content: any, buffers: DataView[]) => void) => void} off
 */

/** @implements {Transport} */
export class KernelTransport {
  /** @param {WidgetModel} model */
  constructor(model) {
    this.model = model;
    this.last = 0;
    /** @type {Map<number, (message: Message | Error, isLast: boolean) => void>} */
    this.waiting = new Map();
    this.take = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
      const take = this.waiting.get(content?.id);
      if (!take || !buffers?.length) return;
      const view = buffers[0];
      const bytes = /** @type {ArrayBuffer} */ (view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
      take(readMessage(bytes), content.last);
    };
    model.on("msg:custom", this.take);
  }

  /**
   * @param {string} question
   * @param {object} [values]
   * @param {AskOptions} [options]
   * @returns {Promise<Message>}
   */
  ask(question, values = {}, options = {}) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      const end = (/** @type {() => void} */ then) => {
        this.waiting.delete(id);
        then();
      };
      options.signal?.addEventListener("abort", () => {
        this.model.send({ id, stop: true });
        end(() => reject(new AnswerError("stopped")));
      });
      this.waiting.set(id, (message, isLast) => {
        try {
          const checked = checkMessage(/** @type {Message} */ (message), options);
          if (isLast) end(() => resolve(checked));
        } catch (error) {
          end(() => reject(error));
        }
      });
      this.model.send({ id, scene: options.scene ?? 0, question, values });
    });
  }

  /** Listen no more. */
  close() {
    this.model.off("msg:custom", this.take);
    this.waiting.clear();
  }
}
