"""Defocus and astigmatism of the probe, from how the patterns of a thin specimen answer to its potential."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from stemvane.data.arguments import require
from stemvane.data.measurements import Measurements
from stemvane.data.representation import Representable, Row
from stemvane.errors import DataError
from stemvane.features.harmonics import HarmonicBasis
from stemvane.features.potential_filter import measure_noise
from stemvane.features.scan_frame import mirror, scan_middle, taper
from stemvane.features.scan_memory import is_usual_basis, once, usual_basis

__all__ = [
    "Aberrations",
    "ProbeResponse",
    "aberrations_that_matter",
    "computed_response",
    "fit_aberrations",
]

# spatial frequencies of the scan that are fitted to, the strongest first
_MOST_FREQUENCIES = 48
_FEWEST_FREQUENCIES = 4
# positions along an axis: more tell no more of the probe
_MOST_POSITIONS = 128
_FEWEST_POSITIONS = 16
# a frequency counts where it has so many times the noise's standard deviation beyond its mean
_CLEAR = 6.0
# of the features' rms
_LEAST_NOISE = 0.01
# points along a pixel at which the aperture is looked up
_N_SUBPIXELS = 2
# pixels of a larger aperture are taken together until its radius has as many
_MOST_RADIUS = 16
# defocus that changes the phase at the aperture's edge by this is one step of the search, and so many are tried
_SEARCH_STEP, _N_SEARCHED = 0.7, 25
_N_ROUNDS = 8
# defocus and astigmatism change the phase at the aperture's edge by so many rad before they matter
_LEAST_PHASES = (1.0, 0.3)
# share of the strongest frequencies that a probe explains: 0.98 to 1.00 of sheets, 0.4 of SrTiO3 of 2 and 10 nm
_LEAST_AGREEMENT = 0.9
_STEP = 0.5

_Map = NDArray[np.complex128]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Aberrations(Representable):
    """Defocus and two-fold astigmatism of the probe.

    Along the direction φ on the detector, the defocus is ``defocus + astigmatism cos 2 (φ - astigmatism_angle)``.

    Attributes
    ----------
    defocus, defocus_std : float
        Å, positive for underfocus, and its standard error.
    astigmatism, astigmatism_std : float
        Å, 0 or more, and its standard error.
    astigmatism_angle : float
        Direction of the largest defocus in rad, counter-clockwise on the screen, 0 to the right, from 0 to π.
    agreement : float
        Share of the power of the frequencies fitted to, beyond that of noise, that the probe explains; 1 for a thin
        specimen.
    """

    defocus: float
    defocus_std: float
    astigmatism: float
    astigmatism_std: float
    astigmatism_angle: float
    agreement: float

    @property
    def coefficients(self) -> _Floats:
        """Defocus, and what the defocus along x and along the diagonal is more than that, Å, shape ``(3,)``."""
        along = self.astigmatism * np.exp(2j * self.astigmatism_angle)
        return np.array([self.defocus, along.real, along.imag])

    @property
    def is_astigmatic(self) -> bool:
        """Whether the astigmatism is more than three of its standard errors."""
        return self.astigmatism > 3 * self.astigmatism_std

    @property
    def is_explained(self) -> bool:
        """Whether the probe explains what is seen, as it does of thin specimens."""
        return self.agreement > _LEAST_AGREEMENT

    def _summary(self) -> tuple[str, Sequence[Row]]:
        along = f", largest at {math.degrees(self.astigmatism_angle):.0f}°" if self.is_astigmatic else ""
        rows = [
            ("defocus", f"{self.defocus:.1f} ± {self.defocus_std:.1g} Å"),
            ("astigmatism", f"{self.astigmatism:.1f} ± {self.astigmatism_std:.1g} Å{along}"),
            ("explained", f"{100 * self.agreement:.0f} % of the frequencies fitted to"),
        ]
        return "Aberrations", rows


class ProbeResponse:
    """How features answer to a spatial frequency of a weak potential, for a probe of known aberrations.

    A coefficient of the potential puts ``i (P*(k) P(k - q) - P(k) P*(k + q))`` times itself on the pixels (Pennycook
    and others, Ultramicroscopy 151, 160, 2015), P being the wave in the aperture.

    Parameters
    ----------
    measurements : Measurements
        Detector, semi-angle and wavelength.
    basis : HarmonicBasis
        Features.
    """

    def __init__(self, measurements: Measurements, basis: HarmonicBasis) -> None:
        calibration, grid = measurements.calibration, measurements.grid
        semiangle, wavelength, pixel = calibration.convergence_semiangle, calibration.wavelength, calibration.pixel_size
        if semiangle is None or wavelength is None or pixel is None:
            raise DataError("semi-angle, energy and pixel size are needed; give them to open_dataset")
        self.semiangle, self.wavelength = float(semiangle), float(wavelength)
        size = float(pixel[1])
        right, up = grid.places(measurements.detector_shape) * size
        inside = np.hypot(right, up) <= self.semiangle + size
        n_together = max(1, round(self.semiangle / size / _MOST_RADIUS))
        blocks = _blocks(inside, n_together)
        n_pixels_of = blocks.sum(axis=1)
        centres = (blocks @ (right[inside] + 1j * up[inside])) / n_pixels_of
        part = (np.arange(_N_SUBPIXELS) - (_N_SUBPIXELS - 1) / 2) / _N_SUBPIXELS * size * n_together
        self.points = [centres + dx + 1j * dy for dx in part for dy in part]
        valid = None if measurements.bad_pixels is None else ~measurements.bad_pixels
        weights = grid.weights(measurements.detector_shape, valid)
        n_samples, n_pixels = weights.area.size, len(weights.indptr) - 1
        polar = sparse.csc_array((weights.weight, weights.sample, weights.indptr), shape=(n_samples, n_pixels))
        turns = np.exp(-1j * np.outer(basis.orders, grid.azimuths)) / grid.n_azimuthal
        of_samples = (basis.analysis[:, :, None] * turns[:, None, :]).reshape(basis.n_features, -1)
        self.reading = np.asarray((blocks @ (polar[:, inside.ravel()].T @ of_samples.T)).T)
        # features are of counts, and the COM of shares of them; y of the COM grows downwards
        total = basis.mean_total
        aperture = np.mean([np.abs(self._wave(k, np.zeros(3))) ** 2 for k in self.points], axis=0)
        self.n_per_change = total / (aperture @ n_pixels_of) / len(self.points)
        unit = 1.0 if measurements.com_unit == "mrad" else 1 / size
        self.moment = blocks @ (right - 1j * up)[inside] * unit / total

    @property
    def edge_phase(self) -> float:
        """Phase in rad at the edge of the aperture that 1 Å of defocus makes."""
        return np.pi / self.wavelength * 1e-6 * self.semiangle**2

    def is_changed_by(self, aberrations: Aberrations) -> bool:
        """Whether aberrations explain a scan and make the features answer otherwise than in focus."""
        astigmatism = aberrations.astigmatism * aberrations.is_astigmatic
        phases = np.array([abs(aberrations.defocus), astigmatism]) * self.edge_phase
        return aberrations.is_explained and bool((phases > _LEAST_PHASES).any())

    def __call__(self, frequency: _Map, coefficients: _Floats) -> _Map:
        """Answer to frequencies.

        Parameters
        ----------
        frequency : ndarray of complex, shape (n,)
            Spatial frequencies in 1/Å, ``right + 1j up`` on the detector.
        coefficients : ndarray of float, shape (3,)
            Defocus, and what the defocus along x and along the diagonal is more than that, Å.

        Returns
        -------
        ndarray of complex, shape (n_features, n)
        """
        return np.asarray(self.reading @ self._change(frequency, coefficients))

    def with_moment(self, frequency: _Map, coefficients: _Floats) -> tuple[_Map, _Map]:
        """The same, and the answer of the COM ``x + 1j y`` with y downwards, shape ``(n,)``."""
        change = self._change(frequency, coefficients)
        return self.reading @ change, self.moment @ change

    def _change(self, frequency: _Map, coefficients: _Floats) -> _Map:
        """Change of the counts of pixels, shape ``(n_pixels, n)``."""
        q = 1e3 * self.wavelength * np.asarray(frequency)[:, None]
        change = np.zeros((len(q), self.reading.shape[1]), complex)
        for k in self.points:
            here = self._wave(k[None], coefficients)
            change += np.conj(here) * self._wave(k - q, coefficients) - here * np.conj(self._wave(k + q, coefficients))
        return np.asarray((1j * self.n_per_change * change).T)

    def _wave(self, angle: _Map, coefficients: _Floats) -> _Map:
        square = angle**2
        size = np.abs(square)
        # the exponential takes most of a fit's time, and half of the waves are beyond the aperture
        inside = size <= self.semiangle**2
        square, size = square[inside], size[inside]
        defocus, along, diagonal = coefficients
        phase = defocus * size + along * square.real + diagonal * square.imag
        wave = np.zeros(angle.shape, complex)
        wave[inside] = np.exp(1j * np.pi / self.wavelength * 1e-6 * phase)
        return wave


def _blocks(inside: NDArray[np.bool_], side: int) -> sparse.csr_array:
    """Which squares of pixels hold each of the pixels inside, shape ``(n_squares, n_inside)``."""
    rows, columns = np.nonzero(inside)
    _, square = np.unique(np.stack([rows // side, columns // side]), axis=1, return_inverse=True)
    n = len(rows)
    return sparse.csr_array((np.ones(n), (square.ravel(), np.arange(n))), shape=(int(square.max()) + 1, n))


def fit_aberrations(measurements: Measurements) -> Aberrations:
    """Fit defocus and two-fold astigmatism to a scan of a thin specimen, of which nothing need be known.

    At every spatial frequency q, all features are one number times what the probe makes of q. The number is left free,
    and the aberrations are those that make the features likeliest, by a search over the defocus and Gauss-Newton steps
    with the numbers projected out (Golub & Pereyra, SIAM J. Numer. Anal. 10, 413, 1973). Standard errors follow from
    the noise, and from how differently the frequencies ask for other aberrations (White, Econometrica 48, 817, 1980).

    Parameters
    ----------
    measurements : Measurements
        A scan with polar patterns, step, semi-angle and energy. Where the scan rotation is not known it is taken as 0;
        one that is 180° off gives the defocus the other sign.

    Returns
    -------
    Aberrations

    Raises
    ------
    DataError
        If something that is needed is not known, the scan has fewer than 16 positions along an axis, or no spatial
        frequency stands out of the noise.

    Notes
    -----
    A potential of the other sign, and patterns rotated by 180°, look like the opposite defocus, so the sign rests on
    the scan rotation. The specimen is taken as weak: where it is thick, errors are underestimated.
    """
    return once(require(measurements, Measurements, "fit_aberrations"), _fitted)[0]


def aberrations_that_matter(measurements: Measurements) -> Aberrations | None:
    """Aberrations of a scan that is out of focus or astigmatic, as it tells itself; None close to focus or unknown."""
    try:
        found, response = once(measurements, _fitted)
    except DataError:
        return None
    return found if response.is_changed_by(found) else None


def computed_response(
    measurements: Measurements, basis: HarmonicBasis, *, with_com: NDArray[np.complex128] | None = None
) -> Callable[[_Map], _Map] | None:
    """Response of features as the scan's own aberrations make it, where they matter.

    Parameters
    ----------
    measurements : Measurements
        A scan with polar patterns.
    basis : HarmonicBasis
        Features.
    with_com : ndarray of complex, shape (n_features,), optional
        The COM's part that the features tell, of ``x + 1j y`` with y downwards: then what it holds beyond them is one
        feature more.

    Returns
    -------
    callable or None
        As `ProbeTransfer.of` takes it; None close to focus, where the transfer that the patterns tell is as good, and
        where the probe does not explain them.
    """
    try:
        if is_usual_basis(measurements, basis):
            found, response = once(measurements, _fitted)
        else:
            response = ProbeResponse(measurements, basis)
            found = _fit(measurements, basis, response)
    except DataError:
        return None
    if not response.is_changed_by(found):
        return None
    turn = np.exp(-1j * (measurements.calibration.scan_rotation or 0.0))

    def answer(frequency: _Map) -> _Map:
        features, moment = response.with_moment(frequency * turn, found.coefficients)
        if with_com is None:
            return features
        return np.concatenate([features, (moment - with_com @ features)[None]])

    return answer


def _fitted(measurements: Measurements) -> tuple[Aberrations, ProbeResponse]:
    """Aberrations of a scan in its usual features."""
    if measurements.polar is None or not measurements.is_scan:
        raise DataError("aberrations are fitted to a scan with polar patterns; call measure(..., polar=True)")
    basis = usual_basis(measurements)
    response = ProbeResponse(measurements, basis)
    return _fit(measurements, basis, response), response


def _fit(measurements: Measurements, basis: HarmonicBasis, response: ProbeResponse) -> Aberrations:
    calibration = measurements.calibration
    step, limit = calibration.scan_step, calibration.band_limit
    if step is None or limit is None:
        raise DataError("aberrations need the scan step; give it to open_dataset")
    if min(measurements.scan_shape) < _FEWEST_POSITIONS:
        raise DataError(f"a scan of fewer than {_FEWEST_POSITIONS} positions along an axis tells no aberrations")
    frequency, whiten, data = _strongest(measurements, basis, step, limit)
    if len(frequency) < _FEWEST_FREQUENCIES:
        raise DataError("hardly a spatial frequency of the scan stands out of the noise; record more electrons")
    # in the frame of the detector
    frequency = frequency * np.exp(-1j * (calibration.scan_rotation or 0.0))

    def misfit(coefficients: _Floats, chosen: slice = slice(None)) -> _Map:
        answer, opposite = (whiten @ response(sign * frequency[chosen], coefficients) for sign in (1, -1))
        expected, of_data = _stacked(answer, opposite, basis.orders), data[:, chosen]
        share = (expected.conj() * of_data).sum(axis=0) / np.maximum((np.abs(expected) ** 2).sum(axis=0), 1e-30)
        return np.asarray(of_data - expected * share)

    tried = _SEARCH_STEP / response.edge_phase * np.arange(-_N_SEARCHED, _N_SEARCHED + 1)
    strongest = slice(0, _MOST_FREQUENCIES // 3)
    sizes = [float((np.abs(misfit(np.array([defocus, 0, 0]), strongest)) ** 2).sum()) for defocus in tried]
    best = np.array([tried[int(np.argmin(sizes))], 0.0, 0.0])
    residual = misfit(best)
    for _ in range(_N_ROUNDS):
        # what noise does not explain is the specimen's, and counts as more noise of its frequency
        of_each = (np.abs(residual) ** 2).sum(axis=0)
        weight = 1 / np.maximum(of_each / (2 * (len(residual) - 1)), 1.0)
        slopes = np.array([(misfit(best + change) - residual) / _STEP for change in _STEP * np.eye(3)])
        gradients = np.einsum("k,ank,nk->ka", weight, slopes.conj(), residual).real
        normal = np.einsum("k,ank,bnk->ab", weight, slopes.conj(), slopes).real
        change = -np.linalg.pinv(normal) @ gradients.sum(axis=0)
        # a step may be too long where the response bends
        for shorter in (1.0, 0.3, 0.1):
            after = misfit(best + shorter * change)
            if (weight * (np.abs(after) ** 2).sum(axis=0)).sum() < (weight * of_each).sum():
                best, residual = best + shorter * change, after
                break
        else:
            break
        if np.abs(change).max() < 0.01:
            break
    n_free = 2 * (residual.size - residual.shape[1]) - 3
    left = float((np.abs(residual) ** 2).sum())
    # what the frequencies say one by one scatters by noise and by what the probe does not explain (White, 1980)
    n = len(frequency)
    inverse = np.linalg.pinv(normal)
    covariance = inverse + inverse @ (gradients.T @ gradients) @ inverse * n / max(n - 3, 1)
    whole = float((np.abs(data) ** 2).sum()) - 2 * data.size
    size, spread = math.hypot(best[1], best[2]), math.sqrt(float(np.trace(covariance[1:, 1:])) / 2)
    return Aberrations(
        defocus=float(best[0]),
        defocus_std=math.sqrt(covariance[0, 0]),
        astigmatism=size,
        astigmatism_std=spread,
        astigmatism_angle=math.atan2(best[2], best[1]) / 2 % math.pi,
        agreement=float(np.clip(1 - (left - n_free) / max(whole, 1e-30), 0, 1)),
    )


def _stacked(values: _Map, opposite: _Map, orders: NDArray[np.int64]) -> _Map:
    """Features at a frequency and, conjugate, at the opposite one, all with noise of variance 2; of order 0 once."""
    real = orders == 0
    return np.concatenate([values[~real], opposite[~real].conj(), np.sqrt(2) * values[real]])


def _strongest(
    measurements: Measurements, basis: HarmonicBasis, step: tuple[float, float], limit: float
) -> tuple[_Map, _Map, _Map]:
    """The strongest spatial frequencies of a scan, the matrix that makes noise white, and the features there.

    Shapes ``(n,)``, as ``right + 1j up`` in 1/Å, ``(n_features, n_features)`` and, as of `_stacked`, ``(..., n)``.
    """
    middle = tuple(scan_middle(n, _MOST_POSITIONS) for n in measurements.scan_shape)
    present = np.zeros(measurements.scan_shape, bool)
    present[middle] = measurements.recorded[middle]
    features = np.zeros((*present.shape, basis.n_features), np.complex64)
    features[present] = np.concatenate(list(basis.feature_blocks(measurements, present, rescale=False)))
    recorded, features = present[middle], features[middle]
    features = np.where(recorded[..., None], features - features[recorded].mean(axis=0), 0)
    window = taper(recorded)
    y = np.ascontiguousarray(np.moveaxis(features, -1, 0)).astype(np.complex64)
    # less is rounding, or content beyond the weak specimen's
    least = _LEAST_NOISE * float(np.sqrt((np.abs(y) ** 2).mean()))
    whiten = np.linalg.inv(measure_noise(y, window, basis.orders, basis.counting, least, step, limit))
    y = np.tensordot(whiten, y * window, axes=1)
    power = (np.abs(np.fft.fft2(y, axes=(1, 2), norm="ortho")) ** 2).sum(axis=0)
    power = (power + mirror(power)) / 2
    n_numbers = basis.n_coordinates
    fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(recorded.shape, step, strict=True))
    length = np.hypot(fy[:, None], fx)
    # the smallest frequencies are what a scan drifts by; of a frequency and its opposite one is taken
    allowed = (
        (length < limit) & (length > 2 * max(fy[1], fx[1])) & ((fy[:, None] > 0) | ((fy[:, None] == 0) & (fx > 0)))
    )
    is_peak = power == ndimage.maximum_filter(power, 3, mode="wrap")
    clear = power > n_numbers + _CLEAR * np.sqrt(n_numbers)
    places = np.argwhere(allowed & is_peak & clear)
    places = places[np.argsort(-power[tuple(places.T)], kind="stable")][:_MOST_FREQUENCIES]
    exact = [_between(power, row, column) for row, column in places]
    frequency = np.array(
        [(row / (recorded.shape[0] * step[0]), column / (recorded.shape[1] * step[1])) for row, column in exact]
    )
    frequency = frequency.reshape(-1, 2)
    data, opposite = (_transform(y, sign * frequency, step) for sign in (1, -1))
    upright: _Map = frequency[:, 1] - 1j * frequency[:, 0]
    return upright, np.asarray(whiten, complex), _stacked(data, opposite, basis.orders)


def _between(power: _Floats, row: int, column: int) -> tuple[float, float]:
    """Where a peak lies between the discrete frequencies, by parabolas through the logarithm, in numbers of them."""
    result = []
    for axis, at in enumerate((row, column)):
        n = power.shape[axis]
        below, here, above = (
            np.log(power[(row + d) % n, column] if axis == 0 else power[row, (column + d) % n]) for d in (-1, 0, 1)
        )
        bend = below - 2 * here + above
        shift = 0.5 * (below - above) / bend if bend < 0 else 0.0
        result.append((at if at < (n + 1) // 2 else at - n) + float(np.clip(shift, -0.5, 0.5)))
    return result[0], result[1]


def _transform(y: NDArray[Any], frequency: _Floats, step: tuple[float, float]) -> _Map:
    """Fourier transform at frequencies ``(y, x)`` in 1/Å of any value, shape ``(n_features, n)``."""
    rows, columns = (
        np.exp(-2j * np.pi * np.outer(np.arange(n) * d, frequency[:, axis]))
        for axis, (n, d) in enumerate(zip(y.shape[1:], step, strict=True))
    )
    return np.asarray(((y @ columns) * rows).sum(axis=1) / np.sqrt(y[0].size))
