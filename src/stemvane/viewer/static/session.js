// One scan as the page knows it: what the server says of it, and what has been fetched.
import { AnswerError } from "./transport.js";

/** @typedef {import("./wire.js").Coded} Coded */
/** @typedef {import("./wire.js").Message} Message */
/** @typedef {import("./store.js").Detector} Detector */
/** @typedef {import("./store.js").Selection} Selection */
/** @typedef {import("./transport.js").Transport} Transport */

/**
 * @typedef {object} MapEntry
 * @property {string} name
 * @property {string} title
 * @property {string} group
 * @property {string} unit
 * @property {string} kind
 * @property {number} period
 * @property {boolean} varies from position to position
 */

/**
 * What is selected, as the server answers.
 * @typedef {object} Chosen
 * @property {Coded} mask
 * @property {number} n
 * @property {number} nUsed
 * @property {boolean} settled whether it is drawn to its end
 * @property {Coded | null} plain
 * @property {Coded | null} rotated
 */

const MOST_MAPS = 24;

export class Session {
  /**
   * @param {Transport} transport
   * @param {number} number of the scene
   * @param {(text: string) => void} report takes errors in words
   */
  constructor(transport, number, report) {
    this.transport = transport;
    this.number = number;
    this.report = report;
    /** @type {Record<string, any>} */
    this.info = {};
    /** @type {Map<string, Promise<Message>>} */
    this.maps = new Map();
    /** @type {Coded[]} */
    this.latents = [];
  }

  /**
   * Ask something; an error is reported and gives null.
   * @param {string} question
   * @param {object} [values]
   * @param {import("./transport.js").AskOptions} [options]
   * @returns {Promise<Message | null>}
   */
  async ask(question, values = {}, options = {}) {
    try {
      return await this.transport.ask(question, values, { ...options, scene: this.number });
    } catch (error) {
      if (options.signal?.aborted) return null;
      this.report(error instanceof AnswerError ? error.message : `the page failed: ${error}`);
      return null;
    }
  }

  /** Learn what there is. @returns {Promise<boolean>} */
  async load() {
    const message = await this.ask("scene");
    if (!message) return false;
    this.info = message.header;
    this.maps.clear();
    return true;
  }

  /** Fetch the latents of all positions, once. @returns {Promise<boolean>} whether there are new ones */
  async loadLatents() {
    if (!this.info.n_latent || this.latents.length) return false;
    const latents = await this.ask("latents");
    if (latents) this.latents = Object.values(latents.arrays);
    return Boolean(latents);
  }

  /** @param {string} name @returns {MapEntry | undefined} */
  entry(name) {
    return this.info.maps?.find((/** @type {MapEntry} */ each) => each.name === name);
  }

  /**
   * A map; those shown last are kept.
   * @param {string} name
   * @returns {Promise<Message | null>}
   */
  async map(name) {
    let found = this.maps.get(name);
    if (!found) {
      found = this.transport.ask("map", { name }, { scene: this.number });
      this.maps.set(name, found);
      if (this.maps.size > MOST_MAPS) this.maps.delete(this.maps.keys().next().value ?? "");
    }
    try {
      return await found;
    } catch (error) {
      this.maps.delete(name);
      this.report(error instanceof Error ? error.message : String(error));
      return null;
    }
  }

  /** @returns {[number, number]} */
  get scanShape() {
    return this.info.scan_shape ?? [1, 1];
  }

  /** @returns {[number, number]} */
  get detectorShape() {
    return this.info.detector_shape ?? [1, 1];
  }
}
