"""Kinds of patterns: each with a background, a template that rotates, latents and noise of its own."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.config import BasisConfig, Config, KindsConfig, TrainingConfig
from stemvane.config.model_sections import MOST_KINDS
from stemvane.data.measurements import Measurements
from stemvane.errors import ConfigError, DataError, ModelError
from stemvane.features.alignment import gauge_angle
from stemvane.features.background import fit_basis
from stemvane.features.feature_reader import FeatureReader
from stemvane.features.harmonics import HarmonicBasis, rotate_features
from stemvane.features.template_symmetry import find_symmetry
from stemvane.models.checks import check_settings, select_section
from stemvane.models.feature_fit import FeatureFit
from stemvane.models.feature_model import FeatureModel
from stemvane.models.kind_embedding import embed_kinds
from stemvane.models.kind_fit import KindFit, KindScan, fit_kinds, log_likelihoods, prior_around, settle
from stemvane.models.kind_labels import Labels, check_labels, place_labels
from stemvane.models.kind_mixture import KindMixture
from stemvane.models.pixel_model import mean_pixels
from stemvane.models.training import EpochReport, TrainingHistory

__all__ = ["KindsModel"]

# smallest noise of a dark pixel over the brightest ring's, in a convergent beam: there kinds differ in the dark field,
# whose counts weigh as those of the bright disc elsewhere
_DARK_FIELD = 1e-3
# no order is weighed down
_EVEN = 1e6
# orders of a symmetry hold so much of a template's power where it has that symmetry; highest that is looked for
_HIGHEST = 6
_LEAST_FEATURES = 4
# fewer patterns of a kind hold no template beside its noise
_LEAST_PATTERNS = 3
_OF_MIXTURE = ("background", "template", "components", "noise", "weights", "mean", "spread")


@dataclass(frozen=True, eq=False)
class _Fitted(FeatureFit):
    """Kinds, and how patterns become features and back."""

    mixture: KindMixture
    least_noise: NDArray[np.float64]
    oriented: bool
    strength: float
    window: float
    trust: float
    names: tuple[str, ...]
    symmetries: tuple[int, ...]


class KindsModel(FeatureModel):
    """Patterns of several kinds, each rotated by an angle of its own; in closed form, the same from every seed.

    A pattern is of one of `n_kinds` kinds, or of none. Each kind has a background, a template that rotates, linear
    latents and noise of its own; kind and angle are enumerated, neighbours in the scan are likelier of one kind.

    Parameters
    ----------
    n_kinds : int, optional
        Number of kinds; takes precedence over the model's settings, whose default is 3.
    n_latent : int, optional
        Number of latents of each kind; takes precedence over the model's settings, whose default is 2.
    labels : mapping of str to sequence of (int, int), or str or Path, optional
        Positions ``(y, x)`` that are known to be of a kind, by the name of the kind, or a CSV file of them with the
        columns ``y``, ``x`` and ``name``; takes precedence over `KindsConfig.labels`. There are at least as many kinds
        as names.
    basis : BasisConfig, optional
        How polar patterns become features.
    model : KindsConfig, optional
        Settings of the model.
    training : TrainingConfig, optional
        Held-out patterns.

    Attributes
    ----------
    settings : Config
        The settings as used.
    history : TrainingHistory
        Without epochs; its time is that of the fit.
    training_mask : ndarray of bool, shape (scan_y, scan_x), or None
        Probe positions that were fitted to; the others inside the mask of `fit` were held out.

    Examples
    --------
    >>> from stemvane import KindsModel, measure, synthetic
    >>> dataset, truth = synthetic(scan_shape=(12, 12), detector_shape=(32, 32))
    >>> found = KindsModel(n_kinds=2, n_latent=1).fit(measure(dataset)).embed(measure(dataset))
    >>> found.kind_probability.shape
    (12, 12, 3)
    """

    kind: ClassVar[str] = "kinds"
    sections: ClassVar[frozenset[str]] = frozenset({"basis", "model", "training"})

    def __init__(
        self,
        n_kinds: int | None = None,
        n_latent: int | None = None,
        *,
        labels: Labels | str | Path | None = None,
        basis: BasisConfig | None = None,
        model: KindsConfig | None = None,
        training: TrainingConfig | None = None,
    ) -> None:
        settings = check_settings(KindsConfig, n_latent, model, basis=basis, training=training)
        if n_kinds is not None:
            settings = settings.replace(model={"n_kinds": n_kinds})
        if settings.basis.neighbours:
            raise ConfigError(
                "basis.neighbours: kinds are found of patterns whose noise is independent, and neighbours come in as a "
                "prior of kinds; leave it out"
            )
        super().__init__(settings)
        self.model_config = select_section(settings, KindsConfig)
        source = self.model_config.labels if labels is None else labels
        self.labels: Labels = check_labels(source)
        if self.n_kinds > MOST_KINDS:
            raise ConfigError(f"labels name {len(self.labels)} kinds; give at most {MOST_KINDS}")
        self._fitted: _Fitted | None = None
        self._decoded = 0

    @classmethod
    def from_settings(cls, settings: Config) -> Self:
        """Make an unfitted model of the settings of a run."""
        return cls(basis=settings.basis, model=select_section(settings, KindsConfig), training=settings.training)

    @property
    def is_fitted(self) -> bool:
        """Whether the model has been fitted or loaded."""
        return self._fitted is not None

    @property
    def n_kinds(self) -> int:
        """Number of kinds, at least one for each name of a label; mirror images count, too."""
        if self.model_config.mirror:
            return 2 * max(self.model_config.n_kinds, -(-len(self.labels) // 2))
        return max(self.model_config.n_kinds, len(self.labels))

    @property
    def kind_names(self) -> tuple[str, ...]:
        """Name of each kind; ModelError before `fit`."""
        return self._need().names

    @property
    def kind_symmetry(self) -> tuple[int, ...]:
        """Rotational symmetry of each kind; ModelError before `fit`."""
        return self._need().symmetries

    @property
    def field_strength(self) -> float:
        """What a neighbour of the same kind adds to the log probability of a kind; ModelError before `fit`.

        Without effect where there is a `window`.
        """
        return self._need().strength

    @property
    def window(self) -> float:
        """Standard deviation, in positions, of surroundings that are of one kind together; 0 where the field is used.

        ModelError before `fit`.
        """
        return self._need().window

    @property
    def symmetry(self) -> int:
        """Symmetry that all kinds have: angles that differ by ``2 π / symmetry`` are the same."""
        return math.gcd(*self._need().symmetries)

    @property
    def noise_level(self) -> float:
        """Root mean square noise of the kinds per real coordinate, as a fraction of the rms length of a residual."""
        mixture, length = self._need().mixture, self._need().length
        power = np.average(mixture.noise**2, axis=1, weights=mixture.coordinates)
        return float(np.sqrt(np.average(power, weights=mixture.weights[:-1]))) / length

    def of_kind(self, kind: int) -> Self:
        """Give the same model, which decodes patterns of another kind.

        Parameters
        ----------
        kind : int
            Number of the kind, from 1; the model itself decodes those of kind 1, the most frequent one.

        Returns
        -------
        KindsModel

        Raises
        ------
        ModelError
            Before `fit`, or if there is no such kind.
        """
        if not 1 <= kind <= self._need().mixture.n_kinds:
            raise ModelError(f"there is no kind {kind}; give one of 1 to {self._need().mixture.n_kinds}")
        other = copy.copy(self)
        other._decoded = kind - 1
        return other

    def evidence(
        self,
        measurements: Measurements,
        mask: NDArray[np.bool_] | None = None,
        *,
        noise_level: float | None = None,
        n_samples: int = 16,
    ) -> tuple[NDArray[np.float64], float]:
        """Compute the log likelihood of patterns, given the kinds of neighbours that are not among them.

        Parameters
        ----------
        measurements : Measurements
            A scan with polar patterns.
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use; the others tell which kinds lie around them.
        noise_level, n_samples
            Without effect: every kind has its noise, and nothing is sampled.

        Returns
        -------
        ndarray of float, shape (n_patterns,)
            Nats per pattern.
        float
            The noise level.

        Raises
        ------
        ModelError
            Before `fit`, or if the patterns are of another size.
        DataError
            If these are no measurements, or the mask does not fit the scan.
        """
        fitted, wanted = self._need(), self._allowed(measurements, mask)
        everywhere = self._allowed(measurements, None)
        scan = self._scan(measurements, everywhere)
        # kinds of the neighbours are found without the patterns whose likelihood is asked for
        hidden = replace(scan, known=everywhere & ~wanted, features=scan.features[~wanted[everywhere]])
        hidden = replace(hidden, labels=np.full(len(hidden.features), -1))
        asked = replace(scan, known=wanted, features=scan.features[wanted[everywhere]])
        prior = prior_around(hidden, fitted.mixture, *self._field_for(measurements))[wanted]
        values = np.logaddexp.reduce(prior + log_likelihoods(asked, fitted.mixture), axis=1)
        return np.asarray(values), self.noise_level

    def _field_for(self, measurements: Measurements) -> tuple[float, float, float]:
        """Strength of the field, window and trust: none where positions are no scan."""
        fitted = self._need()
        return (fitted.strength, fitted.window, fitted.trust) if measurements.is_scan else (0.0, 0.0, 1.0)

    def _learn(
        self,
        measurements: Measurements,
        used: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        progress: Callable[[EpochReport], None] | None,
    ) -> None:
        began, config = time.perf_counter(), self.model_config
        names = tuple(self.labels)
        placed = place_labels(self.labels, names, measurements.scan_shape)
        for number, name in enumerate(names):
            if not (allowed & (placed == number)).any():
                raise DataError(f"no position of the label '{name}' has a pattern; label others, or leave it out")
        # what somebody has labelled is not held out
        used = used | (allowed & (placed >= 0))
        if self.n_kinds > used.sum() // _LEAST_PATTERNS:
            raise DataError(
                f"{used.sum()} patterns to fit {self.n_kinds} kinds to; set model.n_kinds to "
                f"{max(used.sum() // _LEAST_PATTERNS, 1)} or less, or take a larger scan"
            )
        labels = placed[used]
        basis, least, oriented = self._fit_basis(measurements, used)
        reader = FeatureReader(basis, not measurements.noiseless, False)
        features = basis.features(measurements, used)
        strength = config.strength if measurements.is_scan else 0.0
        window = config.window if measurements.is_scan else 0.0
        scan = KindScan(features, basis.orders, least, used, labels, oriented, config.n_angles, strength, window)
        scan = replace(scan, mirrored=config.mirror)
        fit = _ordered(fit_kinds(scan, self.n_kinds, self.n_latent), len(names), config.mirror)
        mixture = _in_gauge(fit.mixture, basis, config.mirror)
        length = float(np.sqrt((np.abs(features) ** 2).sum(axis=1).mean()))
        every = tuple(names) + _numbered(self.n_kinds, config.mirror)[len(names) :]
        self._fitted = _Fitted(
            reader,
            length,
            measurements.grid,
            measurements.detector_shape,
            mean_pixels(measurements, used),
            mixture,
            least,
            oriented,
            fit.strength,
            fit.window,
            fit.trust,
            every,
            _symmetries(features, fit.probability, mixture, config.n_angles),
        )
        self.training_mask = used
        self.history = TrainingHistory(seconds=time.perf_counter() - began)

    def _fit_basis(
        self, measurements: Measurements, used: NDArray[np.bool_]
    ) -> tuple[HarmonicBasis, NDArray[np.float64], bool]:
        """Features that hold more than noise, their smallest noise, and whether backgrounds have an orientation."""
        config = self.basis_config
        options: dict[str, Any] = {"mask": used, "mirrored": self.model_config.mirror}
        basis = fit_basis(measurements, config.model_copy(update={"background": "mean"}), **options)
        oriented = not basis.own_noise
        if basis.own_noise:
            # patterns that rotate as a whole: what they have in common has no orientation unless it is given one
            oriented = config.background == "mean"
            if not oriented:
                basis = fit_basis(measurements, config.model_copy(update={"background": "rings"}), **options)
        else:
            weights = {
                "variance_floor": config.variance_floor or _DARK_FIELD,
                "order_scale": config.order_scale or _EVEN,
            }
            basis = fit_basis(measurements, config.model_copy(update=weights), **options)
        power = (np.abs(basis.features(measurements, used)) ** 2).mean(axis=0)
        keep = power > 1e-6 * power.sum()
        if not measurements.noiseless:
            # largest eigenvalue of nothing but noise (Marchenko & Pastur, Math. USSR Sb. 1, 457, 1967)
            edge = (1 + math.sqrt(measurements.grid.n_radial / used.sum())) ** 2
            over = power / (basis.counting**2 * basis.coordinates)
            keep = (over > edge) | (over >= np.sort(over)[-_LEAST_FEATURES:].min())
        kept = {name: getattr(basis, name)[keep] for name in ("orders", "scale", "analysis", "synthesis", "counting")}
        floor = self.model_config.noise_floor * math.sqrt(power[keep].sum() / basis.coordinates[keep].sum())
        return replace(basis, **kept), np.maximum(basis.counting[keep], floor), oriented

    def _scan(self, measurements: Measurements, allowed: NDArray[np.bool_], *, rescale: bool = True) -> KindScan:
        """Features of a scan that the model is fitted to, or of another one, whose labels are none."""
        fitted = self._need()
        features = np.concatenate(list(fitted.basis.feature_blocks(measurements, allowed, rescale=rescale)))
        labels = np.full(allowed.shape, -1)
        # labels are of the scan that was learned from
        if self.training_mask is not None and self.training_mask.shape == allowed.shape and measurements.is_scan:
            labels = place_labels(self.labels, fitted.names, allowed.shape)
        return KindScan(
            features,
            fitted.basis.orders,
            fitted.least_noise,
            allowed,
            labels[allowed],
            fitted.oriented,
            self.model_config.n_angles,
        )

    def _embed(
        self, measurements: Measurements, allowed: NDArray[np.bool_], rescale: bool, client: Any
    ) -> Sequence[Sequence[NDArray[Any]]]:
        fitted, scan = self._need(), self._scan(measurements, allowed, rescale=rescale)
        probability, evidence = settle(scan, fitted.mixture, *self._field_for(measurements))
        return [embed_kinds(scan, fitted.mixture, probability, evidence, fitted.symmetries)]

    def _of_embedding(self, columns: Sequence[NDArray[Any]]) -> dict[str, Any]:
        fitted = self._need()
        zeros, none = np.zeros((1, self.n_latent), np.float32), np.zeros(1, np.float32)
        patterns = [self.of_kind(k + 1)._drawn(zeros, none, True)[0] for k in range(fitted.mixture.n_kinds)]
        return {
            "kind_probability": columns[0],
            "kind_names": fitted.names,
            "kind_symmetry": fitted.symmetries,
            "kind_patterns": np.stack(patterns),
        }

    def _drawn(
        self, latents: NDArray[np.float32], angles: NDArray[np.float32], background: bool
    ) -> NDArray[np.float64]:
        fitted, kind = self._need(), self._decoded
        mixture = fitted.mixture
        content = mixture.template[kind] + latents @ mixture.components[kind]
        features = rotate_features(content, mixture.orders, angles) + mixture.background[kind]
        return fitted.drawn(features.astype(np.complex64), background=background)

    def _reproduce(self, measurements: Measurements, mask: NDArray[np.bool_]) -> Iterator[NDArray[np.complex64]]:
        fitted, scan = self._need(), self._scan(measurements, mask)
        kinds = settle(scan, fitted.mixture, *self._field_for(measurements))[0][:, :-1].argmax(axis=1)
        mixture = fitted.mixture
        for block in scan.blocks:
            x = np.empty_like(scan.features[block])
            for kind in range(mixture.n_kinds):
                at = kinds[block] == kind
                if at.any():
                    part = mixture.posterior(kind, scan.features[block][at], scan.n_angles)
                    content = mixture.template[kind] + part.latents @ mixture.components[kind]
                    x[at] = rotate_features(content, mixture.orders, part.angle) + mixture.background[kind]
            yield x

    def _need(self) -> _Fitted:
        if self._fitted is None:
            raise self._fit_error()
        return self._fitted

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        fitted = self._need()
        tensors, numbers = fitted.reading_state()
        for name in _OF_MIXTURE:
            values = torch.from_numpy(np.ascontiguousarray(getattr(fitted.mixture, name)))
            tensors[f"kinds.{name}"] = torch.view_as_real(values) if values.is_complex() else values
        tensors["kinds.least_noise"] = torch.from_numpy(fitted.least_noise)
        of_kinds = {
            "oriented": fitted.oriented,
            "strength": fitted.strength,
            "window": fitted.window,
            "trust": fitted.trust,
            "names": list(fitted.names),
            "symmetries": list(fitted.symmetries),
            "labels": {name: [list(map(int, at)) for at in positions] for name, positions in self.labels.items()},
        }
        return tensors, numbers | of_kinds

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        arrays = {name: tensors[f"kinds.{name}"] for name in _OF_MIXTURE}
        complex_ = ("background", "template", "components", "mean")
        values: dict[str, Any] = {
            name: (torch.view_as_complex(part) if name in complex_ else part).numpy() for name, part in arrays.items()
        }
        self.labels = {name: [(y, x) for y, x in positions] for name, positions in numbers["labels"].items()}
        self._fitted = _Fitted(
            **_Fitted.restore_reading(numbers, tensors),
            mixture=KindMixture(orders=tensors["basis.orders"].numpy(), **values),
            least_noise=tensors["kinds.least_noise"].numpy(),
            oriented=bool(numbers["oriented"]),
            strength=float(numbers["strength"]),
            # models of earlier versions have neither
            window=float(numbers.get("window", 0.0)),
            trust=float(numbers.get("trust", 1.0)),
            names=tuple(numbers["names"]),
            symmetries=tuple(numbers["symmetries"]),
        )


def _numbered(n_kinds: int, mirror: bool) -> tuple[str, ...]:
    """Names of kinds that nobody has named."""
    if mirror:
        return tuple(f"kind {k // 2 + 1}{', mirrored' if k % 2 else ''}" for k in range(n_kinds))
    return tuple(f"kind {k + 1}" for k in range(n_kinds))


def _ordered(fit: KindFit, n_named: int, mirror: bool) -> KindFit:
    """Kinds with names first, the others by the number of their patterns; mirror images stay side by side."""
    n, mixture = fit.mixture.n_kinds, fit.mixture
    size, together = fit.probability[:, :n].sum(axis=0), 2 if mirror else 1
    groups = np.arange(n).reshape(-1, together)
    first = -(-n_named // together)
    later = groups[first:]
    # the more frequent hand comes first
    later = np.take_along_axis(later, np.argsort(-size[later], axis=1, kind="stable"), axis=1)
    later = later[np.argsort(-size[later].sum(axis=1), kind="stable")]
    order = [*groups[:first].ravel(), *later.ravel()]
    parts = {name: getattr(mixture, name)[order] for name in ("background", "template", "components", "noise")}
    weights, probability = mixture.weights[[*order, n]], fit.probability[:, [*order, n]]
    return replace(fit, mixture=replace(mixture, weights=weights, **parts), probability=probability)


def _in_gauge(mixture: KindMixture, basis: HarmonicBasis, mirror: bool) -> KindMixture:
    """Templates rotated to the angle that is called 0, as `align_rotation` has it; images are of rotated templates."""
    template, components = mixture.template.copy(), mixture.components.copy()
    for kind in range(0, mixture.n_kinds, 2 if mirror else 1):
        angle = np.full(1, -gauge_angle(mixture.template[kind], basis))
        template[kind] = rotate_features(template[kind][None], mixture.orders, angle)[0]
        if len(components[kind]):
            components[kind] = rotate_features(components[kind], mixture.orders, angle)
        if mirror:
            template[kind + 1], components[kind + 1] = template[kind].conj(), components[kind].conj()
    return replace(mixture, template=template, components=components)


def _symmetries(
    features: NDArray[np.complex64], probability: NDArray[np.float64], mixture: KindMixture, n_angles: int
) -> tuple[int, ...]:
    """Rotational symmetry of each kind's template."""
    found = []
    for kind in range(mixture.n_kinds):
        members = features[probability.argmax(axis=1) == kind]
        if len(members) < 2 or not mixture.template[kind].any():
            found.append(1)
            continue
        residual = (members[:: -(-len(members) // 1024)] - mixture.background[kind]).astype(np.complex64)
        settings = {"n_angles": n_angles, "highest": _HIGHEST}
        noise = mixture.noise[kind]
        found.append(find_symmetry(residual, mixture.template[kind], mixture.orders, noise, **settings).symmetry)
    return tuple(found)
