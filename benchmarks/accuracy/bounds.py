"""Cramér-Rao bounds: no unbiased estimate of a pattern's angle from its counts alone can scatter less.

Run as ``python -m benchmarks.accuracy.bounds``; prints the bounds of graphene at 100,000, 20,000 and 4,000 electrons
per pattern with the probe position unknown. The bound is on the standard deviation; the tables compare median absolute
errors, for which it is 0.6745 of that, as of a Gaussian.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.config import SimulationConfig
from stemvane.simulation.simulate import simulate
from stemvane.simulation.synthetic import synthetic_patterns
from stemvane.workflow.pipeline import demo_config

__all__ = ["MEDIAN_OF_DEVIATION", "analytic_bound", "fisher", "graphene_bound", "propagated"]

_Floats = NDArray[np.floating[Any]]

MEDIAN_OF_DEVIATION = 0.6745
"""Median absolute value of a Gaussian over its standard deviation."""
STEP = 0.02
"""Å, of the finite differences over the probe position."""
# an orthogonal cell of graphene: patterns repeat with it
CELL = (4.26, 2.46)
DARK = 1e-12


def fisher(expected: _Floats, derivatives: _Floats) -> NDArray[np.float64]:
    """Fisher information of Poisson counts, ``F_ab = Σ ∂_a λ ∂_b λ / λ``.

    Parameters
    ----------
    expected : ndarray of float, shape (..., m)
        Expected counts λ per sample.
    derivatives : ndarray of float, shape (..., p, m)
        Derivatives with respect to p parameters.

    Returns
    -------
    ndarray of float, shape (..., p, p)
    """
    lam = np.asarray(expected, np.float64)[..., None, :]
    weighted = np.divide(derivatives, lam, out=np.zeros(np.broadcast(derivatives, lam).shape), where=lam > DARK)
    return np.asarray(weighted @ np.swapaxes(derivatives, -1, -2))


def propagated(information: _Floats, gradient: _Floats) -> NDArray[np.float64]:
    """Smallest standard deviation of a function of the parameters, ``sqrt(gᵀ F⁻¹ g)``, shape (...)."""
    solved = np.linalg.solve(information, gradient[..., None])[..., 0]
    return np.asarray(np.sqrt(np.sum(gradient * solved, axis=-1)))


def graphene_bound(config: SimulationConfig | None = None, *, step: float = STEP) -> float:
    """Median bound of the COM direction, in degrees times the square root of the electrons per pattern.

    The two parameters are the probe position; patterns of a cell of graphene on a grid of so many Å give central
    differences. The median is over the positions whose |COM| is above 20 % of its maximum.
    """
    shape = tuple(round(side / step) for side in CELL)
    config = config or demo_config().simulation
    changes = {"scan_shape": shape, "scan_extent": [n * step for n in shape], "dose": None}
    dataset = simulate(config, **changes)
    patterns = np.asarray(dataset.data, np.float64)
    axis = dataset.calibration.optical_axis
    assert axis is not None
    rows, columns = np.indices(dataset.detector_shape)
    total = patterns.sum(axis=(2, 3))
    com = np.stack(
        [np.tensordot(patterns, r - a, axes=2) / total for r, a in zip((rows, columns), axis, strict=True)], axis=-1
    )
    com -= com.mean(axis=(0, 1))
    flat = patterns.reshape(*shape, -1)
    inner = (slice(1, -1), slice(1, -1))

    def slopes(values: _Floats) -> tuple[_Floats, _Floats]:
        down = (values[2:, 1:-1] - values[:-2, 1:-1]) / (2 * step)
        right = (values[1:-1, 2:] - values[1:-1, :-2]) / (2 * step)
        return down, right

    information = np.empty((shape[0] - 2, shape[1] - 2, 2, 2))
    for row in range(shape[0] - 2):
        three = flat[row : row + 3]
        information[row] = fisher(three[1:2, 1:-1], np.stack(slopes(three), axis=-2))[0]
    at = com[inner]
    # angle = atan2(-y, x)
    per_slope = [(-at[..., 1] * d[..., 0] + at[..., 0] * d[..., 1]) / np.sum(at**2, axis=-1) for d in slopes(com)]
    deviation = propagated(information, np.stack(per_slope, axis=-1))
    length = np.linalg.norm(com, axis=-1)
    return float(np.degrees(np.median(deviation[length[inner] > 0.2 * length.max()])))


def analytic_bound(truth: Any, detector_shape: tuple[int, int], symmetry: int = 1, n: int = 64) -> float:
    """Median bound of the angle of analytic patterns, in degrees times the square root of the electrons per pattern.

    The parameters are the angle and the amplitudes of all structures, those that do not turn too, as if their shapes
    were known. The median is over ``n`` positions of the scan.
    """
    chosen = np.random.default_rng(0).choice(truth.angle.size, min(n, truth.angle.size), replace=False)
    angle = truth.angle.reshape(1, -1)[:, chosen]
    content, fixed = (a.reshape(len(a), 1, truth.angle.size)[..., chosen] for a in (truth.content, truth.fixed))

    def draw(rotation: float = 0.0, more: int | None = None, step: float = 0.0) -> _Floats:
        amplitudes = np.concatenate([content, fixed])
        if more is not None:
            amplitudes[more] += step
        split = np.split(amplitudes, [len(content)])
        return synthetic_patterns(angle + rotation, *split, detector_shape, symmetry=symmetry).reshape(len(chosen), -1)

    step = 1e-3
    changes = [(draw(step) - draw(-step)) / (2 * step)]
    changes += [
        (draw(more=j, step=step) - draw(more=j, step=-step)) / (2 * step) for j in range(len(content) + len(fixed))
    ]
    information = fisher(draw(), np.stack(changes, axis=1))
    first = np.eye(len(changes))[np.zeros(len(chosen), int)]
    return float(np.degrees(np.median(propagated(information, first))))


def main() -> None:
    scale = graphene_bound()
    print("| electrons per pattern | standard deviation | median absolute error |\n|---|---|---|")
    for dose in (100_000, 20_000, 4_000):
        bound = scale / dose**0.5
        print(f"| {dose:,} | {bound:.2f}° | {MEDIAN_OF_DEVIATION * bound:.2f}° |")


if __name__ == "__main__":
    main()
