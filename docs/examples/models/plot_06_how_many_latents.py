"""
How many latents?
=================

A sweep measures once, trains with several numbers of latents, and recommends the one after which more add little to
the evidence of patterns kept from training. These analytic patterns hold two structures that rotate together, each
with an amplitude of its own.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import stemvane as sv

scan, _ = sv.synthetic((24, 24), (32, 32), dose=1e5)
config = sv.Config().replace(basis={"n_features": 24}, training={"n_epochs": 10})
folder = Path(tempfile.mkdtemp())
sweep = sv.run_sweep(config, folder / "sweep", dataset=scan, n_latent=(0, 1, 2, 3), n_seeds=1)

# %%
print(sweep.reason)

sweep.plot()
plt.show()
