"""The result of fitting a harmonic model: all that embedding and decoding need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.features.alignment import Alignment
from stemvane.features.conditions import Conditions
from stemvane.features.feature_noise import FeatureNoise
from stemvane.features.harmonics import HarmonicBasis
from stemvane.models.content_noise import AngleNoise
from stemvane.models.feature_fit import FeatureFit
from stemvane.models.harmonic_network import HarmonicNetwork

__all__ = ["HarmonicFit", "as_complex", "as_tensor", "smallest_noise_level", "start_aligned"]

_OF_CONDITIONS = ("centre", "spread", "template", "weights")


@dataclass(frozen=True, eq=False)
class HarmonicFit(FeatureFit):
    """Everything that embedding and decoding need.

    Attributes
    ----------
    network : HarmonicNetwork
        The trained network.
    angle_noise : AngleNoise or None
        How much more noise the features have where angles are read, of whole patterns that rotate; None where content
        rotates within a disc.
    conditions : Conditions or None
        What known maps account for, which the network is not shown; None without such maps.
    """

    network: HarmonicNetwork
    angle_noise: AngleNoise | None = None
    conditions: Conditions | None = None

    def content(self, latents: NDArray[np.float32], angle: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Features of the content that latents and angles stand for, shape ``(n, n_features)``."""
        network = self.network
        device = network.template.device
        with torch.no_grad():
            raw = network.from_distances(torch.from_numpy(latents).to(device))
            rotated = network.rotate(network.decode(raw), torch.from_numpy(angle).to(device))
        return as_complex(rotated) * np.float32(self.length)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `restore` builds the fit again."""
        tensors, numbers = self.reading_state()
        tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.conditions is not None:
            for name in _OF_CONDITIONS:
                tensor = torch.from_numpy(np.ascontiguousarray(getattr(self.conditions, name)))
                tensors[f"conditions.{name}"] = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        numbers["angle_noise"] = None if self.angle_noise is None else list(self.angle_noise)
        conditions = self.conditions
        numbers["conditions"] = None if conditions is None else [list(conditions.names), conditions.n_angles]
        return tensors, numbers

    @classmethod
    def restore(
        cls, make_network: Callable[[Tensor], HarmonicNetwork], numbers: dict[str, Any], tensors: dict[str, Tensor]
    ) -> HarmonicFit:
        """Build the fit from what `state` returned; `make_network` takes the circular orders of the features."""
        network = make_network(tensors["basis.orders"])
        network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()})
        network.eval()
        of_angle = numbers.get("angle_noise")
        angle_noise = AngleNoise(*of_angle) if of_angle else None
        conditions = _restored_conditions(numbers["conditions"], tensors) if numbers.get("conditions") else None
        reading = cls.restore_reading(numbers, tensors)
        return cls(**reading, network=network, angle_noise=angle_noise, conditions=conditions)


def _restored_conditions(numbers: list[Any], tensors: dict[str, Tensor]) -> Conditions:
    names, n_angles = numbers
    arrays: dict[str, Any] = {name: tensors[f"conditions.{name}"] for name in _OF_CONDITIONS}
    for name in ("template", "weights"):
        arrays[name] = torch.view_as_complex(arrays[name])
    return Conditions(tuple(names), n_angles=int(n_angles), **{name: array.numpy() for name, array in arrays.items()})


def as_tensor(features: NDArray[np.complexfloating[Any, Any]]) -> Tensor:
    """Real tensor of shape ``(..., 2 n_features)``: real parts, then imaginary parts."""
    return torch.from_numpy(np.concatenate([features.real, features.imag], axis=-1).astype(np.float32))


def as_complex(tensor: Tensor) -> NDArray[np.complex64]:
    """Inverse of `as_tensor`, shape ``(n, n_features)``."""
    values, n = tensor.cpu().numpy().astype(np.float32, copy=False), tensor.shape[-1] // 2
    return np.asarray(values[:, :n] + 1j * values[:, n:], dtype=np.complex64)


def smallest_noise_level(
    noise: FeatureNoise, basis: HarmonicBasis, features: NDArray[np.complex64], length: float, noise_floor: float
) -> float:
    """Noise level below which training does not go, as a fraction of the rms length of a residual.

    Parameters
    ----------
    noise : FeatureNoise
        Errors of the features.
    basis : HarmonicBasis
        Basis that the features come from.
    features : ndarray of complex64, shape (n_patterns, n_features)
        Features of the training patterns.
    length : float
        Root mean square length of the residuals, by which they are divided for the network.
    noise_floor : float
        Smallest noise level where counting noise is smaller.
    """
    # one level for all features, in units of order 0
    power = (np.abs(features) ** 2).mean(axis=0)
    counting = np.sqrt(np.average((noise.std / basis.scale) ** 2, weights=power))
    return max(noise_floor, float(counting / length))


def start_aligned(network: HarmonicNetwork, alignment: Alignment, noise: NDArray[np.float64], length: float) -> None:
    """Start a network from an alignment of features whose counting noise and rms length are given."""
    n = network.n_latent
    # the patterns scatter by their content and by counting noise; the latents stand for the content alone
    scatter = (np.abs(alignment.components[:n]) ** 2 * noise**2).sum(axis=1)
    deviation = np.sqrt(np.maximum(alignment.variance[:n] - scatter, 0)).astype(np.float32) / np.float32(length)
    device = network.template.device
    network.start_from(
        as_tensor(alignment.template / length).to(device),
        as_tensor(alignment.components[:n]).to(device),
        torch.from_numpy(deviation).to(device),
        alignment.symmetry,
    )
