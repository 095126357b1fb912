"""
Invariance to rotation
======================

Rotate what every pattern holds by 25°: the latents stay as they are, and the angle grows by 25°. This is built into
the model, not learned. What is rotated is the residual; the background, here a round disc, belongs to the microscope
and stays.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

scan, truth = sv.synthetic((32, 32), (48, 48))
rotated, _ = sv.synthetic((32, 32), (48, 48), angle=truth.angle + np.radians(25.0))

measured = sv.measure(scan)
model = sv.RotationVAE(n_latent=2).fit(measured)
embedding, embedding_rotated = model.embed(measured), model.embed(sv.measure(rotated))

# %%
growth = np.degrees(np.angle(np.exp(1j * (embedding_rotated.angle - embedding.angle))))
print(f"the angle grows by {np.median(growth):.2f} degrees")

fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
for j in range(2):
    axes[0].plot(
        embedding.latents[..., j].ravel(), embedding_rotated.latents[..., j].ravel(), ".", ms=3, label=f"latent {j + 1}"
    )
axes[0].set(xlabel="latent", ylabel="latent, patterns rotated")
axes[0].legend()
axes[1].hist(growth.ravel(), bins=np.linspace(20, 30, 41))
axes[1].set(xlabel="growth of the angle (°)", ylabel="patterns")
plt.show()
