"""
Survey and preparation
======================

A look at some of the patterns finds the bright-field disc, bad pixels and the shift of the beam. `measure` takes this
look by itself; `survey` shows what it sees.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

# %%
# A scan with two faults: a hot pixel, and a beam that wanders over the detector as it scans.

patterns = np.array(sv.synthetic((24, 24), (48, 48), dose=1e4)[0].data)
for y in range(24):
    patterns[y] = np.roll(patterns[y], y // 6, axis=-2)
patterns[:, :, 5, 40] = 5000

scan = sv.Dataset4D.from_array(patterns)
look = sv.survey(scan)
print("hot pixels", look.hot_pixels.tolist())
print("disc at", np.round(look.disc_centre, 2), "px, radius", round(look.disc_radius, 2), "px")
print("shift from the first row to the last", np.round(look.beam_shift_along_y, 2), "px")
for note in look.notes:
    print(note)

# %%
# The mean pattern with the disc that was found; the wandering smears its upper and lower edge.

fig, ax = plt.subplots(figsize=(4, 3.6), layout="constrained")
ax.imshow(look.mean_pattern, cmap="gray", vmax=np.percentile(look.mean_pattern, 99))
ax.add_patch(plt.Circle(look.disc_centre[::-1], look.disc_radius, fill=False, color="tab:red"))
ax.plot(*look.hot_pixels[:, ::-1].T, "s", mfc="none", mec="tab:orange")
plt.show()
