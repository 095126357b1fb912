"""RotationVAE: fit, embed, decode, save, load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stemvane.alignment import Alignment, align_rotation
from stemvane.config import AlignConfig, BasisConfig, Config, ModelConfig, TrainingConfig
from stemvane.embedding import Embedding
from stemvane.errors import DataError, ModelError
from stemvane.feature_reader import FeatureReader
from stemvane.harmonics import HarmonicBasis
from stemvane.measurements import Measurements
from stemvane.model_file import FittedModel, as_complex, as_tensor, read_model, write_model
from stemvane.models.evidence import best_noise_variance, log_evidence
from stemvane.models.harmonic import HarmonicModel
from stemvane.models.inference import embedded, reconstructed
from stemvane.training import EpochReport, TrainingHistory, device_named, train

__all__ = ["RotationVAE"]


class RotationVAE:
    """Rotation-equivariant variational autoencoder of diffraction patterns.

    ``pattern = fixed background + turn(content(latents), angle) + noise``: the background stays, the content turns.

    Parameters
    ----------
    n_latent : int, optional
        Latent variables besides the angle; overrides the model's settings.
    basis, align, model, training : config sections, optional
        Settings; defaults where left out.

    Attributes
    ----------
    history : TrainingHistory
        Loss parts by epoch, and the time that training took.
    alignment : Alignment or None
        The closed-form start, of the patterns trained on.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were trained on; the others inside the mask were held out.

    Examples
    --------
    >>> from stemvane import RotationVAE, measure, synthetic
    >>> dataset, truth = synthetic(scan_shape=(12, 12), detector_shape=(32, 32))
    >>> measurements = measure(dataset)
    >>> model = RotationVAE(n_latent=1).fit(measurements)
    >>> model.embed(measurements).angle.shape
    (12, 12)
    """

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        basis: BasisConfig | None = None,
        align: AlignConfig | None = None,
        model: ModelConfig | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        self.basis_config = basis or BasisConfig()
        self.align_config = align or AlignConfig()
        self.model_config = model or ModelConfig()
        self.training_config = training or TrainingConfig()
        if n_latent is not None:
            section = {**self.model_config.model_dump(), "n_latent": n_latent}
            self.model_config = Config.from_dict({"model": section}, "RotationVAE").model
        self.history = TrainingHistory()
        self.alignment: Alignment | None = None
        self.training_mask: NDArray[np.bool_] | None = None
        self._fitted: FittedModel | None = None

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides the angle."""
        return self.model_config.n_latent

    @property
    def basis(self) -> HarmonicBasis:
        """Background and features; ModelError before `fit`."""
        return self._need().reader.basis

    @property
    def noise_level(self) -> float:
        """Standard deviation of the noise per real coordinate, as a fraction of the rms length of a residual."""
        return math.sqrt(self._need().network.noise_variance.item())

    def fit(
        self,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        progress: Callable[[EpochReport], None] | None = None,
    ) -> RotationVAE:
        """Learn from polar patterns.

        Parameters
        ----------
        measurements : Measurements
            With polar patterns.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        progress : callable, optional
            Called with an `EpochReport` after every epoch.

        Returns
        -------
        RotationVAE
            Itself.

        Raises
        ------
        DataError
            If too few patterns are left, they are all the same, or the mask does not fit the scan.
        """
        allowed = _checked_mask(mask, measurements)
        used = self._split(allowed)
        reader = FeatureReader.fitted(measurements, self.basis_config, used=used, allowed=allowed)
        basis = reader.basis
        features = reader.features(measurements, used, allowed)
        power = (np.abs(features) ** 2).mean(axis=0)
        length = float(np.sqrt(power.sum()))
        device = device_named(self.training_config.device)
        torch.manual_seed(self.training_config.seed)
        network = HarmonicModel(
            torch.from_numpy(basis.orders), self.n_latent, self.model_config.n_hidden, self.model_config.n_angles
        )
        # one level for all features, in units of order 0
        counting = float(np.sqrt(np.average((reader.noise / basis.scale) ** 2, weights=power)))
        floor = max(self.model_config.noise_floor, counting / length)
        network.noise_variance.fill_(floor**2)
        self.alignment = align_rotation(
            features,
            basis,
            self.align_config,
            n_components=max(self.n_latent, 1),
            as_recorded=basis.features(measurements, used),
        )
        if self.model_config.start == "alignment":
            found, n = self.alignment, self.n_latent
            # the patterns scatter by their content and by counting noise; the latents stand for the content alone
            scatter = (np.abs(found.components[:n]) ** 2 * reader.noise**2).sum(axis=1)
            deviation = np.sqrt(np.maximum(found.variance[:n] - scatter, 0)).astype(np.float32) / np.float32(length)
            network.start_from(
                as_tensor(found.template / length),
                as_tensor(found.components[:n]),
                torch.from_numpy(deviation),
                found.symmetry,
            )
        else:
            network.start_anywhere()
        network.to(device)
        self._fitted = FittedModel(reader, length, network, measurements.grid, measurements.detector_shape)
        self.training_mask = used
        x = as_tensor(features / length).to(device)
        with _one_thread():
            self.history = train(
                network, x, self.training_config, beta=self.model_config.beta, noise_floor=floor, progress=progress
            )
        network.standardise(x)
        return self

    def embed(
        self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None, neighbours: bool = True
    ) -> Embedding:
        """Latents and angle of every probe position, also of a data set that was not trained on.

        Parameters
        ----------
        measurements : Measurements
            Of a polar grid of the same size; intensities are scaled to the mean total of the training data.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to embed; the others become NaN.
        neighbours : bool
            Whether neighbouring positions are used for one another; False for patterns that are no scan.

        Returns
        -------
        Embedding

        Raises
        ------
        ModelError
            Before `fit`, or if the polar grid has another size.
        """
        allowed = _checked_mask(mask, measurements)
        network = self._need().network
        parts = []
        for x, noise in self._chunks(measurements, allowed, neighbours=neighbours):
            with _one_thread():
                parts.append([column.cpu() for column in embedded(network, x, noise)])
        full = []
        for columns in zip(*parts, strict=True):
            array = torch.cat(columns).numpy()
            full.append(np.full((*measurements.scan_shape, *array.shape[1:]), np.nan, np.float32))
            full[-1][allowed] = array
        return Embedding(*full)

    def decode(self, latents: ArrayLike, angle: ArrayLike = 0.0, *, background: bool = True) -> NDArray[np.float64]:
        """Draw the patterns that latents and angle stand for.

        Parameters
        ----------
        latents : array_like, shape (..., n_latent)
            Latent variables.
        angle : array_like, broadcastable to shape (...)
            Rotation in rad, counter-clockwise on the screen.
        background : bool
            Whether the fixed background is added.

        Returns
        -------
        ndarray of float, shape (..., k_y, k_x)
            Mean intensity per pixel; NaN beyond the outermost ring.

        Raises
        ------
        ModelError
            Before `fit`, or if the latents are of the wrong number.
        """
        fitted = self._need()
        values = np.asarray(latents, dtype=np.float32)
        if values.ndim == 0 or values.shape[-1] != self.n_latent:
            raise ModelError(
                f"latents of shape {values.shape} do not fit a model of {self.n_latent}; give (..., n_latent)"
            )
        shape = values.shape[:-1]
        angles = np.broadcast_to(np.asarray(angle, dtype=np.float32), shape).ravel()
        device = fitted.network.template.device
        with torch.no_grad():
            raw = fitted.network.unstandardised(
                torch.from_numpy(values.reshape(math.prod(shape), self.n_latent)).to(device)
            )
            content = fitted.network.turn(fitted.network.decode(raw), torch.from_numpy(angles.copy()).to(device))
        polar = fitted.reader.basis.polar(as_complex(content) * fitted.length, background=background)
        return fitted.grid.to_cartesian(polar, fitted.detector_shape).reshape(*shape, *fitted.detector_shape)

    def reconstruct(self, measurements: Measurements, mask: NDArray[np.bool_] | None = None) -> NDArray[np.complex64]:
        """Features of the patterns as the model sees them, shape ``(n_patterns, n_features)``."""
        fitted = self._need()
        parts = []
        for x, _ in self._chunks(measurements, _checked_mask(mask, measurements)):
            with _one_thread():
                parts.append(as_complex(reconstructed(fitted.network, x)) * fitted.length)
        return np.concatenate(parts)

    def misfit(
        self, measurements: Measurements, *, truth: Measurements | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the model leaves unexplained of every pattern.

        Parameters
        ----------
        measurements : Measurements
            Patterns that latents and angles are taken from.
        truth : Measurements, optional
            What the model's patterns are held against instead, such as the noiseless patterns.

        Returns
        -------
        left, whole : ndarray of float, shape (scan_y, scan_x)
            Squared length of the residual that is left, and of the residual from the background, summed over pixels in
            units of their counting noise. ``1 - left.sum() / whole.sum()`` is the explained variance.
        """
        fitted, everywhere = self._need(), measurements.recorded
        seen = self.reconstruct(measurements, everywhere)
        scale, done, sums = fitted.reader.basis.scale, 0, []
        for wanted in fitted.reader.basis.feature_blocks(truth or measurements, everywhere):
            missed = wanted - seen[done : done + len(wanted)]
            sums.append([np.sum(np.abs(part / scale) ** 2, axis=1) for part in (missed, wanted)])
            done += len(wanted)
        left, whole = np.full((2, *measurements.scan_shape), np.nan)
        left[everywhere], whole[everywhere] = (np.concatenate(part) for part in zip(*sums, strict=True))
        return left, whole

    def evidence(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        noise_level: float | None = None,
        n_samples: int = 16,
    ) -> tuple[NDArray[np.float64], float]:
        """Log likelihood of patterns, each by itself, angle and latents integrated out.

        Parameters
        ----------
        measurements : Measurements
            With polar patterns.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        noise_level : float, optional
            As a fraction of the rms length of a residual; where left out, the one that makes these patterns likeliest.
        n_samples : int
            Importance samples per pattern.

        Returns
        -------
        ndarray of float, shape (n_patterns,)
            Nats per pattern, of features divided by their rms length.
        float
            The noise level used.
        """
        network = self._need().network
        chunks = self._chunks(measurements, _checked_mask(mask, measurements), neighbours=False)
        x = torch.cat([part for part, _ in chunks])
        with _one_thread():
            variance = best_noise_variance(network, x) if noise_level is None else noise_level**2
            values = log_evidence(network, x, variance, n_samples=n_samples)
        return values.double().cpu().numpy(), math.sqrt(variance)

    def save(self, path: str | Path) -> Path:
        """Write the model as safetensors, and its settings beside it as TOML of the same name.

        Parameters
        ----------
        path : str or Path
            File to write; the suffix becomes ``.safetensors``.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ModelError
            Before `fit`, or if the file cannot be written.
        """
        sections = {
            "basis": self.basis_config,
            "align": self.align_config,
            "model": self.model_config,
            "training": self.training_config,
        }
        settings = {name: section.model_dump(mode="json", exclude_none=True) for name, section in sections.items()}
        return write_model(Path(path).with_suffix(".safetensors"), self._need(), settings)

    @classmethod
    def load(cls, path: str | Path) -> RotationVAE:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            The ``.safetensors`` file; its settings are read from the TOML file beside it.

        Returns
        -------
        RotationVAE

        Raises
        ------
        ModelError
            If a file is missing or damaged.
        ConfigError
            If a setting is unknown.
        """
        config, fitted = read_model(Path(path).with_suffix(".safetensors"))
        model = cls(basis=config.basis, align=config.align, model=config.model, training=config.training)
        model._fitted = fitted
        return model

    def _need(self) -> FittedModel:
        if self._fitted is None:
            raise ModelError("the model has not been fitted; call fit(measurements) or RotationVAE.load(path) first")
        return self._fitted

    def _chunks(
        self, measurements: Measurements, mask: NDArray[np.bool_], *, neighbours: bool = True
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features of the patterns in the mask and their noise, some at a time, in units of their rms length."""
        fitted = self._need()
        device = fitted.network.template.device
        for features, noise in fitted.reader.blocks(measurements, mask, neighbours=neighbours):
            yield as_tensor(features / fitted.length).to(device), torch.from_numpy(noise / fitted.length).to(device)

    def _split(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Leave out the share of the patterns that is held out from training, and what is beyond ``max_patterns``."""
        positions = np.flatnonzero(allowed)
        n_held = round(self.training_config.holdout * len(positions))
        # the same for every seed, so that seeds differ in nothing but the network's own chance
        chance = np.random.default_rng(0)
        left = np.setdiff1d(positions, chance.choice(positions, n_held, replace=False))
        if len(left) > self.training_config.max_patterns:
            left = chance.choice(left, self.training_config.max_patterns, replace=False)
        used = np.zeros(allowed.shape, bool)
        used.ravel()[left] = True
        return used


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run PyTorch on one thread: steps this small lose more time waiting for each other than they gain."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _checked_mask(mask: NDArray[np.bool_] | None, measurements: Measurements) -> NDArray[np.bool_]:
    if mask is None:
        return measurements.recorded
    if np.shape(mask) != measurements.scan_shape:
        raise DataError(f"the mask has shape {np.shape(mask)}; give one of the scan's, {measurements.scan_shape}")
    return np.asarray(mask, bool) & measurements.recorded
