"""What 1 to 6 latents show of defects: their maps, and what each adds to a search and to names.

Run as ``python -m benchmarks.defects.latents`` (15 minutes on one core); draws ``docs/images/defect_latents.png``,
writes ``results/latents.json`` and prints the table of ``docs/symmetry.md``. One sheet of graphene with six defects, a
step of 0.2 Å. Sites are ranked by the latents alone (`DefectAnalysis.channels`), and by what the search decides with.
``--quick`` takes one and two latents and 10,000 electrons, printed only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.defects.scores import Places, auc
from benchmarks.harness.cells import ROOT, write_json
from stemvane import Dataset4D, Embedding, Measurements, RotationVAE, find_defects, measure, simulate, simulate_library
from stemvane.evaluation.com_agreement import explained_variance
from stemvane.figures.layout import WIDTH, Box, add_axes, label_panel
from stemvane.figures.panels import draw_map
from stemvane.figures.style import ANGLES, MAGNITUDES, STYLE
from stemvane.simulation.optics import poisson_counts

RESULTS = ROOT / "benchmarks" / "results" / "latents.json"
FIGURE = ROOT / "docs" / "images" / "defect_latents.png"
DEFECTS = {"N": 1, "B": 1, "P": 1, "Si-C3": 1, "vacancy": 1, "stone-wales": 1}
N, EXTENT, SEED = 108, 21.6, 4
DOSES = (100_000.0, 10_000.0)
MOST = 6
# Okabe and Ito, 2008
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def row_of(measured: Measurements, n_latent: int, library: Any) -> tuple[dict[str, Any], Embedding]:
    """Explained variance, AUC of every defect by the latents alone, and what the search says with them."""
    model = RotationVAE(n_latent).fit(measured, progress=False)
    embedding = model.embed(measured)
    analysis = find_defects(measured, embedding, library=library, progress=False)
    assert measured.atoms is not None
    truth = measured.atoms.defects
    assert truth is not None
    assert analysis.sites is not None
    assert analysis.defects is not None
    assert analysis.defects.naming is not None
    places = Places.of(analysis.sites.positions, analysis.sites.is_atom, truth)
    pristine = places.far & places.is_atom
    ranks: dict[str, dict[str, float]] = {}
    for what, p in (("latents", analysis.channels["latents"]), ("search", analysis.p)):
        score = -np.log(np.maximum(np.nan_to_num(p, nan=1.0), 1e-300))
        weights = np.ones(int(pristine.sum()))
        ranks[what] = {
            kind: float(auc(score[places.changed[places.owners == i]], score[pristine], weights).max())
            for i, kind in enumerate(truth.kinds)
        }
    right = 0
    for name, position in zip(analysis.defects.naming.names, analysis.defects.positions, strict=True):
        away = np.linalg.norm(truth.positions - position, axis=1)
        right += bool(away.min() < 1.6 and truth.kinds[int(away.argmin())] == name)
    row = {
        "n_latent": n_latent,
        "dose": measured.electrons_per_pattern,
        "explained": explained_variance(*model.misfit(measured, embedding)),
        "auc": ranks,
        "found": len(analysis.defects),
        "named": right,
    }
    return row, embedding


def draw(measured: Measurements, embeddings: list[Embedding], rows: list[dict[str, Any]], path: Path) -> None:
    """Dark field, rotation and all latents of every model, and how well the latents rank the sites; writes a PNG."""
    size, gap, head = 0.86, 0.1, 0.24
    step = measured.calibration.scan_step
    truth = measured.atoms.defects if measured.atoms is not None else None
    assert truth is not None
    height = len(embeddings) * (size + head) + 2.9
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        for i, embedding in enumerate(embeddings):
            top = 0.1 + i * (size + head)
            maps = [(embedding.angle, ANGLES, "rotation")]
            maps += [
                (part, MAGNITUDES, f"latent {k + 1}") for k, part in enumerate(np.moveaxis(embedding.latents, -1, 0))
            ]
            for j, (values, colors, title) in enumerate(maps):
                box = Box(0.1 + j * (size + gap), top + head, size, size)
                axes = add_axes(figure, box, f"{title}, {embedding.n_latent} latents")
                draw_map(axes, values, step, colors)
                words = f"{embedding.n_latent} latent{'s' if i else ''}: {title}" if j == 0 else title
                label_panel(figure, box, "", words, "")
        marks = add_axes(figure, Box(0.1, height - 2.35, 1.9, 1.9), "dark field")
        draw_map(marks, measured.maps["annular_dark_field"], step, MAGNITUDES)
        for kind, (y, x) in zip(truth.kinds, truth.positions, strict=True):
            marks.annotate(kind, (x, y), color="w", size=6, ha="center", va="bottom")
            marks.plot(x, y, "o", mfc="none", mec="w", ms=6, mew=0.7)
        label_panel(figure, Box(0.1, height - 2.35, 1.9, 1.9), "", "dark field, and what is where", "")
        for k, dose in enumerate(DOSES):
            box = Box(2.65 + 2.3 * k, height - 2.35, 1.75, 1.75)
            axes = add_axes(figure, box, f"ranks, {dose:,.0f}")
            of_dose = [row for row in rows if row["dose"] == dose]
            for kind, color in zip(DEFECTS, _COLOURS, strict=True):
                x = [row["n_latent"] for row in of_dose]
                axes.plot(
                    x, [row["auc"]["latents"][kind] for row in of_dose], "o-", color=color, ms=3, lw=1, label=kind
                )
            axes.set(xlabel="number of latents", ylim=(0.4, 1.03), ylabel="" if k else "ROC AUC by latents alone")
            axes.spines[["top", "right"]].set_visible(False)
            if not k:
                axes.legend(loc="lower right", ncols=2, handlelength=1.2, labelspacing=0.2, columnspacing=0.8)
            label_panel(figure, box, "", f"{dose:,.0f} electrons", "")
        figure.savefig(path, dpi=200, metadata={"Software": None})


def table(rows: list[dict[str, Any]]) -> str:
    """One row for each number of latents and dose."""
    kinds = " | ".join(DEFECTS)
    lines = [f"| electrons | latents | explained | {kinds} | lowest of the search | found, named right |"]
    lines.append("|" + "---|" * (5 + len(DEFECTS)))
    for row in rows:
        by_latents = " | ".join(f"{row['auc']['latents'][kind]:.3f}" for kind in DEFECTS)
        lines.append(
            f"| {row['dose']:,.0f} | {row['n_latent']} | {row['explained']:.3f} | {by_latents} "
            f"| {min(row['auc']['search'].values()):.3f} | {row['found']}, {row['named']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one and two latents at one dose, printed only")
    chosen = parser.parse_args()
    settings = {"scan_shape": (N, N), "scan_extent": (EXTENT, EXTENT), "defects": DEFECTS, "placement_seed": SEED}
    clean = simulate(**settings, progress=False)
    rows, shown, bright = [], [], None
    for dose in DOSES[1:] if chosen.quick else DOSES:
        counts = poisson_counts(np.asarray(clean.data) * np.float32(dose), SEED)
        dataset = Dataset4D.from_array(
            counts, calibration=clean.calibration, name="defects", atoms=clean.atoms, electrons_per_pattern=dose
        )
        measured = measure(dataset, progress=False)
        library = simulate_library(measured, folder=ROOT / "build" / "latents", progress=False)
        for n_latent in range(1, 3 if chosen.quick else MOST + 1):
            row, embedding = row_of(measured, n_latent, library)
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)
            if dose == DOSES[0]:
                bright = measured
                shown.append(embedding)
    if bright is not None:
        write_json({"rows": rows}, RESULTS)
        draw(bright, shown, rows, FIGURE)
    print(table(rows))


if __name__ == "__main__":
    main()
