"""Which lattice lies where in a scan: as many as it holds, each with the positions that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from stemvane.defects.lattice import LEAST_PERIODS, Distortion, Lattice, find_lattice
from stemvane.defects.numerics import median_and_spread
from stemvane.defects.periodic_fit import PeriodicSeries, fit_periodic
from stemvane.defects.sampling import Sampling
from stemvane.geometry.smoothing import gaussian_mean

__all__ = ["Domain", "find_domains"]

_Floats = NDArray[np.floating[Any]]

# All of these: `pytest tests/test_lattice.py -k "domain or field or edge"`, scans with the truth beside, `python -m
# benchmarks.scenes`, and `python -m benchmarks.defects.constants`.
# 0.5: a position follows a lattice where what this leaves, beyond the noise, is less than half of what it explains;
# with a quarter or all of it a sheet with six defects is the same at 3,000 electrons
_LEFT = 0.5
# 0.8 Å, half a bond, over which this is averaged; twice and four times as much where the noise of so few patterns is
# more than a fifth of what the lattice explains
_WIDTHS, _CLEAR = (0.8, 1.6, 3.2), 5.0
# 5 Å: where most positions within this distance do not follow, there is no lattice; what is smaller is a defect; with
# 2.5 a fifth of that sheet is not searched, with 10 it is the same
_EXTENDED = 5.0
# 3 Å: what is left between domains and edges, and narrower than twice this, is searched for no lattice of its own
_NARROW = 3.0
# 1.2 cells: Gaussian width over which the strength of a lattice is taken, and the least strength of a start over the
# most of the scan
_AROUND, _PRESENT = 1.2, 0.4
# 16 features that vary most, whose first orders show where a lattice is: noise of all others hides one of two small
# grains; `pytest tests/test_regions.py -k grains`
_N_CHANNELS = 16
# 5 rounds at most, of which 2 are enough in a sheet
_ROUNDS = 5
# halves and quarters of a scan along y and x, and its middle, in which a lattice may be that is not found in the whole
_PARTS = (
    ((0.0, 1.0), (0.0, 1.0)),
    ((0.0, 1.0), (0.0, 0.5)),
    ((0.0, 1.0), (0.5, 1.0)),
    ((0.0, 0.5), (0.0, 1.0)),
    ((0.5, 1.0), (0.0, 1.0)),
    ((0.0, 0.5), (0.0, 0.5)),
    ((0.0, 0.5), (0.5, 1.0)),
    ((0.5, 1.0), (0.0, 0.5)),
    ((0.5, 1.0), (0.5, 1.0)),
    ((0.25, 0.75), (0.25, 0.75)),
)
# share of such a part that has to be recorded, and to belong to no other lattice
_LEAST_RECORDED = 0.5


@dataclass(frozen=True, eq=False)
class Domain:
    """A lattice, and where in the scan it is.

    Attributes
    ----------
    lattice : Lattice
        Without distortion.
    region : ndarray of bool, shape (scan_y, scan_x)
        Positions that follow the lattice, defects among them.
    """

    lattice: Lattice
    region: NDArray[np.bool_]


def find_domains(channels: _Floats, sampling: Sampling, degree: int) -> list[Domain]:
    """Find all lattices of a scan.

    Parameters
    ----------
    channels : ndarray of float, shape (scan_y, scan_x, n_channels)
        Maps in units of their noise, those that vary most first.
    sampling : Sampling
        Where the maps were recorded, and up to which spatial frequency they hold anything.
    degree : int
        Highest degree of the distortion of a lattice.

    Returns
    -------
    list of Domain
        The largest first; none where no lattice is found.

    Notes
    -----
    A lattice that is found in the spectrum of the scan, or of a part of it, is fitted where it is strongest; all
    positions that follow the fit are its region, to which it is fitted again. What is left of the scan is searched for
    further lattices. A lattice counts only if its region is as large as three of its cells each way.
    """
    rest, domains = sampling.recorded, list[Domain]()
    while (domain := _find_next(channels, replace(sampling, recorded=rest), degree)) is not None:
        domains.append(domain)
        rest = _wide(rest & ~domain.region, sampling)
    return sorted(domains, key=lambda domain: -int(domain.region.sum()))


def _find_next(channels: _Floats, sampling: Sampling, degree: int) -> Domain | None:
    """The first lattice found in the whole, or in a part, that has a region."""
    for part in _parts(sampling):
        window = replace(sampling, recorded=sampling.recorded[part])
        lattice = find_lattice(channels[part], window)
        if lattice is not None and (domain := _grow(lattice, channels, sampling, degree)) is not None:
            return domain
    return None


def _parts(sampling: Sampling) -> Iterator[tuple[slice, slice]]:
    """Parts of which enough was recorded, beginning with the whole."""
    for ranges in _PARTS:
        top, left = (slice(round(a * n), round(b * n)) for (a, b), n in zip(ranges, sampling.shape, strict=True))
        recorded = sampling.recorded[top, left]
        is_whole = recorded.size == sampling.recorded.size
        if min(recorded.shape) > 2 and recorded.any() and (is_whole or recorded.mean() >= _LEAST_RECORDED):
            yield top, left


def _grow(lattice: Lattice, channels: _Floats, sampling: Sampling, degree: int) -> Domain | None:
    """The lattice fitted to where it is strongest, and then to all that follows it; None where that is too little."""
    least = (LEAST_PERIODS * np.linalg.norm(lattice.vectors, axis=1).max()) ** 2 / sampling.area
    region = _strength(lattice, channels, sampling) & sampling.recorded
    for number in range(_ROUNDS):
        if region.sum() < least:
            return None
        lattice = replace(lattice, distortion=_about(region, sampling))
        fit = fit_periodic(
            lattice, channels, replace(sampling, recorded=region), degree=degree if number else min(degree, 1)
        )
        grown = _following(fit.series, channels, sampling, region)
        is_done = number > 0 and np.array_equal(grown, region)
        lattice, region = fit.series.lattice, grown
        if is_done:
            break
    if region.sum() < least:
        return None
    return Domain(replace(lattice, distortion=_about(region, sampling)), region)


def _about(region: NDArray[np.bool_], sampling: Sampling) -> Distortion:
    """No distortion yet, of the rectangle that a region fills."""
    bounds = []
    for axis, step in enumerate(sampling.step):
        at = np.flatnonzero(region.any(axis=1 - axis))
        bounds.append((at[0] * step, max(at[-1] - at[0], 1) * step / 2) if len(at) else (0.0, step))
    first, half = np.array(bounds).T
    return Distortion(centre=first + half, half=half)


def _strength(lattice: Lattice, channels: _Floats, sampling: Sampling) -> NDArray[np.bool_]:
    """Positions around which the lattice is nearly as strong as anywhere.

    A map times the wave of an order, averaged over a cell or so, is the order's amplitude there; a lattice rotated by
    some degrees has hardly any.
    """
    longest = float(np.linalg.norm(lattice.vectors, axis=1).max())
    # the two spanning orders and others that are no finer
    orders = lattice.orders(1.05 * float(np.linalg.norm(lattice.reciprocal, axis=1).max()))
    recorded = sampling.recorded
    values = np.where(recorded[..., None], channels[..., :_N_CHANNELS], 0.0)
    values = (values - values[recorded].mean(axis=0)) * recorded[..., None]
    sigma = sampling.sigma(_AROUND * longest)
    power = np.zeros(sampling.shape)
    for wave in orders @ lattice.reciprocal:
        phase = np.exp(-2j * np.pi * (sampling.points @ wave)).reshape(sampling.shape)[..., None]
        for part in ((values * phase).real, (values * phase).imag):
            power += (ndimage.gaussian_filter(part, sigma, axes=(0, 1), mode="constant") ** 2).sum(axis=-1)
    # near an edge the average is over fewer, at a corner over a quarter
    share = ndimage.gaussian_filter(recorded.astype(float), sigma, mode="constant")
    power /= np.maximum(share, 0.25) ** 2
    return np.asarray(power >= _PRESENT * np.quantile(power[recorded], 0.95))


def _following(
    series: PeriodicSeries, channels: _Floats, sampling: Sampling, region: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Recorded positions that follow a series fitted in a region, but for what is as small as a defect."""
    recorded = sampling.recorded
    rows = channels.reshape(len(sampling.points), -1)
    left = rows - series.at(sampling.points)
    explained = (series.coefficients[1:] ** 2).sum(axis=0) / 2
    # as in a Wiener filter, channels in which the lattice is weaker than the noise hardly count
    weight = explained / (1 + explained)
    power, most = sampling.as_map(left**2 @ weight), float(explained @ weight)
    # neighbours differ by their noise, of which a Gaussian mean over an area of 4 π w² has as much less
    pairs = recorded[:, 1:] & recorded[:, :-1]
    spread = median_and_spread(np.diff(power, axis=1)[pairs])[1] / np.sqrt(2)
    clear = [w for w in _WIDTHS if most > _CLEAR * spread * np.sqrt(min(sampling.area / (4 * np.pi * w**2), 1.0))]
    if not clear:
        return np.zeros_like(region)
    smooth = gaussian_mean(power, recorded, sampling.sigma(clear[0]))
    off = recorded & (smooth - np.median(smooth[region]) > _LEFT * most)
    return recorded & ~_extended(off, recorded, sampling)


def _extended(off: NDArray[np.bool_], recorded: NDArray[np.bool_], sampling: Sampling) -> NDArray[np.bool_]:
    """What is off the lattice, and larger than a defect."""
    reach = [int(_EXTENDED / step) for step in sampling.step]
    y, x = (np.arange(-n, n + 1) * step for n, step in zip(reach, sampling.step, strict=True))
    disc = (y[:, None] ** 2 + x**2 <= _EXTENDED**2).astype(float)
    n_off, n_near = (signal.fftconvolve(part.astype(float), disc, "same") for part in (off, recorded))
    share = n_off / np.maximum(n_near, 0.5)
    core = recorded & (share > 0.5)
    # what hangs together with it, as a thin boundary does, where a disc of half the area lies in it or reaches beyond
    # what was recorded: beside the edge of a scan, and beside each other, defects fill half of their surroundings
    label, number = ndimage.label(off | core)
    follows = recorded & (label == 0)
    if not follows.any():
        return np.asarray(label > 0)
    depth = ndimage.distance_transform_edt(~follows, sampling=sampling.step)
    deepest = np.zeros(number + 1)
    np.maximum.at(deepest, label[core], depth[core])
    return np.asarray((label > 0) & (deepest[label] >= _EXTENDED / np.sqrt(2)))


def _wide(region: NDArray[np.bool_], sampling: Sampling) -> NDArray[np.bool_]:
    """A region without what is narrow."""
    inner = ndimage.distance_transform_edt(region, sampling=sampling.step) > _NARROW
    if region.all():
        return region
    if not inner.any():
        return np.zeros_like(region)
    return np.asarray(region & (ndimage.distance_transform_edt(~inner, sampling=sampling.step) <= _NARROW))
