"""What every model of patterns offers: the abstract base class of the models."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stemvane.config import Config
from stemvane.data.arguments import require, require_numbers, require_path
from stemvane.data.deflection_angle import add_deflection_angle
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.progress import stage_bars
from stemvane.data.representation import Representable, Row, format_count, format_quantity
from stemvane.errors import DataError, ModelError
from stemvane.models.checks import check_mask, spread
from stemvane.models.manifold import EmbeddedScan, latent_manifold
from stemvane.models.misfit import Misfit
from stemvane.models.model_file import read_model, read_settings, write_model
from stemvane.models.training import EpochReport, TrainingHistory, training_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PatternModel"]


class PatternModel(Representable, ABC):
    """A model of the patterns of a scan.

    Attributes
    ----------
    settings : Config
        Settings, of which the sections in `sections` count.
    history : TrainingHistory
        Parts of the loss by epoch, and the time that training took.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were trained on; the others inside the mask of `fit` were held out.
    """

    kind: ClassVar[str]
    """Name of the model in the settings."""
    sections: ClassVar[frozenset[str]] = frozenset({"model", "training"})
    """Sections of the settings that the model uses."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.training_config = settings.training
        self.history = TrainingHistory()
        self.training_mask: NDArray[np.bool_] | None = None
        self._embedded_scan: EmbeddedScan | None = None

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Config) -> Self:
        """Make an unfitted model of the settings of a run.

        Parameters
        ----------
        settings : Config
            Settings whose section ``model`` belongs to this model.
        """

    @property
    def n_latent(self) -> int:
        """Number of latent variables besides an angle."""
        return self.settings.model.n_latent

    @property
    def symmetry(self) -> int:
        """Rotational symmetry of the content: angles that differ by ``2 π / symmetry`` are the same; 1 without one."""
        return 1

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether the model has been fitted or loaded."""

    @property
    @abstractmethod
    def noise_level(self) -> float | None:
        """Standard deviation of the noise, as a fraction of the rms length of a residual; None if it is not learned."""

    @property
    @abstractmethod
    def mean_total(self) -> float:
        """Mean total intensity of the training patterns, to which others are scaled; ModelError before `fit`."""

    def fit(
        self,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        progress: Callable[[EpochReport], None] | bool | None = None,
    ) -> Self:
        """Learn from the patterns of a scan.

        Parameters
        ----------
        measurements : Measurements
            The measured scan, from `measure`.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        progress : callable or bool, optional
            Called with an `EpochReport` after every epoch; True shows a bar, False none, None one where it is seen.

        Returns
        -------
        PatternModel
            The model itself, fitted.

        Raises
        ------
        DataError
            If these are no measurements, the patterns that the model learns from were not measured, fewer than two
            patterns remain, all patterns are the same, or the mask does not fit the scan.
        ModelError
            If there are more latents than the patterns can have.
        """
        allowed = self._allowed(measurements, mask)
        used = training_positions(allowed, self.training_config)
        if used.sum() < 2:
            n_used = format_count(int(used.sum()), "pattern")
            raise DataError(f"{n_used}: too few to learn from; widen the mask or take a larger scan")
        if callable(progress):
            self._learn(measurements, used, allowed, progress)
            return self
        n_epochs = self.training_config.n_epochs
        with stage_bars(progress) as report:
            self._learn(measurements, used, allowed, lambda epoch: report("learn", epoch.epoch, n_epochs, str(epoch)))
        return self

    def embed(
        self,
        measurements: Measurements,
        *,
        mask: NDArray[np.bool_] | None = None,
        rescale: bool = True,
        client: Any = None,
    ) -> Embedding:
        """Find latents and angle of every probe position, also of a scan that was not trained on.

        Parameters
        ----------
        measurements : Measurements
            Measurements on the fitted grids' sizes; intensities are scaled to the mean total of the training data.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to embed, also as neighbours of others; the others become NaN.
        rescale : bool
            False leaves intensities as they were measured, for a few patterns that are no sample of the scan.
        client : distributed.Client, optional
            A Dask cluster, as of `measure`; it is sent features, and the result is that of threads to the last bit.
            `KindsModel`, which finds the kinds of neighbours together, works here all the same.

        Returns
        -------
        Embedding
            Angles and latents; without an angle in the model, NaN of infinite deviation and uniform posterior.

        Raises
        ------
        ModelError
            Before `fit`, or if the patterns are of another size.
        DataError
            If these are no measurements, or the mask does not fit the scan.
        """
        allowed = self._allowed(measurements, mask)
        maps = spread(self._embed(measurements, allowed, rescale, client), allowed)
        return self._as_embedding(maps, measurements, near=self._uses_neighbours(measurements))

    def _as_embedding(self, maps: Sequence[NDArray[Any]], measurements: Measurements, *, near: bool) -> Embedding:
        """Embedding of columns of `_embed` on the scan, kept in mind for `plot_manifold`."""
        step, unit, fold = measurements.calibration.scan_step, self.settings.model.latent_unit, self.symmetry
        more = self._of_embedding(maps[6:])
        embedding = Embedding(*maps[:6], **more, scan_step=step, latent_unit=unit, uses_neighbours=near, symmetry=fold)
        embedding = add_deflection_angle(embedding, measurements)
        if measurements.is_scan or self._embedded_scan is None:
            radius = measurements.calibration.disc_radius
            intensity = "dose" if measurements.noiseless else measurements.units["total"]
            self._embedded_scan = EmbeddedScan(embedding.latents, measurements.grid, radius, f"{intensity} / pixel")
        return embedding

    def decode(self, latents: ArrayLike, angle: ArrayLike = 0.0, *, background: bool = True) -> NDArray[np.float64]:
        """Draw the patterns that latents and angle stand for.

        Parameters
        ----------
        latents : array_like, shape (..., n_latent)
            Latent variables.
        angle : array_like, broadcastable to shape (...)
            Rotation in rad, counter-clockwise on the screen; without effect in a model without an angle.
        background : bool
            Whether the background, the mean of the training patterns, is added.

        Returns
        -------
        ndarray of float, shape (..., k_y, k_x)
            Mean intensity per detector pixel; NaN outside of the area that the model learned from.

        Raises
        ------
        ModelError
            Before `fit`, or if the number of latents is wrong.
        DataError
            If latents or angles are no numbers, or there are other numbers of them.
        """
        values = require_numbers(latents, "decode", "latents of shape (..., n_latent)")
        if values.ndim == 0 or values.shape[-1] != self.n_latent:
            raise ModelError(
                f"latents of shape {values.shape} do not fit a model of {self.n_latent}; give (..., n_latent)"
            )
        shape = values.shape[:-1]
        angles = require_numbers(angle, "decode", "angles in rad")
        try:
            angles = np.broadcast_to(angles, shape).ravel().copy()
        except ValueError:
            raise DataError(
                f"decode takes one angle, or one for each pattern: they have the shape {angles.shape}, the patterns "
                f"{shape}; give angles of that shape"
            ) from None
        drawn = self._drawn(values.reshape(math.prod(shape), self.n_latent), angles, background)
        return drawn.reshape(*shape, *drawn.shape[1:])

    def reconstruct(self, measurements: Measurements, mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Draw every pattern of a scan as the model reproduces it, from its own latents and angle.

        Parameters
        ----------
        measurements : Measurements
            A scan with Cartesian patterns, whose grid of pixels the reconstructions lie on.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to reconstruct.

        Returns
        -------
        ndarray of float32, shape (scan_y, scan_x, n, n)
            Mean intensity per detector pixel on ``measurements.pixel_grid``; NaN at the other positions.

        Raises
        ------
        ModelError
            Before `fit`, or if the patterns are of another size.
        DataError
            If there are no Cartesian patterns, or the mask does not fit the scan.
        """
        allowed = self._allowed(measurements, mask)
        return spread(self._reconstruct(measurements, allowed), allowed)[0]

    def misfit(self, measurements: Measurements, *, truth: Measurements | None = None) -> Misfit:
        """Measure what the model leaves unexplained of every pattern.

        Parameters
        ----------
        measurements : Measurements
            Patterns that latents and angles are taken from.
        truth : Measurements, optional
            What the reconstructions are compared with instead of these patterns, such as noiseless patterns.

        Returns
        -------
        Misfit
            A named tuple of the maps ``residual`` and ``total``, in units of counting noise.

        Raises
        ------
        ModelError
            Before `fit`, or if the patterns are of another size.
        DataError
            If these are no measurements.
        """
        everywhere = self._allowed(measurements, None)
        reference = measurements if truth is None else truth
        self._allowed(reference, None)
        return Misfit(*spread(self._squares(measurements, reference, everywhere), everywhere))

    def evidence(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        noise_level: float | None = None,
        n_samples: int = 16,
    ) -> tuple[NDArray[np.float64], float] | None:
        """Estimate the log likelihood of patterns; None in a model whose likelihood cannot be compared with others'.

        Parameters
        ----------
        measurements : Measurements
            The measured scan.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        noise_level : float, optional
            Noise level, as a fraction of the rms length of a residual; the likeliest for these patterns if left out.
        n_samples : int
            Number of importance samples per pattern.

        Returns
        -------
        ndarray of float, shape (n_patterns,)
            Log likelihood of every pattern in nats.
        float
            The noise level used.
        """
        return None

    def plot_manifold(self, ax: Axes | None = None, *, n: int = 7) -> Axes:
        """Draw the patterns that the model decodes along the first two latents of the scan that was embedded last.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; those of a new figure where left out.
        n : int
            Number of patterns along each latent.

        Returns
        -------
        matplotlib.axes.Axes
            The panel. Patterns are decoded at angle 0, with the other latents 0, and hatched where the scan has no
            pattern with such latents.

        Raises
        ------
        ModelError
            If no scan has been embedded.
        """
        from stemvane.figures.manifold_panel import Manifold
        from stemvane.figures.model_panels import draw_model_manifold

        if self._embedded_scan is None or not np.isfinite(self._embedded_scan[0]).all(axis=-1).any():
            raise ModelError("the model has not embedded a scan whose latents could be drawn; call embed(measurements)")
        latents, grid, radius, unit = self._embedded_scan
        manifold = Manifold(*latent_manifold(self, latents, n))
        return draw_model_manifold(manifold, latents, grid, radius, unit, self.settings.model.latent_unit, ax)

    def plot_history(self, what: str = "loss", ax: Axes | None = None) -> Axes:
        """Draw a learning curve.

        Parameters
        ----------
        what : str
            ``loss``, total and reconstruction; ``KL divergence``, of latents and angle; or ``noise level``.
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; those of a new figure where left out.

        Returns
        -------
        matplotlib.axes.Axes
            The panel.

        Raises
        ------
        ConfigError
            If there is no curve of that name.
        """
        from stemvane.figures.model_panels import draw_model_history

        return draw_model_history(self.history.columns, what, ax)

    def save(self, path: str | Path) -> Path:
        """Write the model as safetensors, and its settings beside it as TOML of the same name.

        Parameters
        ----------
        path : str or Path
            File to write; its suffix becomes ``.safetensors``.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        ModelError
            Before `fit`, or if the file cannot be written.
        DataError
            If `path` is no path.
        """
        path = require_path(path, f"{type(self).__name__}.save", "the file to write")
        return write_model(path, *self._state(), self.settings, self.sections)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            The ``.safetensors`` file; its settings are read from the TOML file beside it.

        Returns
        -------
        PatternModel
            The fitted model.

        Raises
        ------
        ModelError
            If a file is missing or damaged, or holds another model.
        DataError
            If `path` is no path.
        ConfigError
            If a setting is unknown.
        """
        path = require_path(path, f"{cls.__name__}.load", "a model's .safetensors file")
        settings = read_settings(path)
        if settings.model.model != cls.kind:
            raise ModelError(f"{path}: holds the model {settings.model.model!r}, not {cls.kind!r}; call load_model")
        model = cls.from_settings(settings)
        read_model(path, model._restore)
        return model

    def _summary(self) -> tuple[str, Sequence[Row]]:
        """Title and rows of the printed model: whether it is fitted, its settings, and its training."""
        steps = {"n_epochs": self.training_config.n_epochs}
        options = {name: value for name, value in self.settings.model if name not in ("model", "n_latent")}
        steps |= {name: options.pop(name) for name in ("batch_size", "learning_rate") if name in options}
        rows = [("number of latents", str(self.n_latent)), ("settings", _list_of(options))]
        rows += [("training", _list_of(steps))] if len(steps) > 1 else []
        if self.training_mask is not None:
            rows += [("patterns", f"{self.training_mask.sum()} trained on")]
        if self.history.epochs:
            rows += [("epochs", f"{len(self.history.epochs)}, last {self.history.epochs[-1]}")]
        if self.history.seconds:
            rows += [("training time", format_quantity(self.history.seconds, "s"))]
        if self.is_fitted and self.noise_level is not None:
            rows += [("noise level", format_quantity(self.noise_level, "rms residual"))]
        return f"{type(self).__name__}, {'fitted' if self.is_fitted else 'not fitted'}", [row for row in rows if row[1]]

    @abstractmethod
    def _learn(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        """Fit to the patterns at the positions used; those allowed may serve as neighbours."""

    @abstractmethod
    def _embed(
        self, measurements: Measurements, allowed: NDArray[np.bool_], rescale: bool, client: Any
    ) -> Sequence[Sequence[NDArray[Any]]]:
        """Columns of the `Embedding` of the allowed positions, block by block."""

    def _of_embedding(self, columns: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """Further parts of the `Embedding`, from further columns of `_embed`."""
        return {}

    def _uses_neighbours(self, measurements: Measurements) -> bool:
        """Whether `embed` estimates each position of such a scan from the patterns of its neighbours, too."""
        return False

    @abstractmethod
    def _drawn(
        self, latents: NDArray[np.float32], angles: NDArray[np.float32], background: bool
    ) -> NDArray[np.float64]:
        """Patterns on the detector, shape ``(n, k_y, k_x)``, of latents ``(n, n_latent)`` and angles ``(n,)``."""

    @abstractmethod
    def _reconstruct(
        self, measurements: Measurements, allowed: NDArray[np.bool_]
    ) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Reconstructed Cartesian patterns of the allowed positions, block by block in a single column."""

    @abstractmethod
    def _squares(
        self, measurements: Measurements, reference: Measurements, allowed: NDArray[np.bool_]
    ) -> Sequence[Sequence[NDArray[np.float64]]]:
        """Columns of the `Misfit` of the allowed positions, block by block."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `_restore` builds the fitted model; ModelError before `fit`."""

    @abstractmethod
    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take over what `_state` returned."""

    def _fit_error(self) -> ModelError:
        return ModelError(
            f"the model has not been fitted; call fit(measurements) or {type(self).__name__}.load(path) first"
        )

    def _allowed(self, measurements: Measurements, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Recorded positions in the mask; DataError if there are no measurements or the mask does not fit them."""
        return check_mask(mask, require(measurements, Measurements, type(self).__name__))


def _list_of(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())
