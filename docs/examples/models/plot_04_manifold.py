"""
The latent manifold
===================

What does a latent stand for? The decoder answers: the patterns over a grid of latents, all at the angle 0. Where no
pattern of the scan lies, it is asked for something that it has never seen: these patterns are hatched.
"""

import matplotlib.pyplot as plt

import stemvane as sv

measured = sv.measure(sv.simulate(scan_shape=(40, 40), scan_extent=(7.0, 7.0)))
model = sv.RotationVAE(n_latent=2).fit(measured)
embedding = model.embed(measured)

model.plot_manifold()
plt.show()

# %%
# How the training went, epoch by epoch.

model.plot_history()
plt.show()
