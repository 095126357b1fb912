"""What the models of Cartesian patterns have in common: scaling to 0 to 1, embedding and reconstruction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import Config, CoordinateConfig, PlainConfig
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError, ModelError
from stemvane.geometry.pixels import PixelGrid
from stemvane.models.base import PatternModel
from stemvane.models.checks import intensity_factor
from stemvane.models.pixel_network import PixelNetwork, wrapped_normal
from stemvane.models.threads import map_on_workers
from stemvane.models.training import CONSTANT, EpochReport, Trainable, TrainingHistory, train

__all__ = ["PixelFit", "PixelModel", "mean_pixels", "require_grid"]

Network = TypeVar("Network", bound=PixelNetwork)


@dataclass(frozen=True, eq=False)
class PixelFit(Generic[Network]):
    """Everything that embedding and decoding need.

    Attributes
    ----------
    network : PixelNetwork
        The trained network.
    low, high : float
        Smallest and largest intensity of the training patterns, which are 0 and 1 to the network.
    mean : ndarray of float, shape (n², )
        Mean of the training patterns, in their own units.
    mean_total : float
        Mean total intensity of the training patterns.
    grid : PixelGrid
        Grid of the pixels on the detector.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    """

    network: Network
    low: float
    high: float
    mean: NDArray[np.float64]
    mean_total: float
    grid: PixelGrid
    detector_shape: tuple[int, int]

    def normalise(self, patterns: NDArray[np.floating[Any]]) -> Tensor:
        """Patterns as the network takes them, shape ``(n_patterns, n²)``, on its device."""
        rows = (patterns.reshape(len(patterns), self.grid.n**2) - self.low) / (self.high - self.low)
        return torch.from_numpy(np.asarray(rows, np.float32)).to(self.network.device)

    def intensities(self, x: Tensor) -> NDArray[np.float64]:
        """Patterns in the units of the training patterns, shape ``(n_patterns, n²)``."""
        return np.asarray(x.cpu().numpy().astype(np.float64) * (self.high - self.low) + self.low)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `restored` builds the fit again."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors["mean"] = torch.from_numpy(self.mean)
        numbers = {name: getattr(self, name) for name in ("low", "high", "mean_total")}
        return tensors, numbers | {"detector_shape": list(self.detector_shape), "pixel_grid": self.grid.to_dict()}

    @classmethod
    def restore(
        cls, make_network: Callable[[int], Network], numbers: dict[str, Any], tensors: dict[str, Tensor]
    ) -> PixelFit[Network]:
        """Build the fit from what `state` returned; `make_network` takes the number of pixels along a side."""
        grid = PixelGrid.from_dict(numbers["pixel_grid"])
        network = make_network(grid.n)
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        network.train(False)
        rows, columns = numbers["detector_shape"]
        scales = {name: float(numbers[name]) for name in ("low", "high", "mean_total")}
        return cls(network=network, mean=tensors["mean"].numpy(), grid=grid, detector_shape=(rows, columns), **scales)


class PixelModel(PatternModel, Generic[Network]):
    """A model of Cartesian patterns, which learns from ``Measurements.pixels``."""

    n_angles = 72
    """Number of grid angles of the angle's posterior, uniform in a model without an angle."""

    def __init__(self, settings: Config) -> None:
        super().__init__(settings)
        self._fitted: PixelFit[Network] | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether the model has been fitted or loaded."""
        return self._fitted is not None

    @property
    def noise_level(self) -> float | None:
        """None, since these models do not learn the noise level."""
        return None

    @property
    def mean_total(self) -> float:
        """Mean total intensity of the training patterns, to which others are scaled; ModelError before `fit`."""
        return self._need().mean_total

    @abstractmethod
    def _new_network(self, n_side: int) -> Network:
        """Untrained network for patterns of this many pixels along a side."""

    @abstractmethod
    def _solve(
        self, fitted: PixelFit[Network], patterns: NDArray[np.float32], progress: Callable[[EpochReport], None] | None
    ) -> Tensor:
        """Train the network on patterns of shape ``(n, n²)``, and return these as the network takes them."""

    def _train(
        self,
        network: Trainable,
        x: Tensor,
        model: CoordinateConfig | PlainConfig,
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        """Train a network that learns step by step on normalised patterns, at a constant rate as published."""
        self.history = TrainingHistory()
        train(
            network,
            x,
            self.training_config,
            self.history,
            beta=model.beta,
            batch_size=model.batch_size,
            learning_rate=model.learning_rate,
            recipe=CONSTANT,
            progress=progress,
        )

    def _learn(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        grid = require_grid(measurements)
        patterns = np.concatenate(list(measurements.pixel_blocks(used))).reshape(int(used.sum()), grid.n**2)
        low, high = float(patterns.min()), float(patterns.max())
        # a millionth of the brightest pixel: less than that is rounding
        if not np.ptp(patterns, axis=0).max() > 1e-6 * max(abs(low), abs(high)):
            raise DataError("all patterns are the same, so there is nothing to learn; check scan and detector")
        torch.manual_seed(self.training_config.seed)
        network = self._new_network(grid.n)
        total = np.asarray(measurements.maps["total"], dtype=float)[used]
        mean = patterns.mean(axis=0, dtype=np.float64)
        fitted = PixelFit(network, low, high, mean, float(total.mean()), grid, measurements.detector_shape)
        # set before training, so that `progress` may ask the model
        self._fitted, self.training_mask = fitted, used
        network.standardise(self._solve(fitted, patterns, progress))

    def _embed(
        self, measurements: Measurements, allowed: NDArray[np.bool_], rescale: bool, client: Any
    ) -> Sequence[Sequence[NDArray[Any]]]:
        network: PixelNetwork = self._need().network
        chunks = self._chunks(measurements, allowed, rescale=rescale)
        if client is not None:
            # workers have processors, whatever this process has
            network, chunks = deepcopy(network).cpu(), (x.cpu() for x in chunks)
        return list(map_on_workers(_embed_chunk, chunks, (network, self.n_angles), client))

    def _drawn(
        self, latents: NDArray[np.float32], angles: NDArray[np.float32], background: bool
    ) -> NDArray[np.float64]:
        fitted = self._need()
        network, n = fitted.network, fitted.grid.n
        with torch.no_grad():
            raw = network.unstandardise(torch.from_numpy(latents).to(network.device))
            x = network.decode(raw, torch.from_numpy(angles).to(network.device), raw.new_zeros(len(raw), 2))
        patterns = fitted.intensities(x) - (0.0 if background else fitted.mean)
        square = patterns.reshape(len(patterns), n, n)
        return np.asarray(fitted.grid.to_detector(square, fitted.detector_shape), dtype=np.float64)

    def _reconstruct(
        self, measurements: Measurements, allowed: NDArray[np.bool_]
    ) -> Sequence[Sequence[NDArray[np.float32]]]:
        fitted = self._need()
        n, factor = fitted.grid.n, intensity_factor(fitted.mean_total, measurements, allowed)
        parts = []
        for x in self._chunks(measurements, allowed):
            patterns = fitted.intensities(fitted.network.reconstruct(x)) / factor
            parts.append([patterns.reshape(len(x), n, n).astype(np.float32)])
        return parts

    def _squares(
        self, measurements: Measurements, reference: Measurements, allowed: NDArray[np.bool_]
    ) -> Sequence[Sequence[NDArray[np.float64]]]:
        fitted = self._need()
        # sums over detector pixels, in units of the brightest pixel's counting noise
        unit = fitted.grid.sample_area / max(float(fitted.mean.max()), np.finfo(float).tiny)
        squares = []
        for x, of_reference in zip(self._chunks(measurements, allowed), self._chunks(reference, allowed), strict=True):
            target = fitted.intensities(of_reference)
            reproduced = fitted.intensities(fitted.network.reconstruct(x))
            squares.append([unit * np.sum((target - other) ** 2, axis=1) for other in (reproduced, fitted.mean)])
        return squares

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._need().state()

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._fitted = PixelFit.restore(self._new_network, numbers, tensors)

    def _need(self) -> PixelFit[Network]:
        if self._fitted is None:
            raise self._fit_error()
        return self._fitted

    def _chunks(self, measurements: Measurements, mask: NDArray[np.bool_], *, rescale: bool = True) -> Iterator[Tensor]:
        """Patterns in the mask, some at a time, as the network takes them."""
        fitted, grid = self._need(), require_grid(measurements)
        if grid.n != fitted.grid.n:
            raise ModelError(
                f"the patterns have {grid.n} x {grid.n} pixels, the model was fitted to {fitted.grid.n} x "
                f"{fitted.grid.n}; measure with measure.n_pixels = {fitted.grid.n}"
            )
        factor = intensity_factor(fitted.mean_total, measurements, mask) if rescale else 1.0
        if not mask.any():
            yield fitted.normalise(np.empty((0, grid.n, grid.n)))
            return
        for block in measurements.pixel_blocks(mask):
            yield fitted.normalise(block * factor)


def _embed_chunk(x: Tensor, shared: tuple[PixelNetwork, int]) -> list[NDArray[Any]]:
    network, n_angles = shared
    code = network.embed_features(x)
    if network.has_angle:
        posterior = wrapped_normal(code.angle, code.angle_std, n_angles)
    else:
        posterior = x.new_full((len(x), n_angles), 1 / n_angles)
    angle = torch.atan2(code.angle.sin(), code.angle.cos())
    evidence = torch.full_like(code.angle, torch.nan)
    columns = (code.latents, code.latent_std, angle, code.angle_std, posterior, evidence)
    return [column.cpu().numpy() for column in columns]


def require_grid(measurements: Measurements) -> PixelGrid:
    """Where the Cartesian patterns lie; DataError if there are none."""
    if measurements.pixels is None or measurements.pixel_grid is None:
        raise DataError(
            f"{measurements.name}: measured without Cartesian patterns; measure with measure.n_pixels, such as 16"
        )
    return measurements.pixel_grid


def mean_pixels(measurements: Measurements, mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Mean Cartesian pattern of the positions in the mask, shape ``(n, n)``; None where there are none."""
    if measurements.pixels is None or not mask.any():
        return None
    sums = [block.sum(axis=0, dtype=np.float64) for block in measurements.pixel_blocks(mask)]
    return np.asarray(np.sum(sums, axis=0) / mask.sum())
