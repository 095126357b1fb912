"""
The COM map and its colour wheel
================================

The centre of mass (COM) of a pattern is where its intensity went. Its direction is a colour: counter-clockwise on the
screen, 0 to the right. In focus it points at the atoms.
"""

import matplotlib.pyplot as plt

import stemvane as sv

measured = sv.measure(sv.simulate(scan_shape=(40, 40), scan_extent=(7.0, 7.0)))

fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
measured.plot("com", ax=axes[0])
measured.plot("com_magnitude", ax=axes[1])
plt.show()
