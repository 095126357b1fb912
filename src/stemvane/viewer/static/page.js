// Everything on the page: panels in their frames, tools, tabs, and the bars between them.
import { HistogramPanel, ProfilePanel } from "./curve_panel.js";
import { button, choice, element, selectBox, signButton } from "./dom.js";
import { ImagePanel } from "./image_panel.js";
import { showHelp } from "./keys.js";
import { LatentPanel } from "./latent_panel.js";
import { MapPanel } from "./map_panel.js";
import { PatternPanel } from "./pattern_panel.js";
import { SCALES } from "./raster.js";
import { DETECTOR_MAP } from "./store.js";

/** @typedef {import("./viewer.js").Viewer} Viewer */

const SCALE_NAMES = /** @type {Record<string, string>} */ ({ linear: "Linear", sqrt: "√", log: "Log" });

/**
 * A panel's frame: heading, tools, content.
 * @param {string} name
 * @param {string} title
 * @param {(Node | null)[]} tools
 * @param {Node[]} content
 */
function frameOf(name, title, tools, content) {
  return element("section", { class: `panel ${name}`, "data-panel": name, "aria-label": title }, [
    element("header", {}, [element("h2", { text: title }), ...tools]),
    ...content,
  ]);
}

export class Page {
  /**
   * @param {HTMLElement} root
   * @param {Viewer} viewer what its tools do
   */
  constructor(root, viewer) {
    const { store, session } = viewer;
    this.store = store;
    this.alert = element("p", { class: "alert", role: "alert", hidden: true });
        this.status = element("p", { class: "status", role: "status" });
    this.title = element("h1", { text: "stemvane" });
    this.readout = element("p", { class: "readout" });
    this.mapBox = selectBox("Map", (name) => store.set({ map: name }));
    this.paletteBox = selectBox("Colours of the map", (name) => viewer.setPalette(name));
    this.mapScale = choice("Scale of the map", SCALES.map((value) => ({ value, text: SCALE_NAMES[value], title: `${value} scale of the map` })), (value) =>
      store.set({ mapScale: value }),
    );
    this.tools = choice(
      "Tool of the map",
      [
        { value: "cursor", text: "Cursor", title: "Show the pattern under the cursor (C)" },
        { value: "rectangle", text: "Rectangle", title: "Select a rectangle of positions (R)" },
        { value: "lasso", text: "Lasso", title: "Select positions with a lasso (O)" },
        { value: "line", text: "Line", title: "Draw a line for a profile (P)" },
        { value: "pan", text: "Pan", title: "Move the zoomed map (H)" },
      ],
      (value) => store.set({ tool: value }),
    );
    this.map = new MapPanel(session, store, {
      onHover: (place) => viewer.readMap(place),
      onSelect: (quick) => viewer.select(quick),
    });
    this.patternMode = choice(
      "Pattern shown",
      [
        { value: "cursor", text: "At cursor", title: "The pattern under the cursor" },
        { value: "mean", text: "Mean", title: "Mean pattern of the selection" },
        { value: "rotated", text: "Rotated mean", title: "Mean of the selection's patterns, each rotated back by its angle" },
      ],
      (value) => store.set({ pattern: value }),
    );
    this.patternScale = choice("Scale of the pattern", SCALES.map((value) => ({ value, text: SCALE_NAMES[value], title: `${value} scale of patterns` })), (value) =>
      store.set({ patternScale: value }),
    );
    this.contrastBox = selectBox("Contrast of patterns", (value) => store.set({ patternContrast: value }));
    this.contrastBox.append(
      element("option", { value: "full", text: "Whole pattern" }),
      element("option", { value: "disc", text: "Within the disc" }),
    );
    this.lock = element("button", { type: "button", text: "Lock", title: "Keep the contrast of this pattern for all others", "aria-pressed": "false", onclick: () => viewer.lockContrast() });
    this.patternPanel = new PatternPanel(session, store, {
      onHover: (place) => viewer.readPattern(place),
      onDetector: (settled) => viewer.dragDetector(settled),
    });
    this.detectors = choice(
      "Virtual detector",
      [
        ...["BF", "ABF", "ADF", "COM"].map((value) => ({ value, text: value, title: `Virtual detector: ${value}` })),
        { value: "", text: "Off", title: "No virtual detector" },
      ],
      (value) => viewer.chooseDetector(value),
    );
    this.shapeBox = selectBox("Shape of the virtual detector", (value) => viewer.chooseDetector(value));
    this.shapeBox.append(
      element("option", { value: "", text: "Shape …" }),
      ...["point", "disc", "annulus", "rectangle", "wedge"].map((value) => element("option", { value, text: value })),
    );
    this.keep = button("Keep", "Store this detector and its map in the run, with a name", () => viewer.keepDetector());
    this.decodedHere = new ImagePanel({ label: "What the model sees at the cursor" });
    this.residual = new ImagePanel({ label: "Pattern minus what the model sees" });
    this.modelNote = element("p", { class: "note" });
    this.latents = new LatentPanel(session, store, {
      onPoint: (latents, pin) => viewer.pointAt(latents, pin),
      onSelect: (quick) => viewer.select(quick),
    });
    this.latentTools = choice(
      "Tool of the learned space",
      [
        { value: "point", text: "Decode", title: "Decode a pattern at the pointer; click to move the cursor there" },
        { value: "lasso", text: "Lasso", title: "Select positions by their latents" },
      ],
      (value) => {
        this.latents.tool = value;
        this.latentTools.show(value);
      },
    );
    this.latentTools.show("point");
    this.axisBoxes = [0, 1].map((axis) =>
      selectBox(`Latent along ${axis ? "y" : "x"}`, (value) => {
        const axes = [...store.state.axes];
        axes[axis] = Number(value);
        store.set({ axes });
      }),
    );
    this.histogram = new HistogramPanel({
      onContrast: (low, high) => store.set({ contrast: { ...store.state.contrast, [store.state.map]: [low, high] } }),
      onRange: (low, high, settled) => {
        const name = store.state.map;
        if (name === DETECTOR_MAP) return;
        store.set({ selection: { kind: "range", map: name, low, high } });
        viewer.select(!settled);
      },
    });
    this.profile = new ProfilePanel();
    this.spectrum = new ImagePanel({ label: "Fourier spectrum of the map" });
    this.decoded = new ImagePanel({ label: "Pattern decoded at a point of the learned space" });
    this.angleSlider = element("input", { type: "range", min: "-180", max: "180", step: "1", "aria-label": "Angle of the decoded pattern in degrees" });
    this.angleSlider.addEventListener("input", () => store.set({ angle: Number(this.angleSlider.value) }));
    this.decodedNote = element("p", { class: "note" });
    this.grid = new ImagePanel({
      label: "Grid of decoded patterns",
      onPress: (place) => viewer.pointInGrid(place, true),
      onHover: (place) => place && viewer.pointInGrid(place, false),
    });
    this.widthBox = element("input", { type: "number", min: "1", max: "99", value: "1", "aria-label": "Width of the profile's line in pixels" });
    this.widthBox.addEventListener("change", () => store.set({ lineWidth: Math.min(Math.max(Number(this.widthBox.value) || 1, 1), 99) }));
    this.listHolder = element("div", { class: "list-holder" });
    this.lowerLeft = this.tabs("lowerLeft", [
      ["histogram", "Histogram", this.histogram.root],
      ["profile", "Profile", element("div", { class: "with-controls" }, [this.profile.root, element("label", { class: "controls", text: "Width (px) " }, [this.widthBox])])],
      ["spectrum", "Spectrum", this.spectrum.root],
    ]);
    this.lowerRight = this.tabs("lowerRight", [
      ["decoded", "Decoded", element("div", { class: "with-controls" }, [this.decoded.root, element("div", { class: "controls" }, [element("span", { text: "Angle" }), this.angleSlider, this.decodedNote])])],
      ["grid", "Grid", this.grid.root],
      ["defects", "Defects", this.listHolder],
      ["labels", "Labels", this.listHolder],
      ["changes", "Run again", this.listHolder],
      ["findings", "Findings", this.listHolder],
    ]);
    const full = (/** @type {HTMLElement} */ panel) => {
      if (document.fullscreenElement) void document.exitFullscreen();
      else void panel.requestFullscreen?.();
    };
    const expand = () => {
      const made = signButton("M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4", "Full screen (F)", () => full(/** @type {HTMLElement} */ (made.closest(".panel"))));
      return made;
    };
    const save = (/** @type {() => ImagePanel} */ panel, /** @type {() => string} */ name) =>
      signButton("M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11", "Save as SVG; with Shift, as PNG", () => viewer.savePanel(panel(), name()));
    this.captions = [element("figcaption", { hidden: true }), element("figcaption", { hidden: true })];
    this.mapPair = element("div", { class: "pair" }, [element("figure", {}, [this.captions[0], this.map.panel.root])]);
    this.patternPair = element("div", { class: "pair" }, [element("figure", {}, [this.captions[1], this.patternPanel.panel.root])]);
    this.compareBox = selectBox("Compare with another run", (value) => viewer.compare(value));
    this.compareBox.hidden = true;
    this.header = element("header", { class: "bar-top" }, [
      this.title,
      this.status,
      this.compareBox,
      this.readout,
      element("div", { class: "actions" }, [
        button("Undo", "Take back the last change (Ctrl+Z)", () => viewer.undo()),
        viewer.inPage ? null : button("Copy link", "Copy the address of this view", () => viewer.copyLink()),
        element("span", { class: "actions needs-server" }, [
        button("Copy as Python", "Copy a script that makes what is shown", () => viewer.copyPython()),
        button("Notebook", "Save a notebook that makes what is shown", () => viewer.download("notebook", { state: viewer.recipeState() })),
        button("Selection as HDF5", "Save the selection, its maps and its mean pattern", () => viewer.saveSelection()),
        ]),
        button("?", "Keys (?)", () => showHelp(root), "Help"),
      ]),
    ]);
    this.frames = {
      map: frameOf("map", "Map", [this.mapBox, this.paletteBox, this.mapScale.root, this.tools.root, save(() => this.map.panel, () => viewer.shown?.entry.name ?? "map"), expand()], [this.mapPair]),
      pattern: frameOf(
        "pattern",
        "Pattern",
        [this.patternMode.root, this.patternScale.root, this.contrastBox, this.lock, element("span", { class: "actions needs-server" }, [this.detectors.root, this.shapeBox, this.keep]), save(() => this.patternPanel.panel, () => "pattern"), expand()],
        [this.patternPair],
      ),
      latents: frameOf("latents", "Learned space", [...this.axisBoxes, this.latentTools.root, expand()], [this.latents.root]),
      lowerLeft: frameOf("lower-left", "Curves", [this.lowerLeft.bar], [this.lowerLeft.body]),
      model: frameOf("model", "Model at the cursor", [this.modelNote], [
        element("div", { class: "pair" }, [
          element("figure", {}, [element("figcaption", { text: "Decoded" }), this.decodedHere.root]),
          element("figure", {}, [element("figcaption", { text: "Residual" }), this.residual.root]),
        ]),
      ]),
      lowerRight: frameOf("lower-right", "Explore", [this.lowerRight.bar], [this.lowerRight.body]),
    };
    this.workspace = element("main", { class: "workspace" }, Object.values(this.frames));
    this.addSplitters();
    root.classList.add("stemvane");
    root.classList.toggle("in-page", viewer.inPage);
    root.replaceChildren(this.header, this.alert, this.workspace);
  }

  /**
   * Tabs that show one of several contents.
   * @param {"lowerLeft" | "lowerRight"} name in the state
   * @param {[string, string, HTMLElement][]} entries
   */
  tabs(name, entries) {
    const bar = choice(name === "lowerLeft" ? "Curves" : "Explore", entries.map(([value, text]) => ({ value, text })), (value) =>
      this.store.set({ [name]: value }),
    );
    const body = element("div", { class: "tab-body" }, [...new Set(entries.map(([, , content]) => content))]);
    const show = (/** @type {string} */ value) => {
      bar.show(value);
      const wanted = entries.find(([each]) => each === value)?.[2];
      for (const child of body.children) /** @type {HTMLElement} */ (child).hidden = child !== wanted;
    };
    return { bar: bar.root, body, show };
  }

  /** Bars between columns and rows that are dragged, or moved with the arrow keys. */
  addSplitters() {
    for (const [name, label] of [
      ["column1", "Width of the left column"],
      ["column2", "Width of the middle column"],
      ["row", "Height of the upper row"],
    ]) {
      const bar = element("div", { class: `splitter ${name}`, role: "separator", tabindex: "0", "aria-label": label, "aria-valuenow": "50", "aria-orientation": name === "row" ? "horizontal" : "vertical" });
      const place = (/** @type {number} */ share) => {
        const held = Math.min(Math.max(share, 0.15), 0.85);
        this.workspace.style.setProperty(`--${name}`, `${(100 * held).toFixed(2)}%`);
        bar.setAttribute("aria-valuenow", String(Math.round(100 * held)));
      };
      const current = () => {
        const box = this.workspace.getBoundingClientRect();
        const at = bar.getBoundingClientRect();
        return name === "row" ? (at.top + at.height / 2 - box.top) / box.height : (at.left + at.width / 2 - box.left) / box.width;
      };
      bar.addEventListener("pointerdown", (event) => bar.setPointerCapture(event.pointerId));
      bar.addEventListener("pointermove", (event) => {
        if (!bar.hasPointerCapture(event.pointerId)) return;
        const box = this.workspace.getBoundingClientRect();
        place(name === "row" ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width);
      });
      bar.addEventListener("keydown", (event) => {
        const step = /** @type {Record<string, number>} */ ({ ArrowLeft: -0.02, ArrowUp: -0.02, ArrowRight: 0.02, ArrowDown: 0.02 })[event.key];
        if (step) {
          event.preventDefault();
          event.stopPropagation();
          place(current() + step);
        }
      });
      this.workspace.append(bar);
    }
  }
}
