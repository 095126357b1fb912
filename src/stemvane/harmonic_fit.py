"""What a fit of the harmonic model has found: all that embedding and decoding need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemvane.alignment import Alignment
from stemvane.config import Config, ModelConfig
from stemvane.harmonics import HarmonicBasis
from stemvane.models.harmonic import HarmonicModel
from stemvane.pixels import PixelGrid
from stemvane.polar import PolarGrid

__all__ = ["HarmonicFit", "as_complex", "as_tensor", "started"]

_ARRAYS = ("orders", "scale", "analysis", "synthesis", "background")
_COMPLEX = ("analysis", "synthesis", "background")
_NUMBERS = ("n_azimuthal", "noise", "discarded", "mean_total")


@dataclass(frozen=True, eq=False)
class HarmonicFit:
    """Everything that embedding and decoding need.

    Attributes
    ----------
    basis : HarmonicBasis
        Background and features.
    length : float
        Root mean square length of the training patterns' features, by which they are divided.
    network : HarmonicModel
        The trained network.
    grid : PolarGrid
        Where the polar samples lay on the detector.
    detector_shape : tuple of int
        Detector pixels ``(k_y, k_x)``.
    pixels : ndarray of float, shape (n, n), or None
        Background of Cartesian patterns: their mean over the training patterns, where these had any.
    """

    basis: HarmonicBasis
    length: float
    network: HarmonicModel
    grid: PolarGrid
    detector_shape: tuple[int, int]
    pixels: NDArray[np.float64] | None = None

    def content(self, latents: NDArray[np.float32], angle: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Features of the content that latents and angles stand for, shape ``(n, n_features)``."""
        network = self.network
        device = network.template.device
        with torch.no_grad():
            raw = network.unstandardised(torch.from_numpy(latents).to(device))
            turned = network.turn(network.decode(raw), torch.from_numpy(angle).to(device))
        return as_complex(turned) * np.float32(self.length)

    def drawn(self, features: NDArray[np.complex64], *, background: bool = True) -> NDArray[np.float64]:
        """Features as patterns on the detector's pixels, shape ``(n, k_y, k_x)``."""
        polar = self.basis.polar(features, background=background)
        return self.grid.to_cartesian(polar, self.detector_shape)

    def squared(self, features: NDArray[np.complex64]) -> NDArray[np.float64]:
        """Squared length of features over `length`, in units of the pixels' counting noise, shape ``(n,)``."""
        return np.asarray(np.sum(np.abs(features / (self.basis.scale / self.length)) ** 2, axis=1))

    def pixel_painter(
        self, polar_grid: PolarGrid, pixel_grid: PixelGrid
    ) -> Callable[[NDArray[np.complex64]], NDArray[np.float64]]:
        """Function from features to patterns with background on a grid of pixels, shape ``(n, n_side, n_side)``."""
        n, basis = pixel_grid.n, self.basis
        matrix = pixel_grid.from_polar(polar_grid)
        if self.pixels is not None and self.pixels.shape == (n, n):
            still = self.pixels.ravel()
        else:
            still = matrix @ basis.polar(np.zeros((1, basis.n_features), np.complex64)).ravel()

        def painted(features: NDArray[np.complex64]) -> NDArray[np.float64]:
            residual = basis.polar(features, background=False)
            rows = residual.reshape(len(residual), matrix.shape[1])
            return np.asarray(((matrix @ rows.T).T + still).reshape(len(rows), n, n))

        return painted

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain numbers from which `restored` builds it again."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for name in _ARRAYS:
            tensor = torch.from_numpy(np.ascontiguousarray(getattr(self.basis, name)))
            tensors[f"basis.{name}"] = torch.view_as_real(tensor) if name in _COMPLEX else tensor
        if self.pixels is not None:
            tensors["pixels"] = torch.from_numpy(self.pixels)
        about = {
            "length": self.length,
            "detector_shape": list(self.detector_shape),
            "basis": {name: getattr(self.basis, name) for name in _NUMBERS},
            "grid": self.grid.to_dict(),
        }
        return tensors, about

    @classmethod
    def restored(cls, config: Config, about: dict[str, Any], tensors: dict[str, Tensor]) -> HarmonicFit:
        """Build it from settings and what `state` returned."""
        arrays: dict[str, Any] = {
            name: (
                torch.view_as_complex(tensors[f"basis.{name}"]) if name in _COMPLEX else tensors[f"basis.{name}"]
            ).numpy()
            for name in _ARRAYS
        }
        numbers: dict[str, Any] = {name: about["basis"][name] for name in _NUMBERS}
        basis, model = HarmonicBasis(**arrays, **numbers), config.model
        network = HarmonicModel(torch.from_numpy(basis.orders), model.n_latent, model.width, model.n_angles)
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        network.eval()
        rows, columns = about["detector_shape"]
        return cls(
            basis=basis,
            length=float(about["length"]),
            network=network,
            grid=PolarGrid.from_dict(about["grid"]),
            detector_shape=(rows, columns),
            pixels=tensors["pixels"].numpy() if "pixels" in tensors else None,
        )


def as_tensor(features: NDArray[np.complexfloating[Any, Any]]) -> Tensor:
    """Real tensor of shape ``(..., 2 n_features)``: real parts, then imaginary parts."""
    return torch.from_numpy(np.concatenate([features.real, features.imag], axis=-1).astype(np.float32))


def as_complex(tensor: Tensor) -> NDArray[np.complex64]:
    """Inverse of `as_tensor`, shape ``(n, n_features)``."""
    values, n = tensor.cpu().numpy().astype(np.float32, copy=False), tensor.shape[-1] // 2
    return np.asarray(values[:, :n] + 1j * values[:, n:], dtype=np.complex64)


def started(basis: HarmonicBasis, length: float, found: Alignment | None, model: ModelConfig) -> HarmonicModel:
    """Network before training.

    Parameters
    ----------
    basis : HarmonicBasis
        Of its features.
    length : float
        Root mean square length of the training patterns' features, by which they are divided.
    found : Alignment or None
        Where it starts; somewhere random where there is none.
    model : ModelConfig
        Its sizes, and the smallest noise level, which is also the first.

    Returns
    -------
    HarmonicModel
    """
    n = model.n_latent
    network = HarmonicModel(torch.from_numpy(basis.orders), n, model.width, model.n_angles)
    network.noise_variance.fill_(max(model.noise_floor, basis.noise / length) ** 2)
    if found is None:
        network.start_anywhere()
        return network
    # the patterns scatter by their content and by counting noise; the latents stand for the content alone
    counting = (np.abs(found.components[:n]) ** 2 * (basis.noise * basis.scale) ** 2).sum(axis=1)
    deviation = np.sqrt(np.maximum(found.variance[:n] - counting, 0)).astype(np.float32) / np.float32(length)
    network.start_from(
        as_tensor(found.template / length),
        as_tensor(found.components[:n]),
        torch.from_numpy(deviation),
        found.symmetry,
    )
    return network
