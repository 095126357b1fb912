"""AtomAI's and pyroVED's rotation-invariant VAEs, each in an environment of its own.

``python -m benchmarks.models.peers TASK.json`` reads the patterns, trains for a number of seconds or epochs, and writes
latents, angles and predicted patterns of all positions, and latents and angles at intervals, into an .npz file. The
clock stands still while they are taken.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.memory import peak_mib
from benchmarks.models.clock import Clock, OutOfTimeError, warm_up

# what stands for the noise in noiseless patterns, over the scatter of all samples
NOISELESS = 0.3


class Scaling:
    """Patterns as a network takes them, and back."""

    def __init__(self, kind: str, training: Any, noise: float, share: float = 1.0) -> None:
        if kind == "range":
            self.zero = training.min()
            self.unit = training.max() - self.zero
        else:
            # deviations from the mean pattern in units of a share of the noise: at 1 the squared error of both programs
            # is a likelihood, below it weighs more than the divergence of the latents
            self.zero = training.mean(axis=0)
            self.unit = share * (noise or NOISELESS * float(np.std(training - self.zero)))

    def scale(self, patterns: Any) -> Any:
        """Patterns for the network."""
        return ((patterns - self.zero) / self.unit).astype(np.float32)

    def back(self, patterns: Any) -> Any:
        """The network's patterns in the data's unit."""
        return patterns * self.unit + self.zero


def imported(name: str) -> Any:
    """Import a peer beside a PyTorch without CUDA.

    torchvision, which both import, comes compiled for CUDA, so its operators do not load; the import then fails where
    it registers shapes for two of them. Neither program uses them, so that naming their signatures is enough.
    """
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(name), library


def atomai(patterns: Any, use: Any, options: dict[str, Any], seed: int, clock: Clock) -> tuple[Any, Any]:
    """Train AtomAI's rVAE; returns functions for (angle, latents) and for patterns."""
    (aoi, _modules) = imported("atomai")
    from atomai.utils import transform_coordinates

    translation = options.pop("translation", True)
    rate = options.pop("learning_rate", None)
    n_epochs = options.pop("n_epochs", None) or 10**6
    network = {key: options.pop(key) for key in list(options) if key.startswith("num")}
    if rate is not None:
        options["optimizer"] = lambda parameters: torch.optim.Adam(parameters, lr=rate)

    class Timed(aoi.models.rVAE):
        def print_statistics(self, epoch: int) -> None:
            clock.tick()

    model = Timed(patterns.shape[1:], latent_dim=2, translation=translation, seed=seed, **network)
    first = 3 if translation else 1

    def read() -> tuple[Any, Any]:
        mean, _ = model.encode(patterns)
        return mean[:, 0], mean[:, first:]

    def draw() -> Any:
        mean, _ = model.encode(patterns)
        result = []
        for z in torch.from_numpy(mean).split(256):
            shift = (z[:, 1:3] * model.dx_prior).unsqueeze(1) if translation else 0
            grid = transform_coordinates(model.x_coord.expand(len(z), *model.x_coord.shape), z[:, 0], shift)
            with torch.no_grad():
                result.append(model.decoder_net(grid, z[:, first:]).numpy())
        return np.concatenate(result)

    clock.start(read)
    with tempfile.TemporaryDirectory() as folder:
        options["filename"] = str(Path(folder) / "model")
        with contextlib.suppress(OutOfTimeError):
            # the loss "ce" calls a function that NumPy 2 has removed
            model.fit(patterns[use], training_cycles=n_epochs, loss="mse", **options)
    return read, draw


def pyroved(patterns: Any, use: Any, options: dict[str, Any], seed: int, clock: Clock) -> tuple[Any, Any]:
    """Train pyroVED's iVAE with rotations; returns functions for (angle, latents) and for patterns."""
    (pv, _modules) = imported("pyroved")
    from pyroved.utils import transform_coordinates

    n_epochs = options.pop("n_epochs", None) or 10**6
    loader_options = {"batch_size": options.pop("batch_size")} if "batch_size" in options else {}
    rate = {"lr": options.pop("learning_rate")} if "learning_rate" in options else {}
    step = {"scale_factor": options.pop("scale_factor")} if "scale_factor" in options else {}
    everything = torch.from_numpy(patterns)
    model = pv.models.iVAE(patterns.shape[1:], latent_dim=2, invariances=["r"], seed=seed, **options)
    loader = pv.utils.init_dataloader(everything[torch.from_numpy(use)], **loader_options)
    trainer = pv.trainers.SVItrainer(model, seed=seed, **rate)

    def read() -> tuple[Any, Any]:
        mean = model.encode(everything)[0].numpy()
        return mean[:, 0], mean[:, 1:]

    def draw() -> Any:
        result = []
        for z in model.encode(everything)[0].split(256):
            phi, dx, scale, content = model.split_latent(z)
            grid = transform_coordinates(model.grid.expand(len(z), *model.grid.shape), phi, dx, scale)
            with torch.no_grad():
                result.append(model.decoder(grid, content).numpy())
        return np.concatenate(result)

    clock.start(read)
    with contextlib.suppress(OutOfTimeError):
        for _ in range(n_epochs):
            trainer.step(loader, **step)
            clock.tick()
    return read, draw


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if task["threads"]:
        torch.set_num_threads(task["threads"])
    data = np.load(task["patterns"])
    patterns, use = data["patterns"], data["training"]
    options = dict(task["settings"])
    scaling = Scaling(options.pop("scaling"), patterns[use], float(data["noise"]), options.pop("share", 1.0))
    warm_up()
    clock = Clock(task["budget"], int(use.sum()), n_threads=task["threads"], asks=not task["speed_only"])
    trainer = {"atomai": atomai, "pyroved": pyroved}[task["program"]]
    read, draw = trainer(scaling.scale(patterns), use, options, task["seed"], clock)
    result: dict[str, Any] = {
        "rate": clock.rate,
        "epochs": clock.epochs,
        "seconds": clock.seconds,
    }
    if not task["speed_only"]:
        angle, latents = read()
        seconds, angles, curves = zip(*clock.notes, (clock.seconds, angle, latents), strict=True)
        result |= {"angle": angle, "latents": latents, "predicted": scaling.back(draw()).astype(np.float32)}
        result |= {"curve_seconds": seconds, "curve_angle": np.stack(angles), "curve_latents": np.stack(curves)}
    np.savez(task["output"], peak_mib=peak_mib(), **result)


if __name__ == "__main__":
    main()
