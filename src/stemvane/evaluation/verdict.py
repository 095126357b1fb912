"""The verdict: what a scan and its embedding have that makes a result doubtful, as findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.data.embedding import Embedding
from stemvane.data.findings import Finding, sort_findings
from stemvane.data.measurements import LEAST_ANALOGUE, Measurements
from stemvane.data.quantity_map import QuantityMap
from stemvane.data.representation import format_count
from stemvane.evaluation.com_agreement import angle_difference, compare_angles, neighbour_mean
from stemvane.evaluation.scan_noise import fine_noise
from stemvane.features.aberrations import aberrations_that_matter
from stemvane.reduction.shift_fit import fit_shift

__all__ = ["judge"]

# fewer positions can hold neither a template nor two latents, and agree with anything
_TOO_FEW = 16
_FEW = 100
# an embedding that varies by less than this share of its own uncertainty, or of a radian, does not vary
_SAME = 1e-2
# a map of the specimen has a plane in it by chance of about 2/n; one that is a plane for the most part is the scan's
_PLANE = 0.25
# discs of a crystal lie beyond so many radii of the direct beam; where a convergent beam's patterns are noisy, its edge
# and the pixels around it are all that is seen to differ: half of it within 0.7 to 1.5 radii for graphene
_CLEAR = 2.0
# angles that differ by more than both uncertainties allow, in degrees and in multiples of what these make one expect
_DIFFERENCE = 10.0
_CONTRADICTION = 20.0
_MULTIPLE = 1.5
_WHICH = "take the filtered COM for the deflection, and the model's angle for the content"
# share of positions where they differ beyond the 95 % that both uncertainties explain
_APART = 0.2
# what is left of the beam's shift, over what the specimen and noise do
_SHIFT_LEFT = 0.5
# an edge column that differs from the others by so many of their standard deviations is none of them
_COLUMN = 8.0
# counts per electron below this are of data that were scaled or filtered
_LEAST_COUNTS = 0.5
# share of the noise that fine periods of the scan keep: 0.8 to 1.3 where every position has its own, 0.02 to 0.07 where
# two neighbours are summed, 0.4 to 0.6 after a Gaussian of half a step; `pytest tests/test_verdict.py -k smoothed`
_SMOOTHED = 0.4
# share of the variance of known values that is predicted where each is left out: values that have nothing to do with
# latents exceed 0.15 in a quarter of draws of 5 of them, in one of 20 of 12; `pytest tests/test_quantity.py -k tell`
_TOLD = 0.1


def judge(
    measurements: Measurements, embedding: Embedding | None = None, quantity: QuantityMap | None = None
) -> tuple[Finding, ...]:
    """Look for what makes a result doubtful.

    Parameters
    ----------
    measurements : Measurements
        A scan, with what reader, preparation and pass have noticed.
    embedding : Embedding, optional
        What a model says of it.
    quantity : QuantityMap, optional
        What a few known values say of it.

    Returns
    -------
    tuple of Finding
        The worst first. A failure means that the result is not to be trusted as it is.

    Notes
    -----
    A high correlation of a latent with the deflection is no finding and no proof: a beam that shifts with the scan
    gives one, too.
    """
    findings = [
        *measurements.findings,
        *_size(measurements),
        *_range(measurements),
        *_shift(measurements),
        *_columns(measurements),
        *_counting(measurements),
        *_smoothing(measurements),
    ]
    if embedding is not None:
        constant = list(_constant(embedding, measurements))
        findings += constant or [*_latents(embedding, measurements.recorded), *_angles(embedding, measurements)]
    if quantity is not None:
        findings += _quantity(quantity)
    return sort_findings(findings)


def _quantity(quantity: QuantityMap) -> Iterator[Finding]:
    """Known values that latents do not tell."""
    if quantity.explained < _TOLD:
        yield Finding(
            "quantity_not_told",
            "warning",
            f"the latents hardly tell the {quantity.name}: of the variance of the {len(quantity.known)} known values "
            f"{100 * max(quantity.explained, 0):.0f} % are predicted where each is left out",
            "give more known values, spread over the latents, or more latents (model.n_latent)",
        )


def _size(measurements: Measurements) -> Iterator[Finding]:
    n = int(measurements.recorded.sum())
    if n < _FEW:
        yield Finding(
            "few_positions",
            "failure" if n < _TOO_FEW else "warning",
            f"{format_count(n, 'pattern')}: {'too ' if n < _TOO_FEW else ''}few to learn from, and agreement of so few "
            "means little",
            "take a larger scan",
        )


def _range(measurements: Measurements) -> Iterator[Finding]:
    """Patterns that differ where the polar patterns, which models learn from, do not reach."""
    half = None if measurements.preparation is None else measurements.preparation.variation_half
    outer = measurements.grid.outer
    clear = _CLEAR * (measurements.calibration.disc_radius or 0.0)
    if measurements.polar is not None and half is not None and half > max(clear, outer):
        yield Finding(
            "variation_outside",
            "failure",
            f"most of what patterns differ by, in units of their noise, lies beyond {outer:.3g} px, where the polar "
            f"patterns end: half of it lies within {half:.3g} px",
            "set measure.outer, which counts in radii of the disc, to "
            f"{half / max(measurements.calibration.disc_radius or half, 1e-9):.2g} or more, and see that "
            "source.optical_axis and source.disc_radius are those of the direct beam",
        )


def _shift(measurements: Measurements) -> Iterator[Finding]:
    if not measurements.is_scan:
        return
    recorded = measurements.recorded
    shift = fit_shift(measurements.deflection[recorded], np.argwhere(recorded), measurements.scan_shape, curved=False)
    if shift is not None and shift.matters and shift.plane > _SHIFT_LEFT * shift.remaining:
        yield Finding(
            "beam_shift_left",
            "failure" if shift.plane > 2 * shift.remaining else "warning",
            f"the centre of mass drifts by {shift.plane:.3g} {measurements.com_unit} over the scan, "
            f"{shift.plane / max(shift.remaining, 1e-12):.1f} times what it varies by otherwise",
            "set preparation.descan to plane or surface, or fit the shift in vacuum (preparation.descan_region)",
        )


def _share_of_plane(values: NDArray[np.floating[Any]], use: NDArray[np.bool_]) -> float:
    """Share of the variance that a plane over the scan explains, less what it explains by chance."""
    places = np.argwhere(use) / np.maximum(np.array(use.shape) - 1, 1) - 0.5
    design = np.column_stack([np.ones(len(places)), places])
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    n = len(values)
    return float(1 - (rest**2).mean() / values.var() * (n - 1) / max(n - 3, 1))


def _columns(measurements: Measurements) -> Iterator[Finding]:
    """A first or last column that is unlike all others, as frames recorded during the flyback are."""
    n_rows, n_columns = measurements.scan_shape
    if not measurements.is_scan or n_columns < 6 or n_rows < 3:
        return
    for name in ("total", "com_y", "com_x", "annular_dark_field"):
        if name not in measurements.maps:
            continue
        values = np.asarray(measurements.maps[name], float)
        finite = np.isfinite(values)
        # a column without any pattern has no mean
        means = np.where(finite, values, 0).sum(axis=0) / np.where(finite.any(axis=0), finite.sum(axis=0), np.nan)
        if np.isnan(means).all():
            return
        # neighbouring columns of a specimen are alike, so the jump to the last is held against all other jumps
        jumps = np.abs(np.diff(means))
        usual = 1.4826 * float(np.nanmedian(jumps)) + 1e-9 * float(np.nanmax(np.abs(means)))
        for column, jump in ((0, jumps[0]), (n_columns - 1, jumps[-1])):
            if jump > _COLUMN * usual and jump > 2 * float(np.sort(jumps[np.isfinite(jumps)])[-3]):
                yield Finding(
                    "flyback_column",
                    "warning",
                    f"column {column} of the scan is unlike all others in '{name}': frames of the flyback, perhaps",
                    "leave them out with source.flyback, or crop them with preparation.scan_region",
                )
                return


def _counting(measurements: Measurements) -> Iterator[Finding]:
    record = {} if measurements.preparation is None else measurements.preparation.record
    counts = record.get("counts_per_electron")
    if counts is None or _LEAST_COUNTS < counts < LEAST_ANALOGUE:
        return
    total = float(np.nanmean(measurements.maps["total"]))
    if counts >= LEAST_ANALOGUE:
        yield Finding(
            "counts_per_electron",
            "note",
            f"the noise tells that an electron leaves {counts:.3g} counts: {total / counts:.3g} electrons per pattern",
        )
    else:
        yield Finding(
            "not_poisson",
            "warning",
            f"the counts scatter {counts:.2g} times as much as counted electrons do: they were filtered, scaled or "
            "compressed, and uncertainties are too large",
            "give the data as recorded",
        )


def _smoothing(measurements: Measurements) -> Iterator[Finding]:
    """Patterns that were averaged or interpolated over the scan: their noise is not each one's own."""
    # what lies beyond the band limit is then more than noise
    if any(finding.id == "content_beyond_limit" for finding in measurements.findings):
        return
    share = fine_noise(measurements)
    if share is not None and min(share) < _SMOOTHED:
        yield Finding(
            "smoothed_over_scan",
            "warning",
            f"noise at the finest periods of the scan is {100 * min(share):.0f} % of that at coarser ones: patterns "
            "were averaged or interpolated over the scan, which makes neighbours alike and uncertainties too small",
            "give the data as recorded, and bin positions with preparation.scan_binning where they are too many",
        )


def _constant(embedding: Embedding, measurements: Measurements) -> Iterator[Finding]:
    """An embedding that is the same at all positions: the model was given nothing but the mean of the scan."""
    use = measurements.recorded & np.isfinite(embedding.angle)
    if measurements.noiseless or use.sum() < _TOO_FEW:
        return
    latents = embedding.latents[use]
    std = np.nanmean(embedding.latent_std[use]) if latents.size else 0.0
    angle = embedding.angle[use] * embedding.symmetry
    spread = float(np.abs(np.angle(np.exp(1j * (angle - angle[0])))).max()) / embedding.symmetry
    if spread < _SAME and np.ptp(latents, axis=0).max(initial=0.0) <= _SAME * std:
        yield Finding(
            "nothing_beyond_noise",
            "failure",
            "angle and latents are the same at all positions: the model finds nothing in the patterns that stands out "
            "of the noise of their counts, and the angle means nothing",
            "record more electrons per pattern, or add patterns up with preparation.scan_binning",
        )


def _latents(embedding: Embedding, recorded: NDArray[np.bool_]) -> Iterator[Finding]:
    use = recorded & np.isfinite(embedding.angle)
    if use.sum() < _TOO_FEW:
        return
    for number in range(embedding.n_latent):
        values = np.asarray(embedding.latents[..., number], float)[use]
        if not values.var() > 0:
            continue
        share = _share_of_plane(values, use)
        if share > _PLANE:
            yield Finding(
                "latent_follows_scan",
                "warning",
                f"{100 * share:.0f} % of latent {number + 1} is a plane over the scan",
                "see whether thickness, tilt or the beam changes over the scan; preparation.descan removes the last",
            )


def _angles(embedding: Embedding, measurements: Measurements) -> Iterator[Finding]:
    """The angle beside the COM, filtered or smoothed where it is noisy, and what their uncertainties explain."""
    # content that looks the same at several angles has no direction that a COM could have
    if not measurements.is_scan or embedding.symmetry > 1:
        return
    smooth, noise = _quiet_com(measurements)
    if not np.nanmax(np.abs(smooth), initial=0) > 0:
        return
    agreement = compare_angles(embedding.angle, smooth, noiseless=measurements.noiseless)
    length = np.hypot(smooth[..., 0], smooth[..., 1])
    use = np.isfinite(length) & np.isfinite(embedding.angle) & (length > 0)
    if use.sum() < _TOO_FEW or agreement.sign is None:
        return
    spread = np.hypot(np.minimum(embedding.angle_std[use], np.pi), noise[use] / length[use])
    # the mean of |x| of a normal variable, at most that of directions without any order
    expected = float(np.degrees(np.average(np.minimum(0.8 * spread, np.pi / 2), weights=length[use])))
    error = agreement.error_mean_deg
    if error > _DIFFERENCE and error > _MULTIPLE * expected:
        found = None if measurements.polar is None else aberrations_that_matter(measurements)
        if found is not None:
            yield Finding(
                "angles_differ",
                "note",
                f"the angle of the content differs from that of the COM by {error:.0f}°, where their uncertainties "
                f"explain {expected:.0f}°: the scan tells a defocus of {round(found.defocus)} Å".replace("-", "−"),
                _WHICH,
            )
            return
        yield Finding(
            "angle_contradicts_com",
            "failure" if error > _CONTRADICTION else "warning",
            f"the angle differs from the direction of the COM by {error:.0f}°, where their uncertainties explain "
            f"{expected:.0f}°",
            "defocus and thickness make the two differ; otherwise check disc, dark level and beam shift",
        )
        return
    apart = angle_difference(embedding, measurements)
    if apart is None:
        return
    known = np.isfinite(apart.difference)
    share, typical = apart.differs[known].mean(), np.degrees(np.median(np.abs(apart.difference[known])))
    if share > _APART:
        yield Finding(
            "angles_differ",
            "note",
            f"at {100 * share:.0f} % of the positions, the angle of the content differs from that of the COM by more "
            f"than their uncertainties explain ({typical:.2g}° in the median): they are two quantities",
            _WHICH,
        )


def _quiet_com(measurements: Measurements) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """The deflection with least noise, and the standard deviation of either coordinate's error."""
    deflection, filtered = measurements.deflection, measurements.filtered_deflection
    if filtered is not None:
        return filtered, np.nan_to_num(measurements.maps["com_filtered_std"])
    around = neighbour_mean(deflection)
    # an upper bound of the noise along one axis: neighbours differ by their content, too
    noise = 0.0 if measurements.noiseless else float(np.sqrt(np.nanmean((deflection - around) ** 2) / 1.125))
    if noise > 0.3 * float(np.sqrt(np.nanmean(deflection**2))):
        deflection, noise = (8 * around + deflection) / 9, noise / 3
    return deflection, np.full(measurements.scan_shape, noise)
