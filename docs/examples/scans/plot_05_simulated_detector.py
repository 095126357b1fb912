"""
A scan as a detector records it
===============================

`simulate` can send its electrons through a detector: charge is shared between pixels, each of which has a gain and a
dark level of its own, some are dead, and the beam wanders while the scan proceeds. The truth stays beside the data.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

# %%
# Graphene, 20,000 electrons per pattern: counted without a fault, and recorded by an analogue detector of four chips
# with a gap between them. Meanwhile the specimen drifts.

scene = {"scan_shape": (20, 20), "scan_extent": (5.0, 5.0), "source_size": 0.8, "dose": 20_000}
counted = sv.simulate(**scene)
recorded = sv.simulate(
    **scene, detector={"preset": "analogue", "gap": 2, "beam_shift": [[3, 0], [0, 1.5]]}, scan={"drift": (0, 1.0)}
)
recorded

# %%
# The data set says no more than a recorded one does. What was done to it:

recorded.truth

# %%
# One pattern of each, and the dark frame that would be measured with this detector.

fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for ax, image, title in zip(
    axes,
    (counted.pattern(10, 10), recorded.pattern(10, 10), recorded.truth.dark_frame),
    ("counted, electrons", "recorded, ADU", "dark frame, ADU"),
    strict=True,
):
    high = np.percentile(image, 99.5)
    fig.colorbar(ax.imshow(image, cmap="gray", vmin=np.percentile(image, 10), vmax=high), ax=ax)
    ax.set_title(title)
plt.show()

# %%
# Where the beam went on the detector, where the probe went on the specimen, and the centre of mass that a perfect
# preparation would find in noiseless patterns: it follows the specimen, drift included, but not the beam's shift.

truth = recorded.truth
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
axes[0].plot(*truth.axis.reshape(-1, 2)[:, ::-1].T, ".", ms=3)
axes[0].set(title="optical axis", xlabel="x, px", ylabel="y, px")
axes[1].plot(*truth.positions.reshape(-1, 2)[:, ::-1].T, ".", ms=3)
axes[1].set(title="probe on the specimen", xlabel="x, Å", ylabel="y, Å")
fig.colorbar(axes[2].imshow(np.linalg.norm(truth.com, axis=-1)), ax=axes[2])
axes[2].set_title("|COM| of the truth, mrad")
for ax in axes[:2]:
    ax.set_aspect("equal")
    ax.invert_yaxis()
plt.show()
