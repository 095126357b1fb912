"""How much more noise the bright parts of a content have than their rings on the average."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stemvane.features.harmonics import HarmonicBasis, rotate_features
from stemvane.geometry.polar import PolarGrid
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.pattern_noise import PatternNoise

__all__ = ["AngleNoise"]

# rotations by the golden angle, so that pixels lie in many ways on the content's edges
_ROTATIONS = 2.399963 * np.arange(5)
# content that is weaker than this share of the template has the noise of this share
_WEAKEST = 0.05


class AngleNoise(NamedTuple):
    """Variance of the noise that an angle is read with, over that of counts that are alike all around each ring.

    The noise of features is that of the rings' mean counts, since patterns may have any angle. A disc on a dark ring
    has its counts, and their noise, where it lies, and its edge, of which the angle is read, lies there, too.

    Attributes
    ----------
    fixed : float
        Of the background, and of the readout.
    with_content : float
        Of the template, in proportion to the strength of a pattern's content.
    """

    fixed: float
    with_content: float

    @classmethod
    def of(
        cls,
        basis: HarmonicBasis,
        grid: PolarGrid,
        detector_shape: tuple[int, int],
        template: NDArray[np.complexfloating],
        *,
        readout_counts: float = 0.0,
    ) -> Self:
        """Find it for a template.

        Parameters
        ----------
        basis : HarmonicBasis
            Background and features.
        grid : PolarGrid
            Grid of the polar samples on the detector.
        detector_shape : tuple of int
            Detector pixels ``(k_y, k_x)``.
        template : ndarray of complex, shape (n_features,)
            Content at angle 0, whose derivative is what an angle is read by.
        readout_counts : float
            Counts per pixel whose counting noise would be as large as the readout noise.

        Returns
        -------
        AngleNoise
        """
        weights = grid.weights(detector_shape)
        pixel, share = weights.pixel, weights.overlap
        covered = np.maximum(np.bincount(pixel, share), 1e-12)
        content = rotate_features(np.tile(template, (len(_ROTATIONS), 1)), basis.orders, _ROTATIONS)
        fixed = basis.polar(np.zeros((1, basis.n_features), np.complex128))[0]
        waves = np.exp(-1j * np.outer(basis.orders, grid.azimuths)) / grid.n_azimuthal
        sums = np.zeros(3)
        for turned in content:
            # the slope of the cross-correlation is a sum over samples, and so over pixels, with these weights
            derivative = 1j * basis.orders * turned.conj()
            samples = np.einsum("k,kr,kn->rn", derivative, basis.analysis, waves, optimize=True).real
            slope = np.bincount(pixel, weights.weight * samples.ravel()[weights.sample])
            # where there are no counts, a basis leaves a little more or less than none
            both = np.maximum(basis.polar(turned[None])[0], 0)
            alike = np.broadcast_to(both.mean(axis=1, keepdims=True), both.shape)
            for i, values in enumerate((fixed + readout_counts, both - fixed, alike + readout_counts)):
                sums[i] += slope**2 @ (np.bincount(pixel, share * values.ravel()[weights.sample]) / covered)
        fixed_part, content_part = (sums[:2] / sums[2]).tolist() if sums[2] > 0 else (1.0, 0.0)
        return cls(fixed_part, content_part)

    def variance(
        self, network: HarmonicNetwork, aligned: Tensor, content: Tensor, noise: PatternNoise, angle: Tensor
    ) -> Tensor:
        """Variance of noise alike in all coordinates that scatters the angles of contents as counting noise does.

        Parameters
        ----------
        network : HarmonicNetwork
            The model.
        aligned, content : Tensor, shape (n, 2 n_features)
            Patterns rotated back onto the template, and their contents.
        noise : PatternNoise
            Errors of the patterns.
        angle : Tensor, shape (n,)
            By which they have been rotated back.

        Returns
        -------
        Tensor, shape (n,)
        """
        derivative = network.derivative(content)
        of_rings = noise.along(network, derivative, angle) / (derivative**2).sum(-1).clamp(min=1e-30)
        strength = aligned @ network.template / (network.template**2).sum().clamp(min=1e-30)
        factor = self.fixed + self.with_content * strength
        # a pattern without content has noise, too
        variance: Tensor = of_rings * factor.clamp(min=_WEAKEST * (self.fixed + self.with_content))
        return variance.clamp(min=1e-30)
