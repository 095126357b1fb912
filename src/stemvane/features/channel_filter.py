"""The best linear estimate of features of which nothing is known but their noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stemvane.features.parallel import count_workers, for_each
from stemvane.features.probe_transfer import ProbeTransfer
from stemvane.features.scan_estimate import Remainder
from stemvane.features.scan_frame import ScanFrame, add_mirrored, mirror, scan_frequencies, scan_part, taper
from stemvane.features.scan_problem import conjugate_gradients, error_map, symmetric, torus_shape
from stemvane.features.scan_transfer import ScanTransfer
from stemvane.features.shrinkage import estimate_power, ring_numbers

__all__ = ["filter_channels"]

# remaining power that changes no estimate by more than a hundredth of its noise
_LEAST_REMAINDER = 0.02
# a Hann window along both axes makes one of nine frequencies out of four
_WINDOW_NOISE = 2.25

Features = NDArray[np.complex64]


def filter_channels(
    y: Features,
    recorded: NDArray[np.bool_],
    orders: NDArray[np.int64],
    step: tuple[float, float],
    transfer: ScanTransfer | ProbeTransfer,
) -> Remainder | None:
    """Estimate features channel by channel.

    The power of a channel of `ScanFrame` is taken as its mean over a ring of spatial frequencies times the share that
    each frequency has of the ring's power, all features together: a crystal's peaks are at the same place in all.

    Parameters
    ----------
    y : ndarray of complex64, shape (n_features, scan_y, scan_x)
        Features less their mean and less what the potential explains, with noise of variance 1 in every real
        coordinate.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        True where there is a pattern.
    orders : ndarray of int, shape (n_features,)
        Circular order of each feature.
    step : tuple of float
        Scan step ``(y, x)`` in Å.
    transfer : ScanTransfer or ProbeTransfer
        Its directions are estimated, too.

    Returns
    -------
    Remainder or None
        None where there is nothing but noise.
    """
    shape = (recorded.shape[0], recorded.shape[1])
    weights = taper(recorded).astype(np.float32)
    spectrum = fft.fft2(y * weights, axes=(1, 2), norm="ortho", workers=count_workers())
    width = 1.5 / max(n * d for n, d in zip(shape, step, strict=True))
    rings = ring_numbers(scan_frequencies(shape, step), width, transfer.cutoff)
    n_channels = int(np.where(orders == 0, 1, 2).sum())
    squares = symmetric((np.abs(spectrum) ** 2).sum(axis=0))
    together = symmetric(estimate_power(squares / n_channels, rings, 1, n_channels))
    if not (together > _LEAST_REMAINDER).any():
        return None
    gain = together / (1 + together)
    directions, of_directions = _directions(spectrum, orders, gain, transfer)
    if not len(directions):
        return None
    along = ScanFrame(of_directions, shape, step, transfer.handedness)
    squares = np.abs(along.channels(np.tensordot(directions.conj(), spectrum, axes=1))) ** 2
    power = np.zeros(squares.shape, np.float32)
    for ring in range(int(rings.max()) + 1):
        inside = rings == ring
        weight = gain[inside]
        if weight.sum() < _LEAST_REMAINDER:
            continue
        excess = squares[:, inside] @ weight / weight.sum() - 1
        # q and -q are one number; what its own scatter explains of a mean is not signal
        scatter = 2 * (weight**2).sum() / weight.sum() ** 2
        excess = np.maximum(excess, 0) ** 3 / (excess**2 + scatter)
        power[:, inside] = excess[:, None] * together[inside] / (together[inside] @ weight / weight.sum())
    torus = torus_shape(shape)
    places = [np.rint(np.arange(n) * m / n).astype(int) % m for n, m in zip(torus, shape, strict=True)]
    frame = ScanFrame(of_directions, torus, step, transfer.handedness)
    power = power[:, places[0][:, None], places[1]] * (frame.frequency <= transfer.cutoff)
    root, present = np.sqrt((power + mirror(power)) / 2), recorded.astype(np.float32)

    same, conjugate = frame.scaling(root)
    values = np.empty((len(directions), *shape), np.complex64)
    data = np.tensordot(directions.conj(), y, axes=1) * present

    def solve(number: int) -> None:
        """Estimate one direction, which gaps and edges mix with no other."""
        one = slice(number, number + 1)
        own = ScanFrame(of_directions[one], torus, step, transfer.handedness)

        def colour(spectrum: Features) -> Features:
            return add_mirrored(same[one], conjugate[one], spectrum)

        solution = conjugate_gradients(
            lambda u: u + colour(own.spectrum(scan_part(colour(u), shape) * present)), colour(own.spectrum(data[one]))
        )
        values[one] = scan_part(colour(solution), shape)

    for_each(solve, range(len(directions)))
    square, n = root**2, len(of_directions)

    def per_coordinate(of_channels: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Mean over both channels of a direction, if there are two."""
        mean = of_channels[:n].astype(np.float64)
        mean[of_directions != 0] = (mean[of_directions != 0] + of_channels[n:]) / 2
        return mean

    energy = (np.abs(fft.ifft2(square / (1 + square), axes=(1, 2), workers=count_workers())) ** 2).sum(axis=0)
    variance = per_coordinate((square / (1 + square)).mean(axis=(1, 2)))
    everywhere = error_map(energy, recorded, lambda known: float((square / (1 + known * square)).mean()))
    scale = everywhere / np.float32(max(float((square / (1 + square)).mean()), 1e-30))
    # where no potential shows, what is less than its own error may be chance
    if not len(transfer.directions) and (np.abs(values) ** 2).sum(axis=0).mean() < 2 * variance.sum():
        return None
    rest = Remainder(directions, values, variance, scale)
    if not isinstance(transfer, ProbeTransfer):
        return rest
    # nothing is left of a transfer that was not learned; what is less than its own error may be chance: with 60 Å of
    # defocus and 20,000 electrons, the COM's angle is 4.1° off with it, and 2.7° without
    clear = (np.abs(values) ** 2).mean(axis=(1, 2)) > variance * np.where(of_directions == 0, 1, 2)
    return rest.along(clear) if clear.any() else None


def _directions(
    spectrum: Features, orders: NDArray[np.int64], weights: NDArray[np.float64], transfer: ScanTransfer | ProbeTransfer
) -> tuple[Features, NDArray[np.int64]]:
    """Directions of the transfer, and others with more power at the weighted frequencies than noise explains."""
    inside = weights > 0.01 * weights.max()
    part = weights[inside]
    n_independent = part.sum() ** 2 / (part**2).sum() / _WINDOW_NOISE
    directions, of_directions = list(transfer.directions), list(transfer.orders)
    for order in np.unique(orders):
        chosen = np.flatnonzero(orders == order)
        x = spectrum[chosen][:, inside]
        known = transfer.directions[transfer.orders == order][:, chosen]
        x = x - known.T @ (known.conj() @ x)
        values, vectors = np.linalg.eigh((x * part) @ x.conj().T / part.sum())
        # largest eigenvalue of nothing but noise (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967)
        edge = (1 if order == 0 else 2) * (1 + np.sqrt(len(chosen) / n_independent)) ** 2
        for vector in vectors.T[values > edge]:
            direction = np.zeros(len(orders), np.complex64)
            direction[chosen] = vector
            directions.append(direction)
            of_directions.append(order)
    return np.array(directions, np.complex64).reshape(-1, len(orders)), np.array(of_directions, np.int64)
