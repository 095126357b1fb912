"""
RotationVAE on graphene
=======================

An angle and two latent variables at every probe position, learned without labels. The first latent follows the length
of the deflection and the angle its direction, though the model is given neither.
"""

import matplotlib.pyplot as plt

import stemvane as sv

measured = sv.measure(sv.simulate(scan_shape=(40, 40), scan_extent=(7.0, 7.0)))
model = sv.RotationVAE(n_latent=2).fit(measured)
embedding = model.embed(measured)
embedding

# %%
agreement = sv.compare(embedding, measured)
print(f"r of the first latent with |COM|: {agreement['pearson_r_first']:.4f}")
print(f"median error of the angle: {agreement['angle_error_median_deg']:.2f} degrees")

# %%
embedding.plot()
plt.show()
