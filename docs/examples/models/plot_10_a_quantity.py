"""
A quantity from a few known values
==================================

A tilt, a thickness or a strain that is known at some positions follows everywhere from the latents, with an interval
for each position. Here it is the square of a content's strength, known at ten positions.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

scan, truth = sv.synthetic((24, 24), (32, 32), dose=2e4)
quantity = 10 * truth.content[0] ** 2
measured = sv.measure(scan)
embedding = sv.AlignedPCA(n_latent=2).fit(measured).embed(measured)

chosen = np.random.default_rng(0).choice(quantity.size, 10, replace=False)
known = {divmod(int(at), 24): float(quantity.flat[at]) for at in chosen}
found = sv.predict_quantity(embedding, known, name="thickness", unit="nm")
low, high = found.interval(0.9)
print(f"{100 * np.mean((low < quantity) & (quantity < high)):.0f} % lie in the 90 % intervals")

# %%
# The map, and the truth beside it.
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
found.plot(ax=axes[0])
drawn = axes[0].images[0]
axes[1].imshow(quantity, cmap=drawn.get_cmap(), clim=drawn.get_clim())
axes[1].set(title="truth", xticks=[], yticks=[])
plt.show()
