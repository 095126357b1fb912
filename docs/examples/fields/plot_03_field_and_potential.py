"""
Projected field and potential
=============================

The deflection in the frame of the scan is the electric field integrated along the beam; its integral is the projected
potential, blurred by the probe.
"""

import matplotlib.pyplot as plt

import stemvane as sv

measured = sv.measure(sv.simulate(scan_shape=(40, 40), scan_extent=(7.0, 7.0)))
field = sv.field_maps(measured)
for name, unit in field.units.items():
    print(f"{name:16} {unit}")

# %%
potential = sv.projected_potential(field.maps["integrated_com"], measured.calibration.energy)
print(f"{potential.max() - potential.min():.1f} V·Å from the hollows to the atoms")

field.plot()
plt.show()
