"""What the models in circular harmonics have in common: features, alignment, embedding and reconstruction."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import AlignmentConfig, Config, HarmonicConfig
from stemvane.data.measurements import Measurements
from stemvane.errors import ModelError
from stemvane.features.alignment import Alignment, align_rotation
from stemvane.features.conditions import Conditions, condition_values
from stemvane.features.feature_noise import FeatureNoise
from stemvane.features.feature_reader import FeatureReader
from stemvane.models.content_noise import AngleNoise
from stemvane.models.evidence import best_noise_variance, log_evidence
from stemvane.models.feature_model import FeatureModel
from stemvane.models.harmonic_fit import HarmonicFit, as_complex, as_tensor, smallest_noise_level, start_aligned
from stemvane.models.harmonic_network import HarmonicNetwork
from stemvane.models.inference import embed_features, reconstruct_mean
from stemvane.models.pattern_noise import PatternNoise
from stemvane.models.pixel_model import mean_pixels
from stemvane.models.threads import map_in_threads, map_on_workers, one_thread
from stemvane.models.training import device_named
from stemvane.models.uncertainty import learn_priors

__all__ = ["HarmonicModel", "TrainingFeatures"]

# what networks make of so many patterns stays in the processor's cache
_N_TOGETHER = 1024


@dataclass(frozen=True, eq=False)
class TrainingFeatures:
    """Features of the training patterns.

    Attributes
    ----------
    reader : FeatureReader
        Reader of features from measurements.
    features : ndarray of complex64, shape (n_patterns, n_features)
        Features, filtered over the scan where the patterns are noisy.
    as_recorded : ndarray of complex64, shape (n_patterns, n_features)
        Features of every pattern by itself.
    length : float
        Root mean square length of the features.
    noise : FeatureNoise
        Errors of `features`.
    x : Tensor, shape (n_patterns, 2 n_features)
        Features over `length`, as networks take them, on the device of the training.
    held_out : Tensor, shape (n_others, 2 n_features)
        The same of other patterns, which are read with them.
    conditions : Conditions or None
        What has been taken out of all features.
    """

    reader: FeatureReader
    features: NDArray[np.complex64]
    as_recorded: NDArray[np.complex64]
    length: float
    noise: FeatureNoise
    x: Tensor
    held_out: Tensor
    conditions: Conditions | None


class _Chunk(NamedTuple):
    """Features of some patterns as networks take them, their noise, and what has been taken out of them."""

    x: Tensor
    noise: PatternNoise
    removed: NDArray[np.complex64] | None

    def sent(self) -> _Chunk:
        """What a worker needs for embedding; a view of a tensor would be sent with all that it is a part of."""
        noise = PatternNoise(self.noise.factor.cpu(), self.noise.scale.cpu().clone())
        return _Chunk(self.x.cpu().clone(), noise, None)


def _embed_chunk(part: _Chunk, shared: tuple[HarmonicNetwork, AngleNoise | None]) -> list[NDArray[Any]]:
    network, angle_noise = shared
    columns = embed_features(network, part.x, part.noise, angle_noise)
    return [column.cpu().numpy() for column in columns]


class HarmonicModel(FeatureModel):
    """A model of patterns in circular harmonics, which starts from their alignment.

    Attributes
    ----------
    alignment : Alignment or None
        The closed-form alignment of the training patterns; None before `fit` and in a model that was loaded.
    """

    sections: ClassVar[frozenset[str]] = frozenset({"basis", "align", "model", "training"})

    def __init__(self, settings: Config, model_config: HarmonicConfig | AlignmentConfig) -> None:
        super().__init__(settings)
        self.align_config = settings.align
        self.alignment: Alignment | None = None
        self._noise_floor, self._conditions = model_config.noise_floor, model_config.conditions
        self._fitted: HarmonicFit | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether the model has been fitted or loaded."""
        return self._fitted is not None

    @property
    def symmetry(self) -> int:
        """Rotational symmetry of the content: angles that differ by ``2 π / symmetry`` are the same."""
        return self._need().network.symmetry

    @property
    def noise_level(self) -> float:
        """Standard deviation of the noise per real coordinate, as a fraction of the rms length of a residual."""
        return math.sqrt(self._need().network.noise_variance.item())

    def evidence(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        noise_level: float | None = None,
        n_samples: int = 16,
    ) -> tuple[NDArray[np.float64], float]:
        """Estimate the log likelihood of patterns, each by itself, with angle and latents integrated out.

        Parameters
        ----------
        measurements : Measurements
            A scan with polar patterns.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        noise_level : float, optional
            Noise level, as a fraction of the rms length of a residual; the likeliest for these patterns if left out.
        n_samples : int
            Number of importance samples per pattern.

        Returns
        -------
        ndarray of float, shape (n_patterns,)
            Nats per pattern, of features divided by their rms length.
        float
            The noise level used.

        Raises
        ------
        ModelError
            Before `fit`, or if the patterns are of another size.
        DataError
            If these are no measurements, or the mask does not fit the scan.
        """
        network, allowed = self._need().network, self._allowed(measurements, mask)
        x = torch.cat([part.x for part in self._chunks(measurements, allowed, neighbours=False)])
        with one_thread():
            variance = best_noise_variance(network, x) if noise_level is None else noise_level**2
        values = log_evidence(network, x, variance, n_samples=n_samples)
        return values.double().cpu().numpy(), math.sqrt(variance)

    @abstractmethod
    def _new_network(self, orders: Tensor) -> HarmonicNetwork:
        """Untrained network for features of these circular orders."""

    def _read(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        held_out: NDArray[np.bool_] | None = None,
    ) -> TrainingFeatures:
        """Basis and scan filter of the training patterns, and their features; those of others as they are asked for."""
        reader = FeatureReader.fit(measurements, self.basis_config, used=used, allowed=allowed)
        wanted = used if held_out is None else used | held_out
        features, noise = reader.features(measurements, wanted, allowed)
        trained, orders = used[wanted], reader.basis.orders
        as_recorded = reader.basis.features(measurements, used) if reader.uses_neighbours(measurements) else None
        conditions = None
        if self._conditions:
            values = condition_values(measurements, self._conditions, wanted)
            of_trained = features[trained], values[trained]
            conditions = Conditions.fit(self._conditions, of_trained[1], of_trained[0], orders, self.align_config)
            removed = conditions.of(features, values, orders)
            features = features - removed
            as_recorded = None if as_recorded is None else as_recorded - removed[trained]
        features, others, noise = features[trained], features[~trained], noise.of(trained)
        length = float(np.sqrt(np.mean(np.sum(np.abs(features) ** 2, axis=1))))
        # a scan of nothing but noise is filtered to nothing but rounding
        length = max(length, 1e-3 * float(np.sqrt((reader.basis.coordinates * reader.basis.counting**2).sum())))
        device = device_named(self.training_config.device)
        x, held = (as_tensor(part / length).to(device) for part in (features, others))
        as_recorded = features if as_recorded is None else as_recorded
        return TrainingFeatures(reader, features, as_recorded, length, noise, x, held, conditions)

    def _untrained(self, data: TrainingFeatures) -> HarmonicNetwork:
        """Network at its smallest noise level, before it knows anything of the patterns."""
        network = self._new_network(torch.from_numpy(data.reader.basis.orders))
        level = smallest_noise_level(data.noise, data.reader.basis, data.features, data.length, self._noise_floor)
        network.noise_variance.fill_(level**2)
        return network.to(data.x.device)

    def _start_aligned(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        data: TrainingFeatures,
        angle: NDArray[np.float64] | None = None,
    ) -> HarmonicNetwork:
        """Align the training patterns, from given angles or in closed form, and start the model from the result."""
        network = self._untrained(data)
        self.alignment = align_rotation(
            data.features,
            data.reader.basis,
            self.align_config,
            n_components=max(self.n_latent, 1),
            as_recorded=data.as_recorded,
            angle=angle,
        )
        n_available = len(self.alignment.components)
        if self.n_latent > n_available:
            raise ModelError(
                f"{self.n_latent} latents are more than the {n_available} components that the features have; give a "
                "smaller model.n_latent"
            )
        start_aligned(network, self.alignment, data.noise.std, data.length)
        basis, grid, shape = data.reader.basis, measurements.grid, measurements.detector_shape
        angle_noise = None
        if basis.own_noise:
            template, readout = self.alignment.template, measurements.readout_counts
            angle_noise = AngleNoise.of(basis, grid, shape, template, readout_counts=readout)
        pixels = mean_pixels(measurements, used)
        self._fitted = HarmonicFit(data.reader, data.length, grid, shape, pixels, network, angle_noise, data.conditions)
        self.training_mask = used
        return network

    def _finish(self, network: HarmonicNetwork, data: TrainingFeatures) -> None:
        """Centre the latents, and learn how they are distributed where the patterns are noisy."""
        network.train(False)
        network.centre(data.x)
        if self.n_latent and data.noise.is_known:
            with one_thread():
                learn_priors(network, data.x, PatternNoise.of(data.noise, data.length, data.x.device))

    def _embed(
        self, measurements: Measurements, allowed: NDArray[np.bool_], rescale: bool, client: Any
    ) -> Sequence[Sequence[NDArray[Any]]]:
        fitted, chunks = self._need(), self._chunks(measurements, allowed, rescale=rescale)
        shared = fitted.network, fitted.angle_noise
        if client is not None:
            # workers have processors, whatever this process has
            shared, chunks = (deepcopy(fitted.network).cpu(), fitted.angle_noise), (part.sent() for part in chunks)
        return list(map_on_workers(_embed_chunk, chunks, shared, client))

    def _drawn(
        self, latents: NDArray[np.float32], angles: NDArray[np.float32], background: bool
    ) -> NDArray[np.float64]:
        fitted = self._need()
        return fitted.drawn(fitted.content(latents, angles), background=background)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._need().state()

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._fitted = HarmonicFit.restore(self._new_network, numbers, tensors)

    def _need(self) -> HarmonicFit:
        if self._fitted is None:
            raise self._fit_error()
        return self._fitted

    def _reproduce(self, measurements: Measurements, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.complex64]]:
        """Reconstructed features of the patterns in the mask, some at a time."""
        fitted = self._need()

        def reproduce(part: _Chunk) -> NDArray[np.complex64]:
            content = as_complex(reconstruct_mean(fitted.network, part.x)) * np.float32(fitted.length)
            return content if part.removed is None else content + part.removed

        yield from map_in_threads(reproduce, self._chunks(measurements, mask))

    def _chunks(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_],
        *,
        neighbours: bool = True,
        rescale: bool = True,
    ) -> Iterator[_Chunk]:
        """Features of the patterns in the mask and their noise, some at a time, in units of their rms length."""
        fitted = self._need()
        device, conditions = fitted.network.template.device, fitted.conditions
        values = None if conditions is None else condition_values(measurements, conditions.names, mask)
        n_done = 0
        for features, noise in fitted.reader.blocks(measurements, mask, neighbours=neighbours, rescale=rescale):
            removed = None
            if conditions is not None and values is not None:
                removed = conditions.of(features, values[n_done : n_done + len(features)], fitted.basis.orders)
                features, n_done = features - removed, n_done + len(features)
            x, errors = as_tensor(features / fitted.length).to(device), PatternNoise.of(noise, fitted.length, device)
            for start in range(0, max(len(x), 1), _N_TOGETHER):
                part = slice(start, start + _N_TOGETHER)
                yield _Chunk(x[part], errors.of_some(part), None if removed is None else removed[part])
