"""Learning curves: parts of the loss, and the noise level where it was learned, over the epochs."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stemvane.errors import ConfigError
from stemvane.figures.layout import Box, add_axes, label_panel, new_page
from stemvane.figures.panels import write_absent
from stemvane.figures.style import STYLE

__all__ = ["draw_history", "history_page"]

_History = Mapping[str, NDArray[np.floating[Any]]]

_CURVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "loss": ("nats per pattern", ("total", "reconstruction")),
    "KL divergence": ("nats per pattern", ("kl_latent", "kl_angle")),
    "noise level": ("noise level (rms residual)", ("noise_level",)),
}
_COLORS = {"total": "#000000", "reconstruction": "#0072B2", "kl_latent": "#D55E00", "kl_angle": "#009E73"}
_WORDS = {"total": "total", "reconstruction": "reconstruction", "kl_latent": "latents", "kl_angle": "angle"}


def draw_history(ax: Axes, history: _History, what: str = "loss") -> None:
    """Draw one of the learning curves.

    Parameters
    ----------
    ax : Axes
        Axes to draw into.
    history : mapping of str to ndarray of float, shape (n_epochs,)
        Columns as of ``history.csv``.
    what : str
        ``loss``, ``KL divergence`` or ``noise level``.

    Raises
    ------
    ConfigError
        If there is no curve of that name.
    """
    if what not in _CURVES:
        raise ConfigError(f"no learning curve {what!r}; there are {', '.join(_CURVES)}")
    unit, names = _CURVES[what]
    for name in names:
        values = history.get(name)
        if values is not None and np.isfinite(values).any():
            ax.plot(history["epoch"], values, color=_COLORS.get(name, "k"), label=_WORDS.get(name))
    ax.set(xlabel="epoch", ylabel=unit)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    if what == "noise level":
        ax.set_ylim(bottom=0.0)  # at its floor it does not change, and would fill the axis with rounding
    if not ax.lines:
        write_absent(ax, "no epochs of training")
    elif len(names) > 1:
        ax.legend(handlelength=1.2, frameon=False)


def history_page(history: _History, *, figure: Figure | None = None) -> Figure:
    """Draw the parts of the loss, and the noise level where it was learned, over the epochs.

    Parameters
    ----------
    history : mapping of str to ndarray of float, shape (n_epochs,)
        Columns as of ``history.csv``.
    figure : Figure, optional
        Empty figure to draw into; a new one where left out.

    Returns
    -------
    Figure
        (a) total and reconstruction; (b) Kullback-Leibler divergences of latents and angle; (c) noise level.
    """
    noise = history.get("noise_level")
    panels = ["loss", "KL divergence"]
    if noise is not None and np.isfinite(noise).any():
        panels.append("noise level")
    pitch = 2.4
    with rc_context(STYLE):
        figure = new_page((pitch * len(panels), 2.1), figure)
        for index, what in enumerate(panels):
            box = Box(0.52 + index * pitch, 0.38, 1.8, 1.36)
            draw_history(add_axes(figure, box, what), history, what)
            label_panel(figure, box, string.ascii_lowercase[index], what[0].upper() + what[1:], indent=0.4)
    return figure
