"""RotationVAE: fit, embed, decode, save, load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stemvane.config import AlignConfig, BasisConfig, Config, ModelConfig, TrainingConfig
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.errors import ConfigError, ModelError
from stemvane.features.alignment import Alignment, align_rotation
from stemvane.features.feature_reader import FeatureReader
from stemvane.features.harmonics import HarmonicBasis
from stemvane.models.base import checked_latents, checked_mask, intensity_factor, spread
from stemvane.models.evidence import best_noise_variance, log_evidence
from stemvane.models.harmonic_fit import HarmonicFit, as_complex, as_tensor, start_aligned, untrained
from stemvane.models.inference import embedded, reconstructed
from stemvane.models.model_file import read_model, read_settings, write_model
from stemvane.models.pixel_models import PixelModel, mean_pixels, needed_grid
from stemvane.models.training import EpochReport, TrainingHistory, device_named, one_thread, train, training_positions
from stemvane.models.uncertainty import learn_priors

__all__ = ["RotationVAE"]


class RotationVAE:
    """Rotation-equivariant variational autoencoder of diffraction patterns.

    ``pattern = fixed background + turn(content(latents), angle) + noise``: the background stays, the content turns.

    Parameters
    ----------
    n_latent : int, optional
        Latent variables besides the angle; overrides the model's settings.
    basis, align, training : config sections, optional
        Settings; defaults where left out.
    model : ModelConfig or str, optional
        Settings, or the name of the model: ``harmonic``, or ``coordinate`` for the model as published, which learns
        from Cartesian patterns (``measure.n_pixels``) and has no basis, alignment, `reconstruct` or `evidence`.

    Attributes
    ----------
    settings : Config
        As used, open values filled.
    history : TrainingHistory
        Loss parts by epoch, and the time that training took.
    alignment : Alignment or None
        The closed-form start, of the patterns trained on; None in the published model.
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

    _kinds: ClassVar[tuple[str, ...]] = ("harmonic", "coordinate")

    def __init__(
        self,
        n_latent: int | None = None,
        *,
        basis: BasisConfig | None = None,
        align: AlignConfig | None = None,
        model: ModelConfig | str | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        if isinstance(model, str):
            model = Config.from_dict({"model": {"model": model}}, type(self).__name__).model
        if model is None:
            model = ModelConfig(model=self._kinds[0])
        if n_latent is not None:
            section = {**model.model_dump(), "n_latent": n_latent}
            model = Config.from_dict({"model": section}, type(self).__name__).model
        if model.model not in self._kinds:
            raise ConfigError(
                f"{type(self).__name__} has the models {', '.join(self._kinds)}; for {model.model!r} use pattern_model"
            )
        basis, align, training = basis or BasisConfig(), align or AlignConfig(), training or TrainingConfig()
        self.settings = Config(basis=basis, align=align, model=model, training=training).completed()
        self.basis_config, self.align_config = self.settings.basis, self.settings.align
        self.model_config, self.training_config = self.settings.model, self.settings.training
        self._published = PixelModel(self.settings) if model.learns_pixels else None
        self.history = TrainingHistory()
        self.alignment: Alignment | None = None
        self.training_mask: NDArray[np.bool_] | None = None
        self._fitted: HarmonicFit | None = None

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides the angle."""
        return self.model_config.n_latent

    @property
    def basis(self) -> HarmonicBasis:
        """Background and features; ModelError before `fit`."""
        return self._need().basis

    @property
    def mean_total(self) -> float:
        """Mean total intensity of the training patterns, to which others are scaled; ModelError before `fit`."""
        return self._published.mean_total if self._published else self._need().basis.mean_total

    @property
    def noise_level(self) -> float | None:
        """Standard deviation of the noise per real coordinate, as a fraction of the rms length of a residual.

        None in the published model, which does not learn it.
        """
        if self._published:
            return None
        return math.sqrt(self._need().network.noise_variance.item())

    def fit(
        self,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        progress: Callable[[EpochReport], None] | None = None,
    ) -> Self:
        """Learn from polar patterns, the published model from Cartesian ones, and return the model.

        Parameters
        ----------
        measurements : Measurements
            With polar patterns; Cartesian ones are used where there are any.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        progress : callable, optional
            Called with an `EpochReport` after every epoch.

        Raises
        ------
        DataError
            If too few patterns are left, they are all the same, or the mask does not fit the scan.
        """
        if self._published:
            self._published.fit(measurements, mask=mask, progress=progress)
            self.history, self.training_mask = self._published.history, self._published.training_mask
            return self
        allowed = checked_mask(mask, measurements)
        used = training_positions(allowed, self.training_config)
        reader = FeatureReader.fitted(measurements, self.basis_config, used=used, allowed=allowed)
        basis, features = reader.basis, reader.features(measurements, used, allowed)
        length = float(np.sqrt(np.mean(np.sum(np.abs(features) ** 2, axis=1))))
        x = as_tensor(features / length).to(device_named(self.training_config.device))
        torch.manual_seed(self.training_config.seed)
        self.history = TrainingHistory()
        network = untrained(reader, features, length, self.model_config).to(x.device)
        floor = math.sqrt(network.noise_variance.item())

        def learn(patterns: Tensor, n_epochs: int) -> None:
            section = self.training_config.model_copy(update={"n_epochs": n_epochs})
            beta = self.model_config.beta
            with one_thread():
                train(network, patterns, section, self.history, beta=beta, noise_floor=floor, progress=progress)

        angle, n_epochs = None, self.training_config.n_epochs
        if self.model_config.start == "random":
            network.start_anywhere()
            learn(x, n_epochs // 3)
            angle, n_epochs = network.angles(x).double().cpu().numpy(), n_epochs - n_epochs // 3
            network = untrained(reader, features, length, self.model_config).to(x.device)
        self.alignment = align_rotation(
            features,
            basis,
            self.align_config,
            n_components=max(self.n_latent, 1),
            as_recorded=features if reader.scan_filter is None else basis.features(measurements, used),
            angle=angle,
        )
        start_aligned(network, self.alignment, reader.noise, length)
        self._fitted = HarmonicFit(
            reader, length, network, measurements.grid, measurements.detector_shape, mean_pixels(measurements, used)
        )
        self.training_mask = used
        learn(network.straightened(x), n_epochs)
        network.centre(x)
        if self.n_latent and reader.noise.any():
            with one_thread():
                learn_priors(network, x, torch.from_numpy(reader.noise / length).to(x))
        return self

    def embed(
        self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None, rescale: bool = True
    ) -> Embedding:
        """Latents and angle of every probe position, also of a data set that was not trained on.

        Parameters
        ----------
        measurements : Measurements
            Of a polar grid of the same size; intensities are scaled to the mean total of the training data.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to embed, also as neighbours; the others become NaN.
        rescale : bool
            False leaves intensities as they were measured, for a few patterns that are no sample of the scan.

        Raises
        ------
        ModelError
            Before `fit`, or if the polar grid has another size.
        """
        if self._published:
            return self._published.embed(measurements, mask=mask, rescale=rescale)
        allowed = checked_mask(mask, measurements)
        parts = []
        for x, noise in self._chunks(measurements, allowed, rescale=rescale):
            with one_thread():
                parts.append([column.cpu().numpy() for column in embedded(self._need().network, x, noise)])
        return Embedding(*spread(parts, allowed))

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
            Mean intensity per pixel; NaN beyond the outermost ring, or outside of the published model's square.

        Raises
        ------
        ModelError
            Before `fit`, or if the latents are of the wrong number.
        """
        if self._published:
            return self._published.decode(latents, angle, background=background)
        fitted = self._need()
        values, angles, shape = checked_latents(latents, angle, self.n_latent)
        drawn = fitted.drawn(fitted.content(values, angles), background=background)
        return drawn.reshape(*shape, *fitted.detector_shape)

    def reconstruct(self, measurements: Measurements, mask: NDArray[np.bool_] | None = None) -> NDArray[np.complex64]:
        """Features of the patterns as the model sees them, shape ``(n_patterns, n_features)``."""
        return np.concatenate(list(self._seen(measurements, checked_mask(mask, measurements))))

    def predict(self, measurements: Measurements, *, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Cartesian patterns as the model sees them, shape ``(scan_y, scan_x, n, n)``; NaN at positions left out.

        Mean intensity per detector pixel on ``measurements.pixel_grid``. Parameters and errors as of `embed`; a
        DataError if the measurements have no Cartesian patterns.
        """
        if self._published:
            return self._published.predict(measurements, mask=mask)
        fitted, allowed = self._need(), checked_mask(mask, measurements)
        draw = fitted.pixel_painter(measurements.grid, needed_grid(measurements))
        factor = intensity_factor(fitted.basis.mean_total, measurements, allowed)
        parts = [[np.asarray(draw(seen) / factor, np.float32)] for seen in self._seen(measurements, allowed)]
        return spread(parts, allowed)[0]

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
            Squared length of what is left, and of the residual from the background, summed over pixels in units of
            their counting noise. ``1 - left.sum() / whole.sum()`` is the explained variance.
        """
        if self._published:
            return self._published.misfit(measurements, truth=truth)
        fitted, everywhere = self._need(), measurements.recorded
        # held against patterns as they are: with their neighbours' help they would be nearer to the model
        seen, sums, done = self.reconstruct(measurements, everywhere), [], 0
        for wanted in fitted.basis.feature_blocks(truth or measurements, everywhere):
            missed = wanted - seen[done : done + len(wanted)]
            sums.append([fitted.squared(part / np.float32(fitted.length)) for part in (missed, wanted)])
            done += len(wanted)
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
        """Log likelihood of patterns, each by itself, angle and latents integrated out; None from the published model.

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
        if self._published:
            return None
        network = self._need().network
        chunks = self._chunks(measurements, checked_mask(mask, measurements), neighbours=False)
        x = torch.cat([part for part, _ in chunks])
        with one_thread():
            variance = best_noise_variance(network, x) if noise_level is None else noise_level**2
            values = log_evidence(network, x, variance, n_samples=n_samples)
        return values.double().cpu().numpy(), math.sqrt(variance)

    def save(self, path: str | Path) -> Path:
        """Write the model as safetensors, and its settings beside it as TOML of the same name.

        Parameters
        ----------
        path : str or Path
            File to write; its suffix becomes ``.safetensors``, and that path is returned.

        Raises
        ------
        ModelError
            Before `fit`, or if the file cannot be written.
        """
        if self._published:
            return self._published.save(path)
        return write_model(Path(path), *self._need().state(), self.settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            The ``.safetensors`` file; its settings are read from the TOML file beside it.

        Raises
        ------
        ModelError
            If a file is missing or damaged.
        ConfigError
            If a setting is unknown.
        """
        path = Path(path)
        config = read_settings(path)
        model = cls(basis=config.basis, align=config.align, model=config.model, training=config.training)
        if model._published:
            model._published = PixelModel.load(path)
        else:
            model._fitted = read_model(path, HarmonicFit.restored)[1]
        return model

    def _need(self) -> HarmonicFit:
        if self._published:
            raise ModelError("the published model has no circular harmonics; embed, decode and predict do without them")
        if self._fitted is None:
            raise ModelError("the model has not been fitted; call fit(measurements) or RotationVAE.load(path) first")
        return self._fitted

    def _seen(self, measurements: Measurements, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.complex64]]:
        """Features of the patterns in the mask as the model sees them, some at a time."""
        fitted = self._need()
        for x, _ in self._chunks(measurements, mask):
            with one_thread():
                yield as_complex(reconstructed(fitted.network, x)) * np.float32(fitted.length)

    def _chunks(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_],
        *,
        neighbours: bool = True,
        rescale: bool = True,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features of the patterns in the mask and their noise, some at a time, in units of their rms length."""
        fitted = self._need()
        device = fitted.network.template.device
        for features, noise in fitted.reader.blocks(measurements, mask, neighbours=neighbours, rescale=rescale):
            yield as_tensor(features / fitted.length).to(device), torch.from_numpy(noise / fitted.length).to(device)
