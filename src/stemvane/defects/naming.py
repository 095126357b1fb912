"""Names of defects: the simulated one that is likeliest, at all its rotations and places together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi, cKDTree
from scipy.special import log_softmax, logsumexp

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
# 0.4: a name needs that less is left than this share of what there is, and of what the named defect adds;
# `pytest tests/test_naming.py -k lacks`
_MOST_LEFT = 0.4
# 0.25: a name needs that this share of what the named defect adds is explained, or what is weak would have any name;
# `pytest tests/test_naming.py -k weak`
_LEAST_EXPLAINED = 0.25
# 1.25: noise is what the usual pristine place has, times this, since some have more; at 1 three names of five are lost
# at 3,000 electrons, and two at 10,000
_NOISIER = 1.25
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
        A lattice vector ``(y, x)`` in Å.
    """

    names: tuple[str, ...]
    scans: tuple[Measurements, ...]
    pristine: Measurements
    vector: NDArray[np.float64]

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
        Name of each, `UNKNOWN` where none explains it.
    kind_names : tuple of str, shape (n_kinds,)
        Name that fits the defects of a kind best, all taken together.
    unexplained : ndarray of float, shape (n_defects,)
        Share of each defect's squared strength that its best fitting name leaves, beyond the noise.
    """

    names: tuple[str, ...]
    kind_names: tuple[str, ...]
    unexplained: NDArray[np.float64]


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
    The name is that of the highest likelihood, with noise known and white, of the description, less what strain of the
    lattice and a shift of some hundredths of an ångström explain. It is the mean over all rotations of the lattice and
    all places at which the search may have put the defect (MacKay, Information Theory, Inference, and Learning
    Algorithms, 2003, chapter 28), which are its atoms and its middle: the smallest difference alone would favour what
    looks different from every side, such as pairs, of which one always fits noise best.
    """
    _require_lattice(library, parts[0][1])
    compared = [_compare(library, described, fitted) for described, fitted in parts]
    by_defect, is_named, unexplained = (np.concatenate(part)[order] for part in zip(*compared, strict=True))
    names = [library.names[n] if k else UNKNOWN for n, k in zip(by_defect.argmax(axis=1), is_named, strict=True)]
    kind_names = []
    for number in range(int(kind.max(initial=-1)) + 1):
        members = kind == number
        best_name = library.names[int(by_defect[members].sum(axis=0).argmax())]
        kind_names.append(best_name if np.mean(is_named[members]) >= 0.5 else UNKNOWN)
    return Naming(tuple(names), tuple(kind_names), unexplained)


def _compare(
    library: DefectLibrary, described: Descriptions, fitted: FittedScan
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Log likelihoods (n_defects, n_names), whether the likeliest name fits, and the share that it leaves."""
    n = len(described)
    likelihoods, is_named, unexplained = np.zeros((n, len(library.names))), np.zeros(n, bool), np.ones(n)
    if n == 0 or _other_length(library, fitted) is not None:
        return likelihoods, is_named, unexplained
    templates = _templates(library, described, fitted)
    usual = float(np.median(described.pristine_power))
    level = described.excess_noise
    for i in range(n):
        misfit, strength = _misfits(described, i, templates)
        joint = templates.prior - misfit / (2 * level**2)
        likelihoods[i] = [logsumexp(joint[templates.numbers == number]) for number in range(len(library.names))]
        first = int(np.argmax(np.where(templates.numbers == np.argmax(likelihoods[i]), joint, -np.inf)))
        power = float(np.sum(np.abs(described.values[i]) ** 2 / described.noise[i]))
        fits = misfit[first] - _NOISIER * usual < _MOST_LEFT * max(min(strength[first], power - usual), 0.0)
        is_named[i] = fits and power - misfit[first] > _LEAST_EXPLAINED * strength[first]
        unexplained[i] = max(misfit[first] - usual, 0.0) / max(power - usual, 1e-12)
    return likelihoods, is_named, unexplained


def _other_length(library: DefectLibrary, fitted: FittedScan) -> NDArray[np.float64] | None:
    """Lengths of the lattice vectors where the lattice is not the library's."""
    lengths = np.linalg.norm(fitted.lattice.vectors, axis=1)
    length = float(np.linalg.norm(library.vector))
    is_hexagonal = len(lattice_rotations(fitted.lattice)) == 6
    return None if is_hexagonal and abs(lengths.mean() / length - 1) <= _OTHER_LENGTH else lengths


def _require_lattice(library: DefectLibrary, fitted: FittedScan) -> None:
    if (lengths := _other_length(library, fitted)) is not None:
        raise DataError(
            f"the scan's lattice of {lengths[0]:.3g} and {lengths[1]:.3g} Å is not the library's, a hexagonal one of "
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
