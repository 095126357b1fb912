"""A quantity from a few known values: `predict_quantity` beside straight lines on principal components and latents.

Run as ``python -m benchmarks.kinds.quantity``, 3 minutes; prints the table. Each row is of 40 draws of the positions
where the quantity is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA

from benchmarks.grains.scenes import LATTICES
from benchmarks.kinds.scenes import polycrystal
from stemvane import AlignedPCA, Dataset4D, Embedding, Measurements, measure, predict_quantity, synthetic
from stemvane.data.calibration import Calibration

__all__: list[str] = []

_Doubles = NDArray[np.float64]

_KNOWN, _N_DRAWS, _LEVEL = (5, 10, 20), 40, 0.9
_DOSES = (20_000.0, 1_000.0)
# of the straight lines the best is taken, once the truth is known
_N_SCORES = (1, 2, 4)


def main() -> None:
    warnings.filterwarnings("ignore")
    print(
        "| quantity | electrons | known at | ours: rms error, in 90 % intervals | width of these |"
        " straight line on the same latents | width | on PCA scores | width |\n"
        f"|{'---|' * 9}"
    )
    for dose in _DOSES:
        for name, measured, truth in scans(dose):
            embedding = AlignedPCA(2).fit(measured, progress=False).embed(measured)
            scores = scores_of(measured)
            for n in _KNOWN:
                print(row(name, dose, n, embedding, scores, truth), flush=True)


def scans(dose: float) -> Iterator[tuple[str, Measurements, _Doubles]]:
    """Scans with a quantity: its name, the scan, and its true values."""
    expected, _, _, thickness = polycrystal(0, ((LATTICES["hexagon"], False),), 32)
    counts = np.random.default_rng(4).poisson(np.maximum(expected * dose, 0)).astype(np.uint16)
    calibration = Calibration(scan_step=(20.0, 20.0), energy=200e3)
    grains = Dataset4D.from_array(counts, calibration=calibration, electrons_per_pattern=dose)
    yield "thickness of tilted grains", measure(grains, progress=False), thickness
    dataset, truth = synthetic((32, 32), (48, 48), dose=dose)
    yield "strength of a content", measure(dataset, progress=False), np.asarray(truth.content[0], np.float64)


def scores_of(measured: Measurements) -> _Doubles:
    """Principal components of the square root of polar patterns, which makes counting noise alike everywhere."""
    polar = np.concatenate(list(measured.polar_blocks(measured.recorded))).astype(float)
    return np.asarray(
        PCA(max(_N_SCORES), random_state=0).fit_transform(np.sqrt(np.maximum(polar, 0)).reshape(len(polar), -1))
    )


def row(name: str, dose: float, n: int, embedding: Embedding, scores: _Doubles, truth: _Doubles) -> str:
    """One row of the table."""
    latents = embedding.latents.reshape(truth.size, -1).astype(float)
    draws = [np.random.default_rng([draw, n]).choice(truth.size, n, replace=False) for draw in range(_N_DRAWS)]
    ours = []
    for chosen in draws:
        places = np.stack(np.unravel_index(chosen, truth.shape), axis=1)
        found = predict_quantity(embedding, {(int(y), int(x)): float(truth[y, x]) for y, x in places})
        low, high = found.interval(_LEVEL)
        ours.append(scored(found.mean.ravel(), low.ravel(), high.ravel(), truth.ravel(), chosen))
    parts = []
    for results in (ours, best_line(latents, truth, draws), best_line(scores, truth, draws)):
        error, held, width = np.array(results).T
        parts += [f"{np.median(error):.2f}, {100 * held.mean():.0f} %", f"{np.median(width):.2f}"]
    return f"| {name} | {dose:,.0f} | {n} | {' | '.join(parts)} |"


def best_line(values: _Doubles, truth: _Doubles, draws: list[NDArray[np.int64]]) -> list[tuple[float, float, float]]:
    """Scores of straight lines on the first values, for every draw, with the number of values that is best."""
    lines = [
        [scored(*straight(values[:, :k], truth.ravel(), chosen), truth.ravel(), chosen) for chosen in draws]
        for k in _N_SCORES
        if k <= values.shape[1] and len(draws[0]) > k + 2
    ]
    return min(lines, key=lambda results: np.median([part[0] for part in results]))


def scored(
    mean: _Doubles, low: _Doubles, high: _Doubles, truth: _Doubles, known: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Rms error, share that intervals hold, and their width; lengths in standard deviations of the quantity."""
    others = np.delete(np.arange(truth.size), known)
    size = truth.std()
    error = np.sqrt(np.mean((mean - truth)[others] ** 2)) / size
    held = ((low <= truth) & (truth <= high))[others].mean()
    return float(error), float(held), float(np.median((high - low)[others]) / size)


def straight(scores: _Doubles, truth: _Doubles, known: NDArray[np.int64]) -> tuple[_Doubles, _Doubles, _Doubles]:
    """Least squares, and its interval of prediction by Student's t."""
    terms = np.column_stack([np.ones(len(scores)), scores])
    inside = terms[known]
    solution = np.linalg.lstsq(inside, truth[known], rcond=None)[0]
    freedom = len(known) - terms.shape[1]
    variance = ((truth[known] - inside @ solution) ** 2).sum() / freedom
    leverage = np.einsum("ni,ij,nj->n", terms, np.linalg.pinv(inside.T @ inside), terms)
    half = stats.t.ppf((1 + _LEVEL) / 2, freedom) * np.sqrt(variance * (1 + leverage))
    mean = terms @ solution
    return mean, mean - half, mean + half


if __name__ == "__main__":
    main()
