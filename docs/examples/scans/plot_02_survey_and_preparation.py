"""
Survey and preparation
======================

A look at some of the patterns finds the bright-field disc, bad pixels and the shift of the beam. `measure` takes this
look by itself where the disc is unknown; `prepare_scan` does the same with switches of your choice.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

# %%
# A scan with two faults: a hot pixel, and a beam that wanders down the detector from row to row.

patterns = np.array(sv.synthetic((24, 24), (48, 48), dose=1e4)[0].data)
for y in range(24):
    patterns[y] = np.roll(patterns[y], y // 6, axis=-2)
patterns[:, :, 5, 40] = 5000

look = sv.survey(sv.Dataset4D.from_array(patterns))
look

# %%
# The mean pattern and the disc in it; the wandering smears its upper and lower edge.

fig, ax = plt.subplots(figsize=(4, 3.6), layout="constrained")
ax.imshow(look.mean_pattern, cmap="gray", vmax=np.percentile(look.mean_pattern, 99))
ax.add_patch(plt.Circle(look.disc_centre[::-1], look.disc_radius, fill=False, color="tab:red"))
ax.plot(*look.hot_pixels[:, ::-1].T, "s", mfc="none", mec="tab:orange")
plt.show()

# %%
# The hot pixel is left out in any case; the shift is removed where the setting ``descan`` says so.

config = sv.Config().replace(preparation={"descan": True})
scan = sv.prepare_scan(patterns, config.preparation)
print(scan.preparation)

# %%
# The COM along y before and after: what remains is the specimen's.

fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
for ax, source, title in zip(axes, (patterns, scan), ("as recorded", "shift removed"), strict=True):
    sv.measure(source).plot("com_y", ax=ax)
    ax.set_title(title)
plt.show()
