"""
Mirror images
=============

Grains that are turned over have mirrored patterns, which no rotation brings back if the pattern is chiral. With
`mirror` every kind comes with its mirror image, and the hand of a position has a probability of its own. The two
orientations of a sheet such as MoS2 are no such images: they are a rotation by 180°, and the angle tells them.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv
from stemvane.config import KindsConfig

# three spots out of line, at random angles; mirrored in the left half
rng = np.random.default_rng(0)
angle, is_mirrored = rng.uniform(0, 2 * np.pi, (20, 20)), np.arange(20) < 10
y, x = np.mgrid[:32, :32] - 15.5
expected = 2.0 * (np.hypot(y, x) < 14) + np.zeros((20, 20, 1, 1))
for radius, at, height in ((4.0, 0.0, 4.0), (8.0, 1.0, 2.0), (11.0, 2.2, 2.0)):
    place = angle + np.where(is_mirrored, -at, at)
    up, right = (radius * part(place)[..., None, None] for part in (np.sin, np.cos))
    expected = expected + height * np.exp(-((-y - up) ** 2 + (x - right) ** 2) / 6)
calibration = sv.Calibration(optical_axis=(15.5, 15.5), disc_radius=14.0, convergence_semiangle=28.0, energy=60e3)
measured = sv.measure(sv.Dataset4D.from_array(rng.poisson(expected).astype(np.uint16), calibration=calibration))

settings = KindsConfig(n_kinds=1, n_latent=0, mirror=True)
found = sv.KindsModel(model=settings).fit(measured).embed(measured)
found.plot("kinds")
plt.show()
