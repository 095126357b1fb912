"""
Circular harmonics of a pattern
===============================

On rings about the optical axis a pattern is a periodic function of the azimuth. In its Fourier coefficients, the
circular harmonics, a rotation is nothing but a phase: order m is multiplied by ``exp(−i m α)``.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

angle = np.radians(40.0)
scan, _ = sv.synthetic((1, 2), (64, 64), angle=[[0.0, angle]], n_content=1, seed=3)
measured = sv.measure(scan)

# %%
# The same structure at 0° and at 40°, on the detector and in polar samples: there the rotation is a shift along the
# azimuth.

fig, axes = plt.subplots(2, 2, figsize=(7, 5), layout="constrained")
for column in range(2):
    axes[0, column].imshow(scan.pattern(0, column), cmap="gray")
    axes[1, column].imshow(measured.polar[0, column], cmap="gray", aspect="auto", origin="lower")
    axes[1, column].set(xlabel="azimuthal sample", ylabel="ring")
plt.show()

# %%
# Summed over all rings, the phase between the two patterns is −m α.

harmonics = np.fft.fft(measured.polar[0], axis=-1)
product = (harmonics[1] * harmonics[0].conj()).sum(axis=0)
for order in (1, 2):
    print(f"order {order}: {np.degrees(np.angle(product[order])):.1f} degrees, expected {-order * 40}")
