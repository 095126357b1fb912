"""What 1 to 6 latents show of defects: their maps, and what each adds to finding them and to telling them apart.

Run as ``python -m benchmarks.defects.latents`` (10 minutes on one core); draws ``docs/images/defect_latents.png``,
writes ``results/latents.json`` and prints the table of ``benchmarks/README.md``. One sheet of graphene with six
defects, a step of 0.2 Å. The latents around every site are pooled as in `benchmarks.defects.methods`: a site ranks by
how far they are from those of its sublattice, and two defects are told apart where theirs differ by more than noise
would make one in a thousand. The search of `find_defects`, which takes nothing from a model, stands beside. ``--quick``
takes one and two latents and 3,000 electrons, printed only.
"""

from __future__ import annotations

import argparse
import io
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from benchmarks.defects.methods import Prepared, embedding_of_nothing, scored
from benchmarks.defects.scores import Places, auc, mahalanobis, robust_z
from benchmarks.harness.cells import ROOT, machine, write_json
from stemvane import Dataset4D, Embedding, Measurements, RotationVAE, find_defects, measure, simulate, simulate_library
from stemvane.evaluation.com_agreement import explained_variance
from stemvane.figures.layout import WIDTH, Box, add_axes
from stemvane.figures.panels import draw_map
from stemvane.figures.style import ANGLES, MAGNITUDES, STYLE
from stemvane.simulation.optics import poisson_counts

RESULTS = ROOT / "benchmarks" / "results" / "latents.json"
FIGURE = ROOT / "docs" / "images" / "defect_latents.png"
DEFECTS = {"N": 1, "B": 1, "P": 1, "Si-C3": 1, "vacancy": 1, "stone-wales": 1}
N, EXTENT, SEED = 108, 21.6, 4
DOSES = (100_000.0, 3_000.0)
MOST = 6
# one in a thousand
_CHANCE = 0.001
# Å between a defect and where the search puts it
_NEAR = 1.6
# Okabe and Ito, 2008
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def recorded(dose: float, clean: Dataset4D) -> Dataset4D:
    """The sheet at a dose in electrons per pattern."""
    counts = poisson_counts(np.asarray(clean.data) * np.float32(dose), SEED)
    return Dataset4D.from_array(
        counts, calibration=clean.calibration, name="defects", atoms=clean.atoms, electrons_per_pattern=dose
    )


def of_search(measured: Measurements, folder: Path) -> tuple[Prepared, Places, dict[str, Any]]:
    """The sites, which of them are changed, and what the search finds and names without a model."""
    library = simulate_library(measured, folder=folder, progress=False)
    analysis = find_defects(measured, embedding_of_nothing(measured.scan_shape), library=library, progress=False)
    assert measured.atoms is not None
    truth = measured.atoms.defects
    assert truth is not None
    assert analysis.sites is not None
    assert analysis.defects is not None
    assert analysis.defects.naming is not None
    places = Places.of(analysis.sites.positions, analysis.sites.is_atom, truth)
    right = 0
    for name, position in zip(analysis.defects.naming.names, analysis.defects.positions, strict=True):
        away = np.linalg.norm(truth.positions - position, axis=1)
        right += bool(away.min() < _NEAR and truth.kinds[int(away.argmin())] == name)
    row = {"auc": ranks(scored(analysis.p), places), "found": len(analysis.defects), "named": right}
    return Prepared(measured, measured, analysis), places, row


def of_latents(prepared: Prepared, places: Places, n_latent: int) -> tuple[dict[str, Any], Embedding]:
    """Explained variance, AUC of every defect by the latents alone, and pairs of defects that they tell apart."""
    measured = prepared.measurements
    model = RotationVAE(n_latent).fit(measured, progress=False)
    embedding = model.embed(measured)
    pooled = prepared.pool(embedding.latents)
    distances = mahalanobis(pooled, prepared.sites.sublattices)
    apart = told_apart(pooled, distances, prepared.sites.sublattices, places)
    row = {
        "n_latent": n_latent,
        "explained": explained_variance(*model.misfit(measured)),
        "auc": ranks(distances, places),
        "apart": apart,
    }
    return row, embedding


def ranks(scores: NDArray[np.float64], places: Places) -> dict[str, float]:
    """Share of the pristine atoms above which the best atom of every defect ranks."""
    pristine = scores[places.far & places.is_atom]
    weights = np.ones(len(pristine))
    return {
        kind: float(auc(scores[places.changed[places.owners == i]], pristine, weights).max())
        for i, kind in enumerate(places.kinds)
    }


def told_apart(
    pooled: NDArray[np.float64], distances: NDArray[np.float64], sublattices: NDArray[np.int64], places: Places
) -> list[list[str]]:
    """Pairs of defects whose latents, less those of the sublattice, differ by more than noise."""
    z = np.stack([robust_z(column, sublattices) for column in pooled.T], axis=1)
    pristine = z[places.far & places.is_atom]
    covariance = np.atleast_2d(np.cov(pristine.T)) + 1e-9 * np.eye(z.shape[1])
    strongest = []
    for i in range(len(places.kinds)):
        members = places.changed[places.owners == i]
        strongest.append(z[members[distances[members].argmax()]])
    # both have noise
    limit = 2 * stats.chi2.isf(_CHANCE, z.shape[1])
    return [
        [places.kinds[i], places.kinds[j]]
        for i, j in combinations(range(len(places.kinds)), 2)
        if (off := strongest[i] - strongest[j]) @ np.linalg.solve(covariance, off) > limit
    ]


def draw(measured: Measurements, embeddings: list[Embedding], rows: list[dict[str, Any]], path: Path) -> None:
    """Rotation and all latents of every model, dark field, and how latents rank sites at the low dose; writes a PNG."""
    size, gap, head = 0.88, 0.1, 0.2
    step = measured.calibration.scan_step
    truth = measured.atoms.defects if measured.atoms is not None else None
    assert truth is not None
    height = len(embeddings) * (size + head) + 2.7
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        for i, embedding in enumerate(embeddings):
            maps = [(embedding.angle, ANGLES, f"{embedding.n_latent} latent{'s' if i else ''}: rotation")]
            maps += [
                (part, MAGNITUDES, f"latent {k + 1}") for k, part in enumerate(np.moveaxis(embedding.latents, -1, 0))
            ]
            for j, (values, colors, title) in enumerate(maps):
                box = Box(0.1 + j * (size + gap), (i + 1) * head + i * size, size, size)
                axes = add_axes(figure, box, f"{title}, {embedding.n_latent} latents")
                draw_map(axes, values, step, colors)
                axes.set_title(title, size=6, pad=2)
        box = Box(0.1, height - 2.2, 2.1, 2.1)
        marks = add_axes(figure, box, "dark field")
        draw_map(marks, measured.maps["annular_dark_field"], step, MAGNITUDES)
        marks.set_title("dark field, and the defects", size=6, pad=2)
        for kind, (y, x) in zip(truth.kinds, truth.positions, strict=True):
            at = "left" if x < EXTENT / 2 else "right"
            marks.annotate(
                kind, (x, y), (0, 5), textcoords="offset points", color="w", size=6, ha=at, va="bottom", weight="bold"
            )
            marks.plot(x, y, "o", mfc="none", mec="w", ms=7, mew=0.8)
        axes = add_axes(figure, Box(2.9, height - 2.2, 2.6, 1.8), "ranks")
        low = [row for row in rows if row["dose"] == min(DOSES)]
        for kind, color in zip(DEFECTS, _COLOURS, strict=True):
            x, y = zip(*((row["n_latent"], row["auc"][kind]) for row in low), strict=True)
            axes.plot(x, y, "o-", color=color, ms=3, lw=1, label=kind)
        axes.set(xlabel="number of latents", ylim=(-0.03, 1.03), ylabel="ROC AUC by latents alone")
        axes.set_title(f"{min(DOSES):,.0f} electrons", size=6, pad=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), handlelength=1.2, frameon=False)
        content = io.BytesIO()
        figure.savefig(content, dpi=150)
    # a third of the size, and no map has more colours
    Image.open(content).convert("RGB").quantize(256).save(path, optimize=True)


def table(rows: list[dict[str, Any]]) -> str:
    """One row for each number of latents and dose, and one of the search without a model."""
    lines = [f"| electrons | latents | explained | {' | '.join(DEFECTS)} | pairs told apart | found | right name |"]
    lines.append("|" + "---|" * (6 + len(DEFECTS)))
    n_pairs = len(DEFECTS) * (len(DEFECTS) - 1) // 2
    for row in rows:
        ranked = " | ".join(f"{row['auc'][kind]:.3f}" for kind in DEFECTS)
        if "found" in row:
            lines.append(f"| {row['dose']:,.0f} | search |  | {ranked} |  | {row['found']} | {row['named']} |")
        else:
            explained, apart = f"{row['explained']:.3f}", f"{len(row['apart'])} of {n_pairs}"
            lines.append(f"| {row['dose']:,.0f} | {row['n_latent']} | {explained} | {ranked} | {apart} |  |  |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one and two latents at one dose, printed only")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "latents", help="where the library is kept")
    chosen = parser.parse_args()
    clean = simulate(
        scan_shape=(N, N), scan_extent=(EXTENT, EXTENT), defects=DEFECTS, placement_seed=SEED, progress=False
    )
    rows: list[dict[str, Any]] = []
    shown, bright = [], None
    for dose in DOSES[1:] if chosen.quick else DOSES:
        measured = measure(recorded(dose, clean), progress=False)
        prepared, places, row = of_search(measured, chosen.work)
        rows.append({"dose": dose, **row})
        for n_latent in range(1, 3 if chosen.quick else MOST + 1):
            row, embedding = of_latents(prepared, places, n_latent)
            rows.append({"dose": dose, **row})
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            if dose == DOSES[0]:
                bright = measured
                shown.append(embedding)
    if bright is not None:
        write_json({"machine": machine(), "rows": rows}, RESULTS)
        draw(bright, shown, [row for row in rows if "n_latent" in row], FIGURE)
    print(table(rows))


if __name__ == "__main__":
    main()
