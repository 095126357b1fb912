"""Names of defects: the simulated one that is likeliest, at all its rotations and places together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi, cKDTree
from scipy.special import log_softmax, logsumexp, softmax

from stemvane.data.measurements import Measurements
from stemvane.data.scan_geometry import probe_positions
from stemvane.defects.descriptions import SHIFT, Descriptions, displace
from stemvane.defects.fitted_scan import FittedScan
from stemvane.defects.gauss_laguerre import Window
from stemvane.defects.lattice import lattice_rotations
from stemvane.defects.numerics import as_real, misfit_beyond_shift
from stemvane.defects.sites import Sites
from stemvane.defects.strain import without_strain
from stemvane.defects.surroundings import Surroundings
from stemvane.errors import DataError

__all__ = ["FARTHEST", "UNKNOWN", "DefectLibrary", "Naming", "name_defects"]

_Floats = NDArray[np.floating[Any]]

FARTHEST = 1.6
"""Å between a defect's centre and the place in the lattice at which the search has put it."""

UNKNOWN = "unknown"
"""Name of what no defect of the library explains."""

# All of these: `python -m benchmarks.defects.constants`.
# 0.25 Å between a defect's atoms or middle and where the search puts it; with places all alike, a single nitrogen atom
# may get the name of a pair
_SPREAD = 0.25
# 0.005 of its squared strength: by how much a defect may differ from the simulated one and be of its kind; right names
# leave less in ideal scenes; `python -m benchmarks.defects.odds`
_OF_ONE_KIND = 0.005
# 0.95 to 1.25: noise around a defect over that around the usual pristine place; heavy atoms, whose counts are few and
# scattered far, have 1.05 to 1.15; `python -m benchmarks.defects.odds`
_LEAST_NOISE, _MOST_NOISE = 0.95, 1.25
# steps over which noise and differences are averaged
_N_LEVELS, _N_DIFFERENCES = 7, 12
# 0.05: share by which a lattice constant may be off, the error of a scan's step; `pytest tests/test_naming.py -k
# lattice`
_OTHER_LENGTH = 0.05


@dataclass(frozen=True, eq=False)
class DefectLibrary:
    """Simulated scans of one defect each, and of the same places without it.

    Attributes
    ----------
    names : tuple of str
        Kind of each defect.
    scans : tuple of Measurements
        Noiseless scans with one defect each, which ``atoms`` has; on a grid of as many rings and sectors as the scan
        whose defects are to be named, out to as many disc radii, and without a scan rotation.
    pristine : Measurements
        Patterns at these positions of the same lattice without a defect.
    vector : ndarray of float, shape (2,)
        A lattice vector ``(y, x)`` in Å, one of the shortest.
    n_rotations : int
        Rotations that map the lattice onto itself: 6 of a hexagonal one, 4 of a square one.
    probe : str
        What was simulated with which probe, and where that is from.
    """

    names: tuple[str, ...]
    scans: tuple[Measurements, ...]
    pristine: Measurements
    vector: NDArray[np.float64]
    n_rotations: int = 6
    probe: str = ""

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Atoms, hollows and bond centres ``(y, x)`` in Å of the pristine lattice, at which a centre may be."""
        assert self.pristine.atoms is not None
        atoms = np.unique(np.round(self.pristine.atoms.positions, 4), axis=0)
        sites = Sites(atoms, ("atom",) * len(atoms), np.zeros(len(atoms), np.int64))
        hollows = np.unique(np.round(Voronoi(atoms).vertices, 2), axis=0)
        return np.concatenate([atoms, sites.bond_centres, hollows])


@dataclass(frozen=True, eq=False)
class Naming:
    """What a library says of the defects that were found.

    Attributes
    ----------
    names : tuple of str, shape (n_defects,)
        Likeliest name of each, `UNKNOWN` where that is none of the library's.
    kind_names : tuple of str, shape (n_kinds,)
        Likeliest name of the defects of a kind, all taken together.
    unexplained : ndarray of float, shape (n_defects,)
        Share of each defect's squared strength that its best fitting name leaves, beyond the noise.
    probabilities : ndarray of float, shape (n_defects, n_names + 1)
        Posterior of every name of `candidates`.
    kind_probabilities : ndarray of float, shape (n_kinds, n_names + 1)
        The same of every kind.
    candidates : tuple of str, shape (n_names + 1,)
        Names of the library, then `UNKNOWN`.
    """

    names: tuple[str, ...]
    kind_names: tuple[str, ...]
    unexplained: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    kind_probabilities: NDArray[np.float64]
    candidates: tuple[str, ...]

    def ranked(self, defect: int, place: int) -> tuple[str, float]:
        """Name and probability that a defect has at a place, 0 for the likeliest."""
        number = int(np.argsort(-self.probabilities[defect], kind="stable")[place])
        return self.candidates[number], float(self.probabilities[defect, number])


@dataclass(frozen=True, eq=False)
class _Templates:
    """What every defect of a library looks like at every rotation of the lattice, from every place near its centre.

    `prior` is the logarithm of how probable rotation and place are, given the defect.
    """

    values: NDArray[np.complex128]
    shifts: NDArray[np.complex128]
    numbers: NDArray[np.int64]
    prior: NDArray[np.float64]


def name_defects(
    library: DefectLibrary,
    parts: Sequence[tuple[Descriptions, FittedScan]],
    order: NDArray[np.int64],
    kind: NDArray[np.int64],
) -> Naming:
    """Compare defects with those of a library.

    Parameters
    ----------
    library : DefectLibrary
        What there may be.
    parts : sequence of tuple
        Descriptions of the defects of each lattice, and that lattice fitted to the scan.
    order : ndarray of int, shape (n_defects,)
        Which of the defects of all parts, one after the other, is the first, the second and so on.
    kind : ndarray of int, shape (n_defects,)
        Kind of each.

    Returns
    -------
    Naming
        Defects of further lattices that are not the library's are `UNKNOWN`.

    Raises
    ------
    DataError
        If the first lattice is another one than the library's.

    Notes
    -----
    The likelihood is that of a description, less what strain of the lattice and a shift of some hundredths of an
    ångström explain, in white noise whose level is known to some per cent. It is the mean over all rotations of the
    lattice and all places at which the search may have put the defect (MacKay, Information Theory, Inference, and
    Learning Algorithms, 2003, chapter 28), which are its atoms and its middle: the smallest difference alone would
    favour what looks different from every side, such as pairs, of which one always fits noise best. Simulated and real
    defects differ: a difference of so many per cent of the squared strength is more noise, small for a defect of the
    library's own kind. What is of none of its kinds is anything that differs from one of them by more, up to its whole
    strength, or is nothing at all. All names, and none of them, are equally probable beforehand.
    """
    _require_lattice(library, parts[0][1])
    compared = [_compare(library, described, fitted) for described, fitted in parts]
    evidence, unexplained = (np.concatenate(part)[order] for part in zip(*compared, strict=True))
    candidates = (*library.names, UNKNOWN)
    members = [evidence[kind == number] for number in range(int(kind.max(initial=-1)) + 1)]
    together = np.array([part.sum(axis=0) for part in members]).reshape(-1, len(candidates))
    return Naming(
        tuple(candidates[number] for number in evidence.argmax(axis=1)),
        tuple(candidates[number] for number in together.argmax(axis=1)),
        unexplained,
        softmax(evidence, axis=1),
        softmax(together, axis=1),
        candidates,
    )


def _compare(
    library: DefectLibrary, described: Descriptions, fitted: FittedScan
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log evidence (n_defects, n_names + 1) of every name and of none, and the share that the likeliest name leaves."""
    n, n_names = len(described), len(library.names)
    evidence, unexplained = np.full((n, n_names + 1), -np.inf), np.ones(n)
    evidence[:, -1] = 0
    if n == 0 or _other_length(library, fitted) is not None:
        return evidence, unexplained
    templates = _templates(library, described, fitted)
    usual = float(np.median(described.pristine_power))
    for i in range(n):
        misfit, strength = _misfits(described, i, templates)
        power = float(np.sum(np.abs(described.values[i]) ** 2 / described.noise[i]))
        evidence[i] = _evidence(templates, misfit, strength, power, described)
        of_name = templates.numbers == evidence[i, :-1].argmax()
        left = misfit[of_name][np.argmax((templates.prior - misfit / 2)[of_name])]
        unexplained[i] = max(left - usual, 0.0) / max(power - usual, 1e-12)
    return evidence, unexplained


def _evidence(
    templates: _Templates,
    misfit: NDArray[np.float64],
    strength: NDArray[np.float64],
    power: float,
    described: Descriptions,
) -> NDArray[np.float64]:
    """Log evidence of every name, and of none of them, shape ``(n_names + 1,)``."""
    n = described.n_coordinates
    noise = np.linspace(_LEAST_NOISE, _MOST_NOISE, _N_LEVELS) * described.excess_noise**2
    # what is of none of the kinds differs by any order of magnitude alike
    differences = np.geomspace(_OF_ONE_KIND, 1, _N_DIFFERENCES)
    variance = noise[:, None, None] + differences[:, None] * strength / n
    joint = templates.prior - (n * np.log(variance) + misfit / variance) / 2
    # templates of a name lie side by side
    starts = np.flatnonzero(np.diff(templates.numbers, prepend=-1))
    by_difference = logsumexp(np.logaddexp.reduceat(joint, starts, axis=-1), axis=0) - np.log(len(noise))
    nothing = logsumexp(-(n * np.log(noise) + power / noise) / 2) - np.log(len(noise))
    others = logsumexp(by_difference) - np.log(by_difference.size)
    return np.append(by_difference[0], np.logaddexp(others, nothing) - np.log(2))


def _other_length(library: DefectLibrary, fitted: FittedScan) -> NDArray[np.float64] | None:
    """Lengths of the lattice vectors where the lattice is not the library's."""
    lengths = np.linalg.norm(fitted.lattice.vectors, axis=1)
    length = float(np.linalg.norm(library.vector))
    is_alike = len(lattice_rotations(fitted.lattice)) == library.n_rotations
    return None if is_alike and abs(lengths.mean() / length - 1) <= _OTHER_LENGTH else lengths


def _require_lattice(library: DefectLibrary, fitted: FittedScan) -> None:
    if (lengths := _other_length(library, fitted)) is not None:
        word = "hexagonal" if library.n_rotations == 6 else "square"
        raise DataError(
            f"the scan's lattice of {lengths[0]:.3g} and {lengths[1]:.3g} Å is not the library's, a {word} one of "
            f"{float(np.linalg.norm(library.vector)):.3g} Å; check the scan step, or leave the library out"
        )


def _templates(library: DefectLibrary, described: Descriptions, fitted: FittedScan) -> _Templates:
    """All templates in the orientation of the scan, length and noise."""
    basis, lattice, window = fitted.basis, fitted.lattice, fitted.window
    length = float(np.linalg.norm(library.vector))
    rotations = lattice_rotations(lattice)
    lengths = np.linalg.norm(lattice.vectors, axis=1)
    scale = length / lengths.mean()
    direction = fitted.direction - np.arctan2(-library.vector[0], library.vector[1])
    step = library.pristine.calibration.scan_step
    assert step is not None
    points = probe_positions(library.pristine.scan_shape, step)
    # one total for all, so that what a defect scatters off the detector is not made up for
    total = library.pristine.maps["total"]
    without = basis.features(library.pristine)
    phases = described.phases(direction + rotations) * np.exp(
        1j * described.circular_orders * fitted.scan.scan_rotation
    )
    scaled_window = Window(window.width * scale, window.degree)
    area = step[0] * step[1]
    factor = np.sqrt(area / fitted.around.area) / scale
    values, shifts, numbers, prior = [], [], [], []
    for number, scan in enumerate(library.scans):
        assert scan.atoms is not None
        assert scan.atoms.defects is not None
        centre = scan.atoms.defects.positions[0]
        added = (basis.features(replace(scan, maps={**scan.maps, "total": total})) - without) / basis.counting
        near = library.places[np.linalg.norm(library.places - centre, axis=1) <= FARTHEST]
        around = Surroundings(Sites.at(near), points, area, scaled_window.width)
        template = factor * around.expand(added.astype(np.complex128), scaled_window)
        moved = factor * scale * displace(around, added.astype(np.complex128), scaled_window)
        # a shift rotates with what is shifted, but any two of its directions span the same
        values.append((template[:, None] * phases).reshape(-1, *template.shape[1:]))
        shifts.append((moved[:, None] * phases[:, None]).reshape(-1, *moved.shape[1:]))
        numbers.append(np.full(len(values[-1]), number))
        # the search puts a defect at one of its atoms or at its middle
        away = cKDTree([centre, *scan.atoms.defects.sites]).query(near)[0]
        prior.append(np.repeat(log_softmax(-((away / _SPREAD) ** 2) / 2) - np.log(len(rotations)), len(rotations)))
    return _Templates(*map(np.concatenate, (values, shifts, numbers, prior)))


def _misfits(described: Descriptions, i: int, templates: _Templates) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared difference of one defect from every template, and the templates' squared strength."""
    sigma, directions = np.sqrt(described.noise[i]), described.strain[[i]]
    half = described.values[i].size
    values = as_real((without_strain(templates.values[None], directions)[0] / sigma).reshape(-1, half))
    shifts = as_real((without_strain(templates.shifts[None], directions)[0] / sigma).reshape(-1, 2, half))
    off = as_real((described.values[i] / sigma).reshape(half)) - values
    return misfit_beyond_shift(off[:, None], shifts, SHIFT)[0][:, 0], (values**2).sum(axis=1)
