// Lists beside the maps: defects, labels, findings.
import { button, element } from "./dom.js";
import { formatNumber } from "./numbers.js";

/** @typedef {import("./viewer.js").Viewer} Viewer */

const HEADINGS = [
  ["No.", "Number in the list, the clearest first"],
  ["Kind", "Name of the defect, or number of its kind"],
  ["p", "Probability that the undisturbed lattice looks as different by chance"],
  ["y, x (px)", "Scan position: row and column"],
];

/** @param {string} text */
function emptyNote(text) {
  return element("p", { class: "empty", text });
}

/** @param {Viewer} viewer */
export function defectsList(viewer) {
  /** @type {{y: number, x: number, kind: number, name: string | null, p: number}[]} */
  const defects = viewer.session.info.defects ?? [];
  const classes = classButtons(viewer);
  if (!defects.length) return classes ?? emptyNote("No defects are listed: stemvane symmetry searches a run for them.");
  const rows = defects.map((defect, number) => {
    const show = () => {
      const [rows, columns] = viewer.session.scanShape;
      const y = Math.min(Math.max(Math.round(defect.y), 0), rows - 1);
      const x = Math.min(Math.max(Math.round(defect.x), 0), columns - 1);
      viewer.store.set({ defect: number, cursor: [y, x], pattern: "cursor" });
      centre(viewer, y, x);
    };
    const isChosen = viewer.store.state.defect === number;
    return element("tr", { class: isChosen ? "chosen" : null }, [
      element("td", {}, [button(String(number + 1), "Centre map and pattern on this defect", show)]),
      element("td", { text: defect.name ?? `kind ${defect.kind}` }),
      element("td", { text: formatNumber(defect.p, 2) }),
      element("td", { text: `(${Math.round(defect.y)}, ${Math.round(defect.x)})` }),
    ]);
  });
  const kinds = [...new Set(defects.map((each) => each.kind))].sort((a, b) => a - b);
  const members = kinds.map((kind) =>
    button(`Kind ${kind}`, "Select the positions of all its members", () => {
      const points = defects.filter((each) => each.kind === kind).map(({ y, x }) => /** @type {[number, number]} */ ([Math.round(y), Math.round(x)]));
      viewer.store.set({ selection: { kind: "points", space: "scan", points } });
      viewer.askSelection(false);
    }),
  );
  return element("div", { class: "list" }, [
    element("div", { class: "choice" }, members),
    classes,
    element("table", {}, [
      element("thead", {}, [element("tr", {}, HEADINGS.map(([text, title]) => element("th", { scope: "col", text, title })))]),
      element("tbody", {}, rows),
    ]),
  ]);
}

/** Buttons that select the members of each class of the map that is shown, where it shows classes. @param {Viewer} viewer */
function classButtons(viewer) {
  const { shown } = viewer;
  if (shown?.entry.kind !== "class") return null;
  const { codes, low, step, missing } = shown.values;
  const values = [...new Set(codes)].filter((code) => code !== missing).map((code) => Math.round(low + step * code));
  const buttons = values
    .sort((a, b) => a - b)
    .slice(0, 60)
    .map((value) =>
      button(`${shown.entry.title} ${value}`, "Select the members of this class", () => {
        viewer.store.set({ selection: { kind: "class", map: shown.entry.name, value } });
        viewer.select(false);
      }),
    );
  return element("div", { class: "choice" }, buttons);
}

/**
 * Centre a zoomed map on a position.
 * @param {Viewer} viewer @param {number} y @param {number} x
 */
function centre(viewer, y, x) {
  const { panel } = viewer.page.map;
  const [rows, columns] = viewer.session.scanShape;
  if (panel.zoom === 1) panel.zoom = 3;
  panel.shift = [0.5 - (y + 0.5) / rows, 0.5 - (x + 0.5) / columns];
  panel.draw();
}

/** @param {Viewer} viewer */
export function labelsList(viewer) {
  const { annotations, writable, name } = viewer.session.info;
  if (!writable) return emptyNote("Labels are stored in a run: open one.");
  const { labels, detectors } = annotations;
  const add = button("Label the selection", "Name the selection and store it in the run", async () => {
    const { selection, cursor } = viewer.store.state;
    const called = await viewer.askName(selection ? "Name of the selection" : "Name of the position under the cursor", "");
    if (!called) return;
    const marked = selection ?? { kind: "points", space: "scan", points: [cursor] };
    await viewer.annotate({ labels: [...labels, { name: called, selection: marked }], detectors });
  });
  const rows = labels.map((/** @type {{name: string, selection: any}} */ label, /** @type {number} */ number) =>
    element("tr", {}, [
      element("td", { text: label.name }),
      element("td", { text: label.selection.kind }),
      element("td", {}, [
        button("Show", `Select what is labelled ${label.name}`, () => {
          viewer.store.set({ selection: label.selection });
          viewer.askSelection(false);
        }),
        button("Remove", `Remove the label ${label.name}`, () =>
          viewer.annotate({ labels: labels.filter((/** @type {any} */ _, /** @type {number} */ i) => i !== number), detectors }),
        ),
      ]),
    ]),
  );
  return element("div", { class: "list", "data-run": name }, [
    element("div", { class: "choice" }, [
      add,
      ...(labels.length ? [button("Labels as CSV", "Save all labelled positions, for model.labels of a model of kinds", () => viewer.download("labels"))] : []),
    ]),
    labels.length
      ? element("table", {}, [
          element("thead", {}, [element("tr", {}, ["Name", "Marked by", ""].map((text) => (text ? element("th", { scope: "col", text }) : element("td"))))]),
          element("tbody", {}, rows),
        ])
      : emptyNote("Nothing is labelled. Select positions, or none for the one under the cursor, and name them."),
  ]);
}

/** What another run is to do otherwise. @param {Viewer} viewer */
export function changesList(viewer) {
  const { changes, detector, selection, brush } = viewer.store.state;
  const set = (/** @type {Partial<import("./store.js").Changes>} */ part) => viewer.store.set({ changes: { ...changes, ...part } });
  const tools = (/** @type {"pixels" | "painted"} */ on, /** @type {string} */ what) =>
    [true, false].map((adds) => {
      const isHeld = brush?.on === on && brush.adds === adds;
      const title = adds ? `Paint ${what} that are left out` : `Take painted ${what} back`;
      const hold = () => viewer.store.set({ brush: isHeld ? null : { on, adds } });
      return element("button", { type: "button", text: adds ? "Paint" : "Erase", title, "aria-label": title, "aria-pressed": String(isHeld), onclick: hold });
    });
  const isDisc = detector?.shape === "disc";
  const take = button("Take the detector", "Take centre and radius of the disc-shaped virtual detector as optical axis and disc", () =>
    set({ axis: detector && [detector.y, detector.x], radius: detector?.outer ?? null }),
  );
  take.disabled = !isDisc;
  const leave = button("Leave out the selection", "Leave the selected positions out", () => selection && set({ positions: [...changes.positions, selection] }));
  leave.disabled = !selection;
  const clear = (/** @type {Partial<import("./store.js").Changes>} */ part, /** @type {string} */ what) => button("Clear", `Clear: ${what}`, () => set(part));
  const row = (/** @type {string} */ name, /** @type {string} */ text, /** @type {Node[]} */ tools) =>
    element("tr", {}, [element("th", { scope: "row", text: name }), element("td", { text }), element("td", {}, tools)]);
  const axis = changes.axis ? `(${formatNumber(changes.axis[0])}, ${formatNumber(changes.axis[1])}) px, radius ${formatNumber(changes.radius)} px` : "as before";
  return element("div", { class: "list" }, [
    element("table", {}, [
      element("tbody", {}, [
        row("Axis and disc", axis, [take, clear({ axis: null, radius: null }, "axis and disc")]),
        row("Bad pixels", `${changes.pixels.length} painted`, [...tools("pixels", "pixels of the pattern"), clear({ pixels: [] }, "bad pixels")]),
        row("Positions", `${changes.positions.length} ${changes.positions.length === 1 ? "selection" : "selections"} and ${changes.painted.length} painted left out`, [
          leave,
          ...tools("painted", "positions of the map"),
          clear({ positions: [], painted: [] }, "positions"),
        ]),
      ]),
    ]),
    element("div", { class: "choice" }, [button("Run again with these", "Show the command and its settings", () => viewer.showRerun())]),
  ]);
}

/** @param {Viewer} viewer */
export function findingsList(viewer) {
  /** @type {{severity: string, message: string, cure: string}[]} */
  const findings = viewer.session.info.findings ?? [];
  if (!findings.length) return emptyNote("Nothing was found that makes this scan or its result doubtful.");
  return element("ul", { class: "list findings" }, [
    ...findings.map(({ severity, message, cure }) =>
      element("li", { class: severity }, [element("strong", { text: severity }), ` ${message}${cure ? `; ${cure}` : ""}`]),
    ),
  ]);
}
