"""What one training step spends its time on, and how fast training is on a device.

Run as ``python -m benchmarks.speed.step [--device cuda]``; prints the table of the README. The demo's graphene is
trained on, then each part of a step is timed by itself, over and over.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from stemvane import RotationVAE, measure
from stemvane.config import TrainingConfig
from stemvane.models.adam import Adam
from stemvane.models.harmonic_network import HarmonicNetwork, LossParts
from stemvane.models.training import ANNEALED, device_named, one_thread
from stemvane.simulation.simulate import simulate
from stemvane.workflow.pipeline import demo_config

SIZE, N_ROUNDS, RATE = 460, 300, 1e-4


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Mean time of a call."""
    for _ in range(20):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(N_ROUNDS):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / N_ROUNDS * 1e3


def parts(network: HarmonicNetwork, x: torch.Tensor) -> dict[str, float]:
    """Milliseconds of a step and of its parts."""
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = Adam(trained, ANNEALED.betas)
    generator = torch.Generator(device=x.device).manual_seed(0)
    latents = network.encode_aligned(x)[0]
    content = network.decode(latents).detach().requires_grad_(True)
    still = content.detach()

    def step() -> LossParts:
        optimizer.zero_grad()
        loss = network.loss(x, 1.0, generator)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(trained, ANNEALED.largest_gradient)
        optimizer.step(RATE)
        return loss

    def decoder() -> None:
        optimizer.zero_grad()
        network.decode(latents).sum().backward()

    return {
        "whole step": milliseconds(step, x.device),
        "decoder, forward and backward": milliseconds(decoder, x.device),
        "angle's posterior": milliseconds(lambda: network.angle_posterior(x, still, network.noise_variance), x.device),
        "likelihood and its gradient, the posterior included": milliseconds(
            lambda: torch.autograd.grad(network.marginal(x, content)[0].sum(), content), x.device
        ),
        "encoder": milliseconds(lambda: network.encode_aligned(x), x.device),
        "Adam": milliseconds(lambda: optimizer.step(RATE), x.device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    device = device_named(chosen.device)
    measurements = measure(simulate(demo_config().simulation))
    model = RotationVAE(training=TrainingConfig(device=chosen.device)).fit(measurements)
    orders = torch.from_numpy(model.basis.orders)
    network = HarmonicNetwork(orders, model.n_latent, model.model_config.n_hidden, model.model_config.n_angles).to(
        device
    )
    # the time does not depend on the numbers
    chance = [torch.randn(n, 2 * len(orders), device=device) / len(orders) for n in (1, model.n_latent, SIZE)]
    network.start_from(chance[0][0], chance[1], torch.ones(model.n_latent, device=device))
    network.noise_variance.fill_(0.05**2)
    x = network.align(network.template + 0.1 * chance[2])
    print(f"{device}: {model.history.patterns_per_second:,.0f} patterns per second of training\n")
    print(f"| of a step of {SIZE} patterns | ms |\n|---|---|")
    with one_thread():
        for name, value in parts(network, x).items():
            print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
