// The state of the page: what is shown, selected and dragged. Everything in it stands in the address.

/** @typedef {import("./geometry.js").Point} Point */

/**
 * @typedef {object} Detector
 * @property {string} shape
 * @property {number} y
 * @property {number} x
 * @property {number} inner
 * @property {number} outer
 * @property {number} start
 * @property {number} stop
 * @property {string} signal
 */

/**
 * @typedef {object} Selection
 * @property {string} kind rectangle, lasso, range, class or points
 * @property {string} [space] scan or latents
 * @property {Point[]} [points]
 * @property {number[]} [axes]
 * @property {string} [map]
 * @property {number} [low]
 * @property {number} [high]
 * @property {number} [value]
 */

/**
 * What another run is to do otherwise.
 * @typedef {object} Changes
 * @property {Point | null} axis
 * @property {number | null} radius
 * @property {Point[]} pixels that are bad
 * @property {Selection[]} positions that are left out
 * @property {Point[]} painted positions that are left out
 */

/**
 * @typedef {object} Brush
 * @property {"pixels" | "painted"} on pixels of the pattern, or positions on the map
 * @property {boolean} adds or erases
 */

/**
 * @typedef {object} State
 * @property {string} map name of a map, or DETECTOR_MAP
 * @property {Point} cursor scan position
 * @property {string} tool of the map: cursor, rectangle, lasso, line or pan
 * @property {string} pattern what the pattern panel shows: cursor, mean or rotated
 * @property {Detector | null} detector
 * @property {Selection | null} selection
 * @property {string} mapScale
 * @property {string} patternScale
 * @property {string} patternContrast full, or disc: that of the pixels within the bright-field disc
 * @property {Record<string, string>} palettes chosen palette by kind of map
 * @property {Record<string, [number, number]>} contrast chosen contrast by map; of patterns where it is locked
 * @property {number[]} axes latents along x and y of the learned space
 * @property {number[] | null} decodeAt latents that are decoded; null for those under the cursor
 * @property {number} angle of what is decoded, degrees
 * @property {[Point, Point] | null} line of the profile
 * @property {number} lineWidth
 * @property {string} lowerLeft tab below the map
 * @property {string} lowerRight tab below the learned space
 * @property {number | null} defect number of the chosen defect
 * @property {Brush | null} brush what pressing on a panel paints
 * @property {Changes} changes for another run
 */

/** Name of the map that the dragged detector gives. */
export const DETECTOR_MAP = "@detector";

/** @returns {State} */
export function initialState() {
  return {
    map: "",
    cursor: [0, 0],
    tool: "cursor",
    pattern: "cursor",
    detector: null,
    selection: null,
    mapScale: "linear",
    patternScale: "sqrt",
    patternContrast: "full",
    palettes: {},
    contrast: {},
    axes: [0, 1],
    decodeAt: null,
    angle: 0,
    line: null,
    lineWidth: 1,
    lowerLeft: "histogram",
    lowerRight: "decoded",
    defect: null,
    brush: null,
    changes: { axis: null, radius: null, pixels: [], positions: [], painted: [] },
  };
}

// changes of these can be undone
const UNDOABLE = ["map", "detector", "selection", "contrast", "line", "mapScale", "patternScale", "palettes", "changes"];
const MOST_UNDONE = 100;

/** Holds the state, tells listeners of changes, undoes them, and writes them into the address. */
export class Store {
  /** @param {Partial<State>} start */
  constructor(start) {
    /** @type {State} */
    this.state = { ...initialState(), ...start };
    /** @type {Set<(state: State, changed: Set<string>) => void>} */
    this.listeners = new Set();
    /** @type {Partial<State>[]} */
    this.past = [];
    this.lastKey = "";
    this.lastTime = 0;
  }

  /** @param {(state: State, changed: Set<string>) => void} listener */
  subscribe(listener) {
    this.listeners.add(listener);
  }

  /**
   * Change some values.
   * @param {Partial<State>} changes
   * @param {boolean} [remember] whether it can be undone
   */
  set(changes, remember = true) {
    /** @type {Set<string>} */
    const changed = new Set();
    /** @type {Partial<State>} */
    const before = {};
    for (const [name, value] of Object.entries(changes)) {
      const key = /** @type {keyof State} */ (name);
      if (JSON.stringify(this.state[key]) === JSON.stringify(value)) continue;
      changed.add(name);
      if (UNDOABLE.includes(name)) /** @type {any} */ (before)[key] = this.state[key];
    }
    if (!changed.size) return;
    const key = Object.keys(before).sort().join();
    // a drag is one step, however many places it passes
    const isNewStep = key !== this.lastKey || Date.now() - this.lastTime > 800;
    if (key && remember && isNewStep) this.past = [...this.past, before].slice(-MOST_UNDONE);
    if (key) [this.lastKey, this.lastTime] = [key, Date.now()];
    this.state = { ...this.state, ...changes };
    for (const listener of this.listeners) listener(this.state, changed);
  }

  /** Let the next change be a step of its own, as after a drag. */
  settle() {
    this.lastKey = "";
  }

  /** Take back the last step. @returns {Partial<State> | undefined} what was set back */
  undo() {
    const before = this.past.pop();
    if (before) this.set(before, false);
    this.settle();
    return before;
  }
}

/**
 * The part of a state that differs from the initial one, for the address.
 * @param {State} state
 */
export function stateToHash(state) {
  /** @type {any} */
  const start = initialState();
  const entries = Object.entries(state).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(start[name]));
  const round = (/** @type {string} */ _, /** @type {any} */ v) => (typeof v === "number" ? Number(v.toPrecision(7)) : v);
  return entries.length ? `#${encodeURIComponent(JSON.stringify(Object.fromEntries(entries), round))}` : "";
}

/**
 * Read what `stateToHash` wrote; what is of another type than it should be is left out.
 * @param {string} hash
 * @returns {Partial<State>}
 */
export function stateFromHash(hash) {
  /** @type {any} */
  let read;
  try {
    read = JSON.parse(decodeURIComponent(hash.replace(/^#/, "")) || "{}");
  } catch {
    return {};
  }
  if (!read || typeof read !== "object") return {};
  /** @type {any} */
  const state = {};
  for (const [name, usual] of Object.entries(initialState())) {
    const value = read[name];
    if (value === undefined) continue;
    const same = Array.isArray(usual) ? Array.isArray(value) && value.length === usual.length : typeof value === typeof usual;
    if (usual === null ? value !== null : same) state[name] = value;
  }
  if (state.cursor && !state.cursor.every(Number.isInteger)) delete state.cursor;
  if (state.detector && ![..."yx", "inner", "outer", "start", "stop"].every((name) => Number.isFinite(state.detector[name]))) delete state.detector;
  return state;
}
