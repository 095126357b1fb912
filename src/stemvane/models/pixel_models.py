"""Models of Cartesian patterns: the autoencoder as published, a plain one, and linear models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stemvane.config import Config, ModelConfig
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError, ModelError
from stemvane.geometry.pixels import PixelGrid
from stemvane.models.base import checked_latents, checked_mask, intensity_factor, spread
from stemvane.models.coordinate import CoordinateModel
from stemvane.models.linear import NonNegativeModel, PrincipalModel
from stemvane.models.model_file import read_model, write_model
from stemvane.models.pixel import PixelNetwork, wrapped_normal
from stemvane.models.plain import PlainModel
from stemvane.models.training import CONSTANT, EpochReport, TrainingHistory, device_named, train, training_positions

__all__ = ["PixelModel", "mean_pixels", "needed_grid"]


@dataclass(frozen=True, eq=False)
class PixelFit:
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
        Where the pixels lay on the detector.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    """

    network: PixelNetwork
    low: float
    high: float
    mean: NDArray[np.float64]
    mean_total: float
    grid: PixelGrid
    detector_shape: tuple[int, int]

    def normalised(self, patterns: NDArray[np.floating[Any]]) -> Tensor:
        """Patterns as the network takes them, shape ``(n_patterns, n²)``, on its device."""
        rows = (patterns.reshape(len(patterns), self.grid.n**2) - self.low) / (self.high - self.low)
        return torch.from_numpy(np.asarray(rows, np.float32)).to(self.network.device)

    def intensities(self, x: Tensor) -> NDArray[np.float64]:
        """Patterns in the units of the training patterns, shape ``(n_patterns, n²)``."""
        return np.asarray(x.cpu().numpy().astype(np.float64) * (self.high - self.low) + self.low)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `restored` builds it again."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors["mean"] = torch.from_numpy(self.mean)
        about = {name: getattr(self, name) for name in ("low", "high", "mean_total")}
        return tensors, about | {"detector_shape": list(self.detector_shape), "pixel_grid": self.grid.to_dict()}

    @classmethod
    def restored(cls, config: Config, about: dict[str, Any], tensors: dict[str, Tensor]) -> PixelFit:
        """Build it from settings and what `state` returned."""
        grid = PixelGrid.from_dict(about["pixel_grid"])
        network = _network(config.model, grid.n)
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        network.train(False)
        rows, columns = about["detector_shape"]
        numbers = {name: float(about[name]) for name in ("low", "high", "mean_total")}
        return cls(network=network, mean=tensors["mean"].numpy(), grid=grid, detector_shape=(rows, columns), **numbers)


class PixelModel:
    """A model of Cartesian patterns; see `PatternModel` for what its methods promise.

    Parameters
    ----------
    settings : Config
        Whose sections ``model`` and ``training`` count.

    Attributes
    ----------
    history : TrainingHistory
        Loss parts by epoch, and the time that the fit took.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were learned from.
    """

    def __init__(self, settings: Config) -> None:
        self.settings = settings.completed()
        self.history = TrainingHistory()
        self.training_mask: NDArray[np.bool_] | None = None
        self._fitted: PixelFit | None = None

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides an angle."""
        return self.settings.model.n_latent

    @property
    def noise_level(self) -> float | None:
        """None: these models do not learn the noise level."""
        return None

    @property
    def mean_total(self) -> float:
        """Mean total intensity of the training patterns; ModelError before `fit`."""
        return self._need().mean_total

    def fit(
        self,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        progress: Callable[[EpochReport], None] | None = None,
    ) -> Self:
        """Learn from Cartesian patterns.

        Parameters
        ----------
        measurements : Measurements
            With Cartesian patterns.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        progress : callable, optional
            Called with an `EpochReport` after every epoch.

        Returns
        -------
        PixelModel
            Itself.

        Raises
        ------
        DataError
            If there are no Cartesian patterns, too few are left, they are all the same, or the mask does not fit.
        ModelError
            If there are more latents than the patterns can have.
        """
        model, training = self.settings.model, self.settings.training
        grid = needed_grid(measurements)
        used = training_positions(checked_mask(mask, measurements), training)
        n = int(used.sum())
        if n < 2:
            raise DataError(f"{n} patterns are too few to learn from; widen the mask or take a larger scan")
        patterns = np.concatenate(list(measurements.pixel_blocks(used))).reshape(n, grid.n**2)
        low, high = float(patterns.min()), float(patterns.max())
        # a millionth of the brightest pixel: less than that is rounding
        if not np.ptp(patterns, axis=0).max() > 1e-6 * max(abs(low), abs(high)):
            raise DataError("all patterns are the same, so there is nothing to learn; check scan and detector")
        torch.manual_seed(training.seed)
        network = _network(model, grid.n)
        total = np.asarray(measurements.maps["total"], dtype=float)[used]
        mean = patterns.mean(axis=0, dtype=np.float64)
        fitted = PixelFit(network, low, high, mean, float(total.mean()), grid, measurements.detector_shape)
        # set before training, so that `progress` may ask the model
        self._fitted, self.training_mask = fitted, used
        if isinstance(network, CoordinateModel | PlainModel):
            network.to(device_named(training.device))
            x = fitted.normalised(patterns)
            self.history = TrainingHistory()
            train(network, x, training, self.history, beta=model.beta, recipe=CONSTANT, progress=progress)
        elif isinstance(network, PrincipalModel | NonNegativeModel):
            x, began = fitted.normalised(patterns), time.perf_counter()
            network.solve(x, training.seed)
            self.history = TrainingHistory(seconds=time.perf_counter() - began)
        network.standardise(x)
        return self

    def embed(
        self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None, rescale: bool = True
    ) -> Embedding:
        """Latents, and the angle where the model has one, of every probe position; no evidence.

        Raises
        ------
        DataError
            If there are no Cartesian patterns.
        ModelError
            Before `fit`, or if the patterns are of another size.
        """
        fitted, allowed = self._need(), checked_mask(mask, measurements)
        network, n_angles = fitted.network, self.settings.model.n_angles
        parts = []
        for x in self._chunks(measurements, allowed, rescale=rescale):
            code = network.embedded(x)
            if network.has_angle:
                posterior = wrapped_normal(code.angle, code.angle_std, n_angles)
            else:
                posterior = x.new_full((len(x), n_angles), 1 / n_angles)
            angle = torch.atan2(code.angle.sin(), code.angle.cos())
            evidence = torch.full_like(code.angle, torch.nan)
            columns = (code.latents, code.latent_std, angle, code.angle_std, posterior, evidence)
            parts.append([column.cpu().numpy() for column in columns])
        return Embedding(*spread(parts, allowed))

    def decode(self, latents: ArrayLike, angle: ArrayLike = 0.0, *, background: bool = True) -> NDArray[np.float64]:
        """Draw the patterns that latents and angle stand for; without `background` less the mean training pattern.

        Parameters
        ----------
        latents : array_like, shape (..., n_latent)
            Latent variables.
        angle : array_like, broadcastable to shape (...)
            Rotation in rad, counter-clockwise on the screen; without effect in a model without an angle.
        background : bool
            Whether the mean of the training patterns stays in.

        Returns
        -------
        ndarray of float, shape (..., k_y, k_x)
            Mean intensity per detector pixel; NaN outside of the square that was measured.

        Raises
        ------
        ModelError
            Before `fit`, or if the latents are of the wrong number.
        """
        fitted = self._need()
        values, angles, shape = checked_latents(latents, angle, self.n_latent)
        network = fitted.network
        with torch.no_grad():
            raw = network.unstandardised(torch.from_numpy(values).to(network.device))
            seen = network.decode(raw, torch.from_numpy(angles).to(network.device), raw.new_zeros(len(raw), 2))
        patterns = fitted.intensities(seen) - (0.0 if background else fitted.mean)
        square = patterns.reshape(*shape, fitted.grid.n, fitted.grid.n)
        return np.asarray(fitted.grid.to_detector(square, fitted.detector_shape), dtype=np.float64)

    def predict(self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Patterns as the model sees them, shape ``(scan_y, scan_x, n, n)``; parameters and errors as of `embed`."""
        fitted, allowed = self._need(), checked_mask(mask, measurements)
        n, factor = fitted.grid.n, intensity_factor(fitted.mean_total, measurements, allowed)
        parts = []
        for x in self._chunks(measurements, allowed):
            seen = fitted.intensities(fitted.network.reconstruct(x)) / factor
            parts.append([seen.reshape(len(x), n, n).astype(np.float32)])
        return spread(parts, allowed)[0]

    def misfit(
        self, measurements: Measurements, *, truth: Measurements | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the model leaves of every residual, and the residual itself, shape ``(scan_y, scan_x)``.

        Sums of squares over detector pixels, in units of the brightest pixel's counting noise; the residual is from the
        mean training pattern. Parameters and errors as of `RotationVAE.misfit`.
        """
        fitted, everywhere = self._need(), checked_mask(None, measurements)
        unit = fitted.grid.sample_area / max(float(fitted.mean.max()), np.finfo(float).tiny)
        against = iter(self._chunks(truth, everywhere)) if truth is not None else None
        sums = []
        for x in self._chunks(measurements, everywhere):
            seen = fitted.intensities(fitted.network.reconstruct(x))
            wanted = fitted.intensities(x if against is None else next(against))
            sums.append([unit * np.sum((wanted - other) ** 2, axis=1) for other in (seen, fitted.mean)])
        left, whole = spread(sums, everywhere)
        return left, whole

    def evidence(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        noise_level: float | None = None,
        n_samples: int = 16,
    ) -> tuple[NDArray[np.float64], float] | None:
        """None: these models know no likelihood that others could be compared with."""
        return None

    def save(self, path: str | Path) -> Path:
        """Write the model as safetensors, and its settings beside it as TOML; ModelError if that fails."""
        return write_model(Path(path), *self._need().state(), self.settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If a file is missing or damaged.
        ConfigError
            If a setting is unknown.
        """
        config, fitted = read_model(Path(path), PixelFit.restored)
        model = cls(config)
        model._fitted = fitted
        return model

    def _need(self) -> PixelFit:
        if self._fitted is None:
            raise ModelError("the model has not been fitted; call fit(measurements) or load(path) first")
        return self._fitted

    def _chunks(self, measurements: Measurements, mask: NDArray[np.bool_], *, rescale: bool = True) -> Iterator[Tensor]:
        """Patterns in the mask, some at a time, as the network takes them."""
        fitted, grid = self._need(), needed_grid(measurements)
        if grid.n != fitted.grid.n:
            raise ModelError(
                f"the patterns have {grid.n} x {grid.n} pixels, the model was fitted to {fitted.grid.n} x "
                f"{fitted.grid.n}; measure with the same n_pixels"
            )
        factor = intensity_factor(fitted.mean_total, measurements, mask) if rescale else 1.0
        if not mask.any():
            yield fitted.normalised(np.empty((0, grid.n, grid.n)))
            return
        for block in measurements.pixel_blocks(mask):
            yield fitted.normalised(block * factor)


def needed_grid(measurements: Measurements) -> PixelGrid:
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


def _network(model: ModelConfig, n_side: int) -> PixelNetwork:
    if model.model == "coordinate":
        return CoordinateModel(n_side, model.n_latent, model.width, model.angle_prior, model.translation)
    if model.model == "vae":
        return PlainModel(n_side, model.n_latent, model.width)
    return (PrincipalModel if model.model == "pca" else NonNegativeModel)(n_side, model.n_latent)
