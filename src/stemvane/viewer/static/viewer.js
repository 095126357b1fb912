// The page: panels, what links them, and what each change asks of the server.
import { Companion } from "./companion.js";
import { button, element, saveFile } from "./dom.js";
import { profileAlong } from "./geometry.js";
import { listenToKeys } from "./keys.js";
import { Page } from "./page.js";
import { formatNumber, spectrumOf } from "./numbers.js";
import { adoptDetector, patternContrast } from "./pattern_panel.js";
import { PALETTES, usualContrast } from "./raster.js";
import { Session } from "./session.js";
import { changesList, defectsList, findingsList, labelsList } from "./side_lists.js";
import { panelPng, panelSvg } from "./exports.js";
import { DETECTOR_MAP, Store, stateToHash } from "./store.js";
import { latestOnly } from "./transport.js";
import { codeValues, valueAt, valuesOf } from "./wire.js";

/** @typedef {import("./transport.js").Transport} Transport */
/** @typedef {import("./session.js").Chosen} Chosen */
/** @typedef {import("./session.js").MapEntry} MapEntry */
/** @typedef {import("./wire.js").Coded} Coded */
/** @typedef {import("./image_panel.js").ImagePanel} ImagePanel */
/** @typedef {import("./image_panel.js").PointerPlace} PointerPlace */

const PALETTE_NAMES = /** @type {Record<string, string>} */ ({ grayC: "Grey", batlow: "Batlow", viridis: "Viridis", cividis: "Cividis", inferno: "Inferno" });

/**
 * Directions as arrows, whose parts can be averaged and transformed.
 * @param {Coded} angle
 * @param {Coded | undefined} strength their lengths; 1 where there is none
 * @param {number} period angles that differ by this are the same
 */
function arrowParts(angle, strength, period) {
  const angles = valuesOf(angle);
  const lengths = strength ? valuesOf(strength) : null;
  const of = (/** @type {(v: number) => number} */ part) =>
    angles.map((v, i) => (lengths ? lengths[i] : 1) * part((2 * Math.PI * v) / period));
  return { cos: of(Math.cos), sin: of(Math.sin) };
}

export class Viewer {
  /**
   * @param {HTMLElement} root
   * @param {Transport} transport
   * @param {{scene?: number, start?: Partial<import("./store.js").State>, inPage?: boolean}} [options]
   */
  constructor(root, transport, options = {}) {
    this.root = root;
    this.inPage = options.inPage ?? false;
    this.started = performance.now();
    this.session = new Session(transport, options.scene ?? 0, (text) => this.report(text));
    this.store = new Store(options.start ?? {});
    this.startState = options.start ?? {};
    /** @type {Chosen | null} */
    this.chosen = null;
    /** @type {{values: Coded, strength?: Coded, kind: string, exact: boolean} | null} */
    this.detectorSignal = null;
    /** @type {{values: Coded, strength?: Coded, entry: MapEntry} | null} */
    this.shown = null;
    /** @type {AbortController | null} */
    this.exactRun = null;
    /** @type {Coded | null} */
    this.pattern = null;
    /** timings in ms, for benchmarks */
    this.timings = { firstPicture: 0, patterns: /** @type {number[]} */ ([]), detectors: /** @type {number[]} */ ([]) };
    this.alertTimer = 0;
    this.hashTimer = 0;
    this.colorTimer = 0;
    this.shiftHeld = false;
    /** @type {Companion | null} */
    this.companion = null;
    this.stopped = false;
    this.busy = true;
    this.newest = "";
    this.lastMap = "";
    this.exactFor = "";
    /** @type {number[][][] | null} latents of the grid, and rows and columns of each pattern in it */
    this.gridLatents = null;
    /** @type {[number, number]} */
    this.gridShape = [1, 1];
    this.page = new Page(root, this);
    listenToKeys(this);
    this.store.subscribe((state, changed) => this.react(state, changed));
    this.askPattern = latestOnly((/** @type {null} */ _) => this.loadPattern());
    this.askDetector = latestOnly((/** @type {null} */ _) => this.loadDetector());
    this.askSelection = latestOnly((/** @type {boolean} */ quick) => this.loadSelection(quick));
    this.askDecoded = latestOnly((/** @type {number[] | null} */ latents) => this.loadDecoded(latents));
    this.askMap = latestOnly((/** @type {null} */ _) => this.loadMap());
  }

  /** Show something that went wrong. @param {string} text */
  report(text) {
    this.page.alert.textContent = text;
    this.page.alert.hidden = !text;
    clearTimeout(this.alertTimer);
    this.alertTimer = window.setTimeout(() => (this.page.alert.hidden = true), 12_000);
  }

  /** Say something that needs no attention. @param {string} text */
  say(text) {
    this.page.status.textContent = text;
  }

  /** Take back the last step. */
  undo() {
    const before = this.store.undo();
    if (before?.selection) this.askSelection(false);
    if (before?.detector) void this.loadExact();
    return Boolean(before);
  }

  /** Name of the map that a scan is shown with first, which is not the same everywhere. */
  usualMap() {
    const maps = /** @type {MapEntry[]} */ (this.session.info.maps);
    const varying = maps.filter((each) => each.varies);
    const names = (varying.length ? varying : maps).map((each) => each.name);
    return ["annular_dark_field", "com", "total"].find((name) => names.includes(name)) ?? names[0];
  }

  /** Load the scan and show it. */
  async start() {
    if (!(await this.session.load())) return;
    this.adopt();
    const { state } = this.store;
    const [rows, columns] = this.session.scanShape;
    const names = this.session.info.maps.map((/** @type {MapEntry} */ each) => each.name);
    const map = names.includes(state.map) || (state.map === DETECTOR_MAP && state.detector) ? state.map : this.usualMap();
    const isWithin = state.cursor[0] >= 0 && state.cursor[0] < rows && state.cursor[1] >= 0 && state.cursor[1] < columns;
    const cursor = isWithin && this.startState.cursor ? state.cursor : /** @type {[number, number]} */ ([rows >> 1, columns >> 1]);
    this.store.set({ map, cursor }, false);
    this.showState();
    this.askMap(null);
    this.askPattern(null);
    this.askDecoded(state.decodeAt);
    if (await this.session.loadLatents()) this.adopt();
    if (state.detector) {
      this.askDetector(null);
      void this.loadExact();
    }
    if (state.selection) this.askSelection(false);
    if (!this.session.info.offline) void this.watch();
  }

  /** End asking. */
  stop() {
    this.stopped = true;
    this.exactRun?.abort();
  }

  /** Take over what the server says of the scan. */
  adopt() {
    const { info } = this.session;
    this.root.classList.toggle("offline", Boolean(info.offline));
    this.page.title.textContent = info.name;
    document.title = this.inPage ? document.title : `${info.name} – stemvane`;
    this.page.map.adopt();
    const { compareBox } = this.page;
    if (info.names.length > 1 && compareBox.options.length !== info.names.length) {
      const others = info.names.map((/** @type {string} */ name, /** @type {number} */ i) => element("option", { value: String(i), text: `beside ${name}` }));
      others.splice(this.session.number, 1);
      compareBox.replaceChildren(element("option", { value: "", text: "Compare …" }), ...others);
      compareBox.hidden = false;
    }
    for (const panel of [this.page.patternPanel.panel, this.page.decodedHere, this.page.residual, this.page.decoded]) adoptDetector(panel, this.session);
    this.page.grid.aspect = info.aspect ?? 1;
    this.page.grid.hasScaleBar = false;
    this.fillMapBox();
    this.page.axisBoxes.forEach((box, axis) => {
      box.replaceChildren(...this.session.latents.map((_, k) => element("option", { value: String(k), text: `Latent ${k + 1}` })));
      box.hidden = this.session.latents.length < 2;
      box.value = String(this.store.state.axes[axis]);
    });
    this.page.latents.adopt();
    if (!info.pattern_source) this.page.patternPanel.panel.say("There are no patterns: open a run, or a file.");
    this.fillLists();
    const tab = this.page.lowerRight.bar.querySelector('[data-value="findings"]');
    const n = info.findings.length;
    if (tab) tab.textContent = n ? `Findings (${n})` : "Findings";
    tab?.classList.toggle("alarming", info.findings.some((/** @type {{severity: string}} */ each) => each.severity === "failure"));
  }

  /** Show another run beside this one, or none. @param {string} number of its scene */
  compare(number) {
    this.companion?.remove();
    this.companion = number === "" ? null : new Companion(this, Number(number));
    for (const caption of this.page.captions) {
      caption.hidden = !this.companion;
      caption.textContent = this.session.info.name;
    }
    if (!this.companion) return;
    this.page.mapPair.append(this.companion.roots[0]);
    this.page.patternPair.append(this.companion.roots[1]);
    void this.companion.start();
  }

  fillMapBox() {
    /** @type {Map<string, HTMLElement>} */
    const groups = new Map();
    for (const entry of this.session.info.maps) {
      let group = groups.get(entry.group);
      if (!group) groups.set(entry.group, (group = element("optgroup", { label: entry.group })));
      group.append(element("option", { value: entry.name, text: entry.title }));
    }
    const dragged = element("option", { value: DETECTOR_MAP, text: "Virtual detector" });
    const stored = this.session.info.annotations?.detectors ?? [];
    const detectors = element("optgroup", { label: "Virtual detectors" }, [
      dragged,
      ...stored.map((/** @type {{name: string}} */ each, /** @type {number} */ i) => element("option", { value: `@stored${i}`, text: each.name })),
    ]);
    this.page.mapBox.replaceChildren(...groups.values(), detectors);
    this.page.mapBox.value = this.store.state.map;
  }

  fillLists() {
    const { lowerRight } = this.store.state;
    if (lowerRight === "defects") this.page.listHolder.replaceChildren(defectsList(this));
    if (lowerRight === "labels") this.page.listHolder.replaceChildren(labelsList(this));
    if (lowerRight === "changes") this.page.listHolder.replaceChildren(changesList(this));
    if (lowerRight === "findings") this.page.listHolder.replaceChildren(findingsList(this));
  }

  /** Ask the server now and then whether there is more to show. */
  async watch() {
    while (!this.stopped) {
      await new Promise((resolve) => setTimeout(resolve, document.hidden ? 5000 : this.busy ? 400 : 2000));
      const message = await this.session.ask("status");
      if (!message) {
        this.say("not connected");
        continue;
      }
      const { version, progress, gone, newest, model } = message.header;
      if (gone) this.report(gone);
      const parts = [];
      if ("bin" in progress) parts.push(`reading patterns ${Math.round(100 * progress.bin)} %`);
      if ("load_model" in progress) parts.push("loading the model");
      const wasBusy = this.busy;
      this.busy = "bin" in progress || "load_model" in progress;
      if (parts.length || wasBusy) this.say(parts.join(", "));
      this.showNewest(newest);
      if (version !== this.session.info.version) {
        const hadModel = this.session.info.model;
        if (await this.session.load()) {
          this.adopt();
          this.askMap(null);
          if (model !== hadModel) this.askPattern(null);
          if (this.store.state.detector) this.askDetector(null);
        }
      }
    }
  }

  /** Offer a newer run of the folder that is watched. @param {string} name */
  showNewest(name) {
    if (!name || this.newest === name) return;
    this.newest = name;
    const open = button(`Open ${name}`, "Open the newest run of the folder", async () => {
      const message = await this.session.ask("open_newest");
      if (message) location.search = `?scene=${message.header.scene}`;
    });
    this.page.header.querySelector(".actions")?.prepend(open);
  }

  /** Buttons and boxes as the state has them. */
  showState() {
    const { state } = this.store;
    this.page.mapBox.value = state.map;
    this.page.tools.show(state.tool);
    this.page.map.panel.canvas.dataset.tool = state.tool;
    this.page.mapScale.show(state.mapScale);
    this.page.patternScale.show(state.patternScale);
    this.page.contrastBox.value = state.patternContrast;
    this.page.patternMode.show(state.pattern);
    for (const each of /** @type {NodeListOf<HTMLButtonElement>} */ (this.page.patternMode.root.querySelectorAll("button"))) {
      each.disabled =
        (each.dataset.value === "mean" && !this.chosen?.plain) || (each.dataset.value === "rotated" && !this.chosen?.rotated);
    }
    const detector = this.detectorName();
    this.page.detectors.show(detector);
    this.page.shapeBox.value = this.session.info.presets?.[detector] ? "" : detector;
    this.page.keep.disabled = !state.detector || !this.session.info.writable;
    this.page.lock.setAttribute("aria-pressed", String(Boolean(state.contrast["@pattern"])));
    this.page.lowerLeft.show(state.lowerLeft);
    this.page.lowerRight.show(state.lowerRight);
    this.page.angleSlider.value = String(state.angle);
    this.page.widthBox.value = String(state.lineWidth);
    const kind = this.shown?.entry.kind ?? "image";
    const free = kind === "image" || kind === "scalar";
    this.page.paletteBox.replaceChildren(
      ...(free ? PALETTES : []).map((value) => element("option", { value, text: PALETTE_NAMES[value] })),
      ...(free ? [] : [element("option", { value: "", text: kind === "signed" ? "Vik, diverging" : kind === "class" ? "Classes" : "Roma, cyclic" })]),
    );
    this.page.paletteBox.disabled = !free;
    this.page.paletteBox.value = free ? (state.palettes[kind] ?? (kind === "scalar" ? "batlow" : "grayC")) : "";
  }

  /** Name of the button that stands for the detector in use. */
  detectorName() {
    const { detector } = this.store.state;
    if (!detector) return "";
    for (const [name, preset] of Object.entries(this.session.info.presets ?? {})) {
      if (JSON.stringify(preset) === JSON.stringify(detector)) return name;
    }
    return detector.signal === "com" ? "COM" : detector.shape;
  }

  /** @param {import("./store.js").State} state @param {Set<string>} changed */
  react(state, changed) {
    this.showState();
    if (changed.has("map") || changed.has("contrast") || changed.has("palettes") || changed.has("mapScale")) this.askMap(null);
    if (changed.has("cursor")) this.askPattern(null);
    const recolored = ["patternScale", "patternContrast", "palettes"].some((name) => changed.has(name));
    if (changed.has("pattern") || changed.has("contrast") || recolored) this.showPattern();
    if (recolored) this.recolorPatterns();
    if (changed.has("detector")) this.askDetector(null);
    if (changed.has("selection") && !state.selection) this.takeSelection(null);
    if (changed.has("axes")) this.page.latents.fit();
    if (changed.has("angle") || changed.has("decodeAt")) this.askDecoded(state.decodeAt);
    if (changed.has("line") || changed.has("lineWidth") || changed.has("lowerLeft")) this.showCurves();
    if (state.lowerRight === "changes" && ["changes", "brush", "selection", "detector"].some((name) => changed.has(name))) this.fillLists();
    if (changed.has("lowerRight") && state.lowerRight !== "changes" && state.brush) this.store.set({ brush: null });
    if (changed.has("lowerRight") || changed.has("defect")) {
      this.fillLists();
      if (state.lowerRight === "grid") void this.loadGrid();
      if (state.lowerRight === "decoded") this.askDecoded(state.decodeAt);
    }
    this.page.map.panel.draw();
    this.page.patternPanel.panel.draw();
    this.page.latents.draw();
    clearTimeout(this.hashTimer);
    this.hashTimer = window.setTimeout(() => {
      if (!this.inPage) history.replaceState(null, "", `${location.pathname}${location.search}${stateToHash(this.store.state)}`);
    }, 250);
  }

  async loadMap() {
    const { state } = this.store;
    if (state.map === DETECTOR_MAP || state.map.startsWith("@stored")) {
      if (state.map.startsWith("@stored")) {
        const stored = this.session.info.annotations?.detectors?.[Number(state.map.slice(7))];
        if (stored) this.store.set({ detector: stored.detector, map: DETECTOR_MAP });
        return;
      }
      this.showDetectorMap();
      return;
    }
    const name = state.map;
    const message = await this.session.map(name);
    const entry = this.session.entry(name);
    if (!message || !entry || this.store.state.map !== name) return;
    this.showMap(entry, message.arrays.values, message.arrays.strength);
  }

  /** @param {MapEntry} entry @param {Coded} values @param {Coded} [strength] */
  showMap(entry, values, strength) {
    this.shown = { entry, values, strength };
    this.page.map.show(entry, values, strength);
    this.showState();
    if (entry.kind === "class" || this.store.state.lowerRight === "defects") this.fillLists();
    if (this.store.state.lowerLeft !== "spectrum" || entry.name !== DETECTOR_MAP) this.showCurves();
    requestAnimationFrame(() => {
      this.timings.firstPicture ||= performance.now() - this.started;
      // while a detector is dragged the map alone must keep up
      clearTimeout(this.colorTimer);
      this.colorTimer = window.setTimeout(() => this.colorLatents(), entry.name === DETECTOR_MAP ? 150 : 0);
    });
  }

  /** Colour the learned space as the map is. */
  colorLatents() {
    const { pixels } = this.page.map.panel;
    this.page.latents.colors = pixels ? new Uint32Array(pixels.data.buffer) : null;
    this.page.latents.refresh();
    this.showCurves();
  }

  showDetectorMap() {
    const signal = this.detectorSignal;
    if (!signal) return;
    /** @type {MapEntry} */
    const entry = { name: DETECTOR_MAP, title: "Virtual detector", group: "", unit: signal.values.unit, kind: signal.kind, period: 2 * Math.PI, varies: true };
    this.showMap(entry, signal.values, signal.strength);
  }

  /** What the histogram, profile and spectrum show of the map. */
  showCurves() {
    if (!this.shown) return;
    const { entry, values, strength } = this.shown;
    const { state } = this.store;
    const array = strength ?? values;
    const [rows, columns] = this.session.scanShape;
    const isArrow = entry.kind === "angle" || entry.kind === "vector";
    if (state.lowerLeft === "histogram") {
      this.page.histogram.show(array, state.contrast[entry.name] ?? usualContrast(array, entry.kind), array.unit);
    } else if (state.lowerLeft === "profile") {
      const step = this.session.info.calibration?.scan_step;
      const along = (/** @type {Float32Array} */ of) =>
        state.line ? profileAlong(of, rows, columns, state.line[0], state.line[1], state.lineWidth) : null;
      const isAngle = entry.kind === "angle";
      const parts = isAngle ? arrowParts(values, strength, entry.period) : null;
      const profile = along(parts ? parts.cos : valuesOf(array));
      if (profile && parts) {
        // directions are averaged as arrows, so that 359° and 1° give 0°
        const sine = along(parts.sin)?.mean ?? [];
        const perRad = (180 / Math.PI) * (entry.period / (2 * Math.PI));
        profile.mean = profile.mean.map((c, i) => perRad * Math.atan2(sine[i], c));
      }
      if (profile && step && state.line) {
        const [from, to] = state.line;
        const length = Math.hypot((to[0] - from[0]) * step[0], (to[1] - from[1]) * step[1]);
        const end = profile.at[profile.at.length - 1] || 1;
        profile.at = profile.at.map((at) => (at / end) * length);
      }
      this.page.profile.show(profile, isAngle ? "°" : array.unit, step ? "Å" : "px");
    } else {
      const parts = isArrow ? arrowParts(values, strength, entry.period) : null;
      const { modulus, rows: height, columns: width } = parts
        ? spectrumOf(parts.cos, rows, columns, parts.sin)
        : spectrumOf(valuesOf(array), rows, columns);
      const coded = codeValues(modulus, [height, width], "relative");
      const [, high] = usualContrast(coded, "image");
      const step = this.session.info.calibration?.scan_step;
      this.page.spectrum.aspect = step ? width * step[1] / (height * step[0]) : width / height;
      this.page.spectrum.stepX = step ? 1 / (width * step[1]) : 1 / width;
      this.page.spectrum.stepUnit = step ? "Å⁻¹" : "px⁻¹";
      this.page.spectrum.show(coded, { kind: "image", palette: "inferno", scale: "sqrt", low: 0, high: high || 1 });
    }
  }

  async loadPattern() {
    if (!this.session.info.pattern_source) return;
    const began = performance.now();
    const [y, x] = this.store.state.cursor;
    const message = await this.session.ask("pattern", { y, x });
    if (!message) return;
    this.pattern = message.arrays.pattern;
    this.timings.patterns.push(performance.now() - began);
    this.showPattern();
    if (this.session.info.model === "none" && !this.session.info.offline) {
      this.page.decodedHere.say("There is no model: open a run.");
      this.page.residual.say("");
    }
    if (this.session.info.offline) this.askDecoded(this.store.state.decodeAt);
    else if (this.session.info.model === "ready") await this.loadModel(y, x);
    else this.page.modelNote.textContent = this.session.info.model === "loading" ? "the model is being loaded" : "there is no model: open a run";
  }

  /** @param {number} y @param {number} x */
  async loadModel(y, x) {
    const message = await this.session.ask("model", { y, x });
    if (!message) return;
    const { decoded, residual } = message.arrays;
    this.showDecoded(this.page.decodedHere, decoded);
    if (residual) {
      const [least, most] = usualContrast(residual, "signed");
      this.page.residual.show(residual, { kind: "signed", palette: "vik", scale: "linear", low: least, high: most });
    } else this.page.residual.say("There are no polar patterns to compare with.");
    const { latents, angle, angle_std } = message.header;
    const degrees = (/** @type {number} */ rad) => `${formatNumber((rad * 180) / Math.PI, 3)}°`;
    const parts = latents.map((/** @type {number} */ v, /** @type {number} */ k) => `z${k + 1} ${formatNumber(v, 3)}`);
    if (angle !== null) parts.push(`angle ${degrees(angle)}${angle_std === null ? "" : ` ± ${degrees(angle_std)}`}`);
    this.page.modelNote.textContent = parts.join(", ");
    if (!this.store.state.decodeAt && this.store.state.lowerRight === "decoded") this.askDecoded(null);
  }

  /** The pattern panel's content: the pattern at the cursor, or a mean. */
  showPattern() {
    const { pattern } = this.store.state;
    const mean = pattern === "mean" ? this.chosen?.plain : pattern === "rotated" ? this.chosen?.rotated : null;
    const array = mean ?? this.pattern;
    if (array) this.page.patternPanel.show(array);
  }

  /** Show decoded patterns in the colours of the pattern panel. */
  recolorPatterns() {
    for (const panel of [this.page.decodedHere, this.page.decoded, this.page.grid]) {
      if (panel.array) this.showDecoded(panel, panel.array);
    }
  }

  /** @param {ImagePanel} panel @param {Coded} array */
  showDecoded(panel, array) {
    const { state } = this.store;
    const [low, high] = patternContrast(array, this.session, state.patternContrast);
    panel.show(array, { kind: "image", palette: state.palettes.pattern ?? "inferno", scale: state.patternScale, low, high });
  }

  lockContrast() {
    const { contrast } = this.store.state;
    const rest = { ...contrast };
    delete rest["@pattern"];
    const { coloring } = this.page.patternPanel.panel;
    this.store.set({ contrast: contrast["@pattern"] || !coloring ? rest : { ...rest, "@pattern": [coloring.low, coloring.high] } });
  }

  /** @param {string} name of a palette, for maps of the kind that is shown */
  setPalette(name) {
    const kind = this.shown?.entry.kind ?? "image";
    this.store.set({ palettes: { ...this.store.state.palettes, [kind]: name } });
  }

  /** @param {string} name a preset, a shape, or nothing */
  chooseDetector(name) {
    const { state } = this.store;
    if (!name) {
      this.exactRun?.abort();
      this.store.set({ detector: null, map: state.map === DETECTOR_MAP ? this.lastMap || this.usualMap() : state.map });
      return;
    }
    if (state.map !== DETECTOR_MAP) this.lastMap = state.map;
    const presets = this.session.info.presets;
    let detector = presets[name];
    if (!detector) {
      const { y, x } = presets.BF;
      const before = state.detector ?? presets.ADF;
      const radius = before.outer;
      const inner = name === "rectangle" ? radius / 2 : Math.min(before.inner || radius / 2, radius * 0.8);
      detector = { ...presets.BF, shape: name, y: state.detector?.y ?? y, x: state.detector?.x ?? x, inner: name === "disc" ? 0 : inner, outer: radius, start: 0, stop: 60, signal: "sum" };
    }
    this.store.set({ detector, map: DETECTOR_MAP });
    this.dragDetector(true);
  }

  /** @param {boolean} settled whether the mouse was let go */
  dragDetector(settled) {
    const { state } = this.store;
    if (state.map !== DETECTOR_MAP) this.store.set({ map: DETECTOR_MAP });
    this.exactRun?.abort();
    this.askDetector(null);
    if (!settled) return;
    this.store.settle();
    void this.loadExact();
  }

  async loadDetector() {
    const { detector } = this.store.state;
    if (!detector) return;
    if (!this.session.info.binned) return this.say("patterns are being read, then detectors answer at once");
    const began = performance.now();
    const message = await this.session.ask("detector", detector);
    if (!message) return;
    this.timings.detectors.push(performance.now() - began);
    if (this.detectorSignal?.exact && JSON.stringify(detector) === this.exactFor) return;
    this.detectorSignal = { values: message.arrays.values, strength: message.arrays.strength, kind: message.header.kind, exact: false };
    if (this.store.state.map === DETECTOR_MAP) this.showDetectorMap();
  }

  /** The detector's signal from every pixel, in the background. */
  async loadExact() {
    const { detector } = this.store.state;
    if (!detector || this.session.info.offline) return;
    this.exactRun?.abort();
    const run = new AbortController();
    this.exactRun = run;
    this.exactFor = "";
    const message = await this.session.ask("exact", detector, {
      signal: run.signal,
      onProgress: (share) => this.say(`detector from every pixel ${Math.round(100 * share)} %`),
    });
    if (!message || run.signal.aborted) return;
    this.exactFor = JSON.stringify(detector);
    this.say("detector from every pixel");
    this.detectorSignal = { values: message.arrays.values, strength: message.arrays.strength, kind: message.header.kind, exact: true };
    if (this.store.state.map === DETECTOR_MAP) this.showDetectorMap();
  }

  /** Ask what is selected. @param {boolean} quick whether it is still being drawn */
  select(quick) {
    if (!quick) this.store.settle();
    this.askSelection(quick);
  }

  /** @param {boolean} quick */
  async loadSelection(quick) {
    const { selection } = this.store.state;
    if (!selection) return this.takeSelection(null);
    const message = await this.session.ask(
      "select",
      { selection, quick },
      { onProgress: (share) => this.say(`mean pattern ${Math.round(100 * share)} %`) },
    );
    if (!message || !this.store.state.selection) return;
    const { mask, plain, rotated } = message.arrays;
    this.takeSelection({ mask, plain: plain ?? null, rotated: rotated ?? null, n: message.header.n, nUsed: message.header.n_used, settled: !quick });
    if (this.store.state.pattern === "cursor" && plain) this.store.set({ pattern: "mean" });
  }

  /** @param {Chosen | null} chosen */
  takeSelection(chosen) {
    this.chosen = chosen;
    this.page.map.choose(chosen);
    this.page.latents.chosen = chosen;
    this.page.latents.refresh();
    if (!chosen && this.store.state.pattern !== "cursor") this.store.set({ pattern: "cursor" });
    this.showPattern();
    this.showState();
    if (chosen) this.say(`${chosen.n} positions selected${chosen.nUsed < chosen.n ? `, mean of ${chosen.nUsed}` : ""}`);
  }

  /** @param {number[] | null} latents @param {boolean} pin whether to stay there */
  pointAt(latents, pin) {
    if (pin && latents) {
      this.store.set({ decodeAt: latents, lowerRight: "decoded" });
      return;
    }
    if (this.store.state.lowerRight !== "decoded") return;
    this.askDecoded(latents ?? this.store.state.decodeAt);
  }

  /** @param {number[] | null} latents those under the cursor where there are none */
  async loadDecoded(latents) {
    if (this.session.info.model !== "ready") {
      this.page.decoded.say(this.session.info.model === "loading" ? "The model is being loaded." : "There is no model: open a run.");
      return;
    }
    const [y, x] = this.store.state.cursor;
    const at = y * this.session.scanShape[1] + x;
    if (!latents && this.session.latents.length < this.session.info.n_latent) return;
    const values = latents ?? this.session.latents.map((each) => valueAt(each, at));
    if (!values.every(Number.isFinite)) return;
    const angle = (this.store.state.angle * Math.PI) / 180;
    const message = await this.session.ask("decode", { latents: values, angle });
    if (!message) return;
    const { decoded } = message.arrays;
    this.showDecoded(this.page.decoded, decoded);
    const parts = values.map((v, k) => `z${k + 1} ${formatNumber(v, 3)}`);
    this.page.decodedNote.textContent = `${this.store.state.angle}°  ${parts.join(", ")}`;
  }

  async loadGrid() {
    if (this.gridLatents) return;
    if (!this.session.info.has_manifold) return this.page.grid.say("The grid is stored in a run: open one.");
    const message = await this.session.ask("manifold");
    if (!message) return;
    const { manifold } = message.arrays;
    this.gridLatents = message.header.latents;
    const [rows, columns, height, width] = manifold.shape;
    const codes = new Uint16Array(manifold.codes.length);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        for (let y = 0; y < height; y++) {
          const from = ((r * columns + c) * height + y) * width;
          codes.set(manifold.codes.subarray(from, from + width), (r * height + y) * columns * width + c * width);
        }
      }
    }
    const mosaic = { ...manifold, codes, shape: [rows * height, columns * width] };
    this.gridShape = [height, width];
    this.showDecoded(this.page.grid, mosaic);
  }

  /** @param {PointerPlace} place @param {boolean} pin */
  pointInGrid(place, pin) {
    if (!this.gridLatents || !this.gridShape) return false;
    const row = this.gridLatents[Math.floor((place.y + 0.5) / this.gridShape[0])];
    const latents = row?.[Math.floor((place.x + 0.5) / this.gridShape[1])];
    if (!latents) return false;
    this.say(latents.map((/** @type {number} */ v, /** @type {number} */ k) => `z${k + 1} ${formatNumber(v, 3)}`).join(", "));
    if (pin) this.store.set({ decodeAt: latents, lowerRight: "decoded" });
    return pin;
  }

  /** @param {PointerPlace | null} place */
  readMap(place) {
    const shown = this.shown;
    if (!place || !shown) return this.page.readout.replaceChildren();
    const [rows, columns] = this.session.scanShape;
    const [y, x] = [Math.round(place.y), Math.round(place.x)];
    if (y < 0 || x < 0 || y >= rows || x >= columns) return this.page.readout.replaceChildren();
    const step = this.session.info.calibration?.scan_step;
    const where = step ? `, ${formatNumber(y * step[0])} Å, ${formatNumber(x * step[1])} Å` : "";
    const value = valueAt(shown.values, y * columns + x);
    const isAngle = shown.entry.kind === "angle" || shown.entry.kind === "vector";
    let text = isAngle ? `${formatNumber((value * 180) / Math.PI, 4)}°` : `${formatNumber(value)} ${shown.values.unit}`;
    if (shown.strength) text += `, ${formatNumber(valueAt(shown.strength, y * columns + x))} ${shown.strength.unit}`;
    this.page.readout.textContent = `(${y}, ${x})${where}: ${text}`;
  }

  /** @param {PointerPlace | null} place */
  readPattern(place) {
    const { array } = this.page.patternPanel.panel;
    if (!place || !array) return this.page.readout.replaceChildren();
    const [rows, columns] = this.session.detectorShape;
    const [y, x] = [Math.round(place.y), Math.round(place.x)];
    if (y < 0 || x < 0 || y >= rows || x >= columns) return this.page.readout.replaceChildren();
    const { pixel_size: pixel, optical_axis: axis } = this.session.info.calibration ?? {};
    let where = "";
    if (pixel && axis) {
      const [down, right] = [(place.y - axis[0]) * pixel[0], (place.x - axis[1]) * pixel[1]];
      where = `, ${formatNumber(Math.hypot(down, right), 3)} mrad at ${formatNumber((Math.atan2(-down, right) * 180) / Math.PI, 3)}°`;
    }
    this.page.readout.textContent = `pixel (${y}, ${x})${where}: ${formatNumber(valueAt(array, y * columns + x))} ${array.unit}`;
  }

  /** What a script needs to make the same. */
  recipeState() {
    const { map, cursor, detector, selection } = this.store.state;
    return { map, cursor, ...(detector ? { detector } : {}), ...(selection ? { selection } : {}) };
  }

  /** @param {string} question @param {object} [values] */
  async download(question, values = {}) {
    const message = await this.session.ask(question, values);
    if (!message) return null;
    const { file } = message.arrays;
    saveFile(message.header.file, /** @type {BlobPart} */ (file.codes), "application/octet-stream");
    return message.header.file;
  }

  async copyLink() {
    history.replaceState(null, "", `${location.pathname}${location.search}${stateToHash(this.store.state)}`);
    await this.copyText(location.href, "link copied");
  }

  async copyPython() {
    const message = await this.session.ask("python", { state: this.recipeState() });
    if (!message) return;
    await this.copyText(new TextDecoder().decode(/** @type {Uint8Array} */ (message.arrays.file.codes)), "script copied");
  }

  /** @param {string} text @param {string} done */
  async copyText(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      this.say(done);
    } catch {
      // without the permission to copy, the text is shown for copying by hand
      const area = element("textarea", { rows: "14", readonly: true, "aria-label": "Text to copy" });
      area.value = text;
      const dialog = element("dialog", { "aria-label": "Copy" }, [area, button("Close", "Close", () => dialog.remove())]);
      this.root.append(dialog);
      dialog.showModal();
      area.select();
    }
  }

  async saveSelection() {
    const { selection } = this.store.state;
    if (!selection) return this.report("nothing is selected; draw a rectangle or a lasso on the map");
    await this.download("export", { selection });
  }

  /** @param {ImagePanel} panel @param {string} name */
  async savePanel(panel, name) {
    const file = `${this.session.info.name}_${name}`.replace(/[^A-Za-z0-9_-]+/g, "_");
    if (this.shiftHeld) saveFile(`${file}.png`, await panelPng(panel), "image/png");
    else saveFile(`${file}.svg`, panelSvg(panel), "image/svg+xml");
  }

  /** The command that runs the scan again with what was changed here, and the files that it needs. */
  async showRerun() {
    const { painted, ...changes } = this.store.state.changes;
    const points = { kind: "points", space: "scan", points: painted };
    const positions = painted.length ? [...changes.positions, points] : changes.positions;
    const message = await this.session.ask("rerun", { changes: { ...changes, positions } });
    if (!message) return;
    const { words, settings, name } = message.header;
    const command = `stemvane run ${words[0]} -o ${words[1]} --config ${words[2]}`;
    const area = element("textarea", { rows: "12", readonly: true, "aria-label": "Settings of the other run" });
    area.value = settings;
    const files = Object.entries(message.arrays).map(([file, { codes }]) =>
      button(`Save ${file}`, "Save the mask beside the settings", () => saveFile(file, /** @type {BlobPart} */ (codes), "application/octet-stream")),
    );
    const dialog = element("dialog", { "aria-label": "Run again" }, [
      element("h2", { text: "Run again" }),
      element("p", { text: "Save these files in one folder, and run there:" }),
      element("pre", { text: command }),
      area,
      element("div", { class: "actions" }, [
        button(`Save ${name}`, "Save the settings", () => saveFile(name, settings, "application/toml")),
        ...files,
        button("Copy the command", "Copy the command", () => this.copyText(command, "command copied")),
        button("Close", "Close", () => dialog.remove()),
      ]),
    ]);
    dialog.addEventListener("close", () => dialog.remove());
    this.root.append(dialog);
    dialog.showModal();
  }

  /** Store the dragged detector and its map in the run. */
  async keepDetector() {
    const { detector } = this.store.state;
    if (!detector) return;
    const name = await this.askName("Name of the detector", this.detectorName());
    if (!name) return;
    const message = await this.session.ask(
      "keep",
      { name, detector },
      { onProgress: (share) => this.say(`detector from every pixel ${Math.round(100 * share)} %`) },
    );
    if (!message) return;
    const { annotations, maps } = message.header;
    Object.assign(this.session.info, { annotations, maps });
    this.fillMapBox();
    this.say("stored in the run, with its map");
  }

  /** @param {object} annotations */
  async annotate(annotations) {
    const message = await this.session.ask("annotate", { annotations });
    if (!message) return;
    this.session.info.annotations = message.header.annotations;
    this.fillMapBox();
    this.fillLists();
    this.page.map.panel.draw();
    this.say("stored in the run");
  }

  /** @param {string} title @param {string} usual @returns {Promise<string>} empty where it was cancelled */
  askName(title, usual) {
    return new Promise((resolve) => {
      const input = element("input", { type: "text", maxlength: "200", value: usual, "aria-label": title });
      const end = (/** @type {string} */ value) => {
        dialog.remove();
        resolve(value.trim());
      };
      const form = element("form", { method: "dialog", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), end(input.value)) }, [
        element("h2", { text: title }),
        input,
        element("div", { class: "actions" }, [button("Cancel", "Cancel", () => end("")), element("button", { type: "submit", text: "Store" })]),
      ]);
      const dialog = element("dialog", { "aria-label": title, oncancel: () => end("") }, [form]);
      this.root.append(dialog);
      dialog.showModal();
      input.select();
    });
  }
}
