"""The methods of the comparison, and what each is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    """One row of every table.

    Attributes
    ----------
    title : str
        Name in the tables.
    program : str
        ``stemvane``, ``atomai`` or ``pyroved``.
    model : str
        ``model.model`` of our settings; ``com`` and ``mean`` for no model at all.
    n_seeds : int
        1 where nothing depends on chance.
    budgeted : bool
        Whether the seconds of the benchmark end its training.
    settings : dict
        The training section for our models, options for the others.
    basis : dict
        The basis section for our models.
    speed_threads : tuple of int
        Threads with which throughput is measured, 0 for PyTorch's own choice; empty where nothing is trained.
    """

    title: str
    program: str = "stemvane"
    model: str = ""
    n_seeds: int = 1
    budgeted: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    basis: dict[str, Any] = field(default_factory=dict)
    speed_threads: tuple[int, ...] = ()


# what the papers' examples do: data between 0 and 1, two latents, everything else left alone
DEFAULTS = {"scaling": "range", "n_epochs": 100}
ATOMAI_TUNED = {
    "scaling": "noise",
    "share": 0.55,
    "n_epochs": None,
    "translation": False,
    "rotation_prior": 1.0,
    "numhidden_decoder": 64,
    "learning_rate": 2e-3,
}
PYROVED_TUNED = {
    "scaling": "noise",
    "n_epochs": None,
    "sampler_d": "gaussian",
    "sigmoid_d": False,
    "decoder_sig": 1.0,
    "scale_factor": 0.3,
    "hidden_dim_d": [64, 64],
    "learning_rate": 2e-3,
    "batch_size": 32,
}
# AtomAI's, whose early versions the published model was trained with
PUBLISHED = {"batch_size": 32, "n_epochs": 75}

ALONE = {"neighbours": False}

METHODS = {
    "harmonic": Method(
        "stemvane, harmonic", model="harmonic", n_seeds=5, settings={"n_epochs": 75}, speed_threads=(0,)
    ),
    "harmonic-alone": Method(
        "the same, every pattern by itself", model="harmonic", n_seeds=5, settings={"n_epochs": 75}, basis=ALONE
    ),
    "coordinate": Method(
        "rVAE as published (`coordinate`)",
        model="coordinate",
        n_seeds=3,
        budgeted=True,
        settings=PUBLISHED,
        speed_threads=(0,),
    ),
    "atomai-defaults": Method(
        "AtomAI rVAE, defaults", "atomai", n_seeds=3, budgeted=True, settings=DEFAULTS, speed_threads=(0, 1)
    ),
    "atomai-tuned": Method("AtomAI rVAE, our best effort", "atomai", n_seeds=3, budgeted=True, settings=ATOMAI_TUNED),
    "pyroved-defaults": Method(
        "pyroVED rVAE, defaults", "pyroved", n_seeds=3, budgeted=True, settings=DEFAULTS, speed_threads=(0, 1)
    ),
    "pyroved-tuned": Method(
        "pyroVED rVAE, our best effort", "pyroved", n_seeds=3, budgeted=True, settings=PYROVED_TUNED
    ),
    "vae": Method("plain VAE", model="vae", n_seeds=3, budgeted=True, settings=PUBLISHED, speed_threads=(0,)),
    "pca": Method("PCA", model="pca"),
    "nmf": Method("NMF", model="nmf"),
    "alignment": Method("alignment + PCA, every pattern by itself", model="alignment", basis=ALONE),
    "alignment-neighbours": Method("alignment + PCA, with neighbours", model="alignment"),
    "com": Method("raw COM", model="com"),
    "mean": Method("mean pattern", model="mean"),
}
