"""
Open a scan and look at it
==========================

`open_dataset` recognises a file by its content and reads nothing but what is asked for. Here the file is one that we
write ourselves: a simulated scan of graphene, 100,000 electrons per pattern.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import stemvane as sv

folder = Path(tempfile.mkdtemp())
sv.save_dataset(sv.simulate(scan_shape=(16, 16), scan_extent=(4.0, 4.0), dose=1e5), folder / "graphene.zarr")

# %%
# The scan stays on disk. It knows its axes, its calibration and where each number comes from. What the file does not
# know is given here, as in ``sv.open_dataset(path, energy=60e3)``.

scan = sv.open_dataset(folder / "graphene.zarr")
scan

# %%
# One pattern, and the mean of all. Pairs are ``(y, x)``, and y grows downwards.

fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
axes[0].imshow(scan.pattern(4, 10), cmap="gray")
axes[0].set_title("pattern at (4, 10)")
axes[1].imshow(scan.data.mean(axis=(0, 1)).compute(), cmap="gray")
axes[1].set_title("mean pattern")
plt.show()
