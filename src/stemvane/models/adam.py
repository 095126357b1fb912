"""The optimizer of the training loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["Adam"]

EPSILON = 1e-8  # PyTorch's default


class Adam:
    """Adam (Kingma and Ba, arXiv:1412.6980) with one kernel for all parameters.

    Takes the steps of ``torch.optim.Adam(parameters, fused=True)`` bit for bit, since it calls the same kernel. The
    class of PyTorch imports the compiler on its first use: a second in every process, and nothing here needs it.

    Parameters
    ----------
    parameters : iterable of Parameter
        What is trained, all of one type and on one device. A parameter without a gradient is left as it is.
    betas : tuple of float
        Decay rates of the running means of the gradient and of its square.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], betas: tuple[float, float]) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._n_steps = torch.zeros((), device=self._parameters[0].device)
        self._betas = betas

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step along the gradients."""
        moved: list[Tensor] = []
        gradients, means, squares = [], [], []
        for parameter, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            if parameter.grad is not None:
                moved.append(parameter)
                gradients.append(parameter.grad)
                means.append(mean)
                squares.append(square)
        self._n_steps += 1
        n_steps = [self._n_steps] * len(moved)
        torch._fused_adam_(
            moved, gradients, means, squares, [], n_steps, lr=learning_rate, beta1=self._betas[0],
            beta2=self._betas[1], weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip
