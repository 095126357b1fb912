"""
Find the scan rotation
======================

A detector is rarely mounted along the scan. An electrostatic field has no curl, and the beam is deflected towards the
atoms: from both follows the angle between the two, with a standard error.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

measured = sv.measure(sv.simulate(scan_shape=(40, 40), scan_extent=(7.0, 7.0), dose=1e5))

# %%
# We rotate the deflection by −37°, as a detector that is mounted at this angle would record it. In the complex plane of
# the screen, ``x − i y``, a rotation is a phase.

y, x = np.moveaxis(measured.deflection, -1, 0)
vector = (x - 1j * y) * np.exp(1j * np.radians(-37.0))
recorded = np.stack([-vector.imag, vector.real], axis=-1)

rotation = sv.find_rotation(recorded, measured.calibration.scan_step, measured.maps["annular_dark_field"])
rotation

# %%
# The curl is least at 37°, and just as small 180° away; the dark field, which shows where the atoms are, decides.

fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
rotation.plot(ax=ax)
plt.show()
