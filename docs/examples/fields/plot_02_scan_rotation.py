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
# We rotate the deflection by −37°, as a detector that is mounted so would record it.

rotated = np.radians(-37.0)
y, x = np.moveaxis(measured.deflection, -1, 0)
vector = (x - 1j * y) * np.exp(1j * rotated)
recorded = np.stack([-vector.imag, vector.real], axis=-1)

result = sv.find_rotation(recorded, measured.calibration.scan_step, measured.maps["annular_dark_field"])
print(f"{np.degrees(result.angle):.2f} ± {np.degrees(result.uncertainty):.2f} degrees, flipped: {result.flipped}")

# %%
# The mean square of the curl over the angle: least at 37°, and just as small half a turn away, which the dark field
# settles.

angles = np.radians(np.arange(-180, 181))
rotations = vector * np.exp(1j * angles[:, None, None])
step_y, step_x = measured.calibration.scan_step
curl = np.gradient(rotations.imag, step_x, axis=2) + np.gradient(rotations.real, step_y, axis=1)
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(np.degrees(angles), (curl**2).mean(axis=(1, 2)))
ax.axvline(np.degrees(result.angle), color="tab:red", lw=1)
ax.set(xlabel="scan rotation (°)", ylabel="mean square curl (mrad²/Å²)")
plt.show()
