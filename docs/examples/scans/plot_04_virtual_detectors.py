"""
Virtual detectors
=================

A virtual detector is a weight for every detector pixel. Discs, annuli and sectors have shapes of their own; any array
of weights will do. All of them are summed in the same pass as the centre of mass.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

scan = sv.simulate(scan_shape=(32, 32), scan_extent=(6.0, 6.0))
shape, axis, radius = scan.detector_shape, scan.calibration.optical_axis, scan.calibration.disc_radius

y, x = np.indices(shape)
right_half = np.where(x > axis[1], 1.0, -1.0) * (np.hypot(y - axis[0], x - axis[1]) < radius)
detectors = [
    sv.VirtualDetector.disc("inner_bright_field", shape, axis, 0.5 * radius),
    sv.VirtualDetector.annulus("annular_bright_field", shape, axis, 0.5 * radius, radius),
    sv.VirtualDetector("right_minus_left", right_half),
]
measured = sv.measure(scan, detectors)

# %%
# Above the weights, below the images. The difference of the two halves is nearly the COM along x.

fig, axes = plt.subplots(2, 3, figsize=(8, 5), layout="constrained")
for column, detector in zip(axes.T, detectors, strict=True):
    column[0].imshow(detector.weights, cmap="gray")
    column[0].set_title(detector.name.replace("_", " "))
    measured.plot(detector.name, ax=column[1])
plt.show()
