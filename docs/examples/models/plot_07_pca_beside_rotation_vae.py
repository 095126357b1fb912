"""
PCA beside RotationVAE
======================

Principal components know nothing of rotation: one structure that rotates takes two components, a sine and a cosine,
so neither is the length of the deflection. The model has one latent for it, and an angle.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

config = sv.Config().replace(measure={"n_pixels": 16})
measured = sv.measure(sv.simulate(scan_shape=(40, 40), scan_extent=(7.0, 7.0)), config=config.measure)

pca = sv.PCA(n_latent=2).fit(measured).embed(measured)
vae = sv.RotationVAE(n_latent=2).fit(measured).embed(measured)

# %%
length = measured.com_magnitude.ravel()
fig, axes = plt.subplots(2, 2, figsize=(7, 6.4), layout="constrained")
for row, (name, embedding) in zip(axes, (("PCA", pca), ("RotationVAE", vae)), strict=True):
    for j, ax in enumerate(row):
        r = np.corrcoef(embedding.latents[..., j].ravel(), length)[0, 1]
        embedding.plot(f"latent {j + 1}", ax=ax)
        ax.set_title(f"{name}, latent {j + 1}: r with |COM| = {r:.2f}", fontsize=9)
plt.show()
