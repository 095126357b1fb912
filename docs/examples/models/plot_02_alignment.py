"""
Alignment
=========

Every residual, the pattern minus the mean, is rotated onto one common template, in closed form and without being told
the COM. `AlignedPCA` does this and takes principal components of what is then left.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

scan, truth = sv.synthetic((32, 32), (48, 48), dose=2e4)
measured = sv.measure(scan)
embedding = sv.AlignedPCA(n_latent=2).fit(measured).embed(measured)

# %%
# The angle of the alignment against the one that was put in: equal up to a constant, which is a matter of what is
# called 0.

error = np.angle(np.exp(1j * (embedding.angle - truth.angle)))
offset = np.angle(np.exp(1j * error).mean())
print(
    f"offset {np.degrees(offset):.0f} degrees, median error {np.degrees(np.median(np.abs(error - offset))):.2f} degrees"
)

fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
for ax, angle, title in zip(
    axes, (truth.angle, embedding.angle - offset), ("put in", "from the alignment"), strict=True
):
    ax.imshow(np.angle(np.exp(1j * angle)), cmap="twilight", vmin=-np.pi, vmax=np.pi)
    ax.set_title(title)
plt.show()
