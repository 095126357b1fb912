"""
Kinds of patterns
=================

Where a scan holds several kinds of patterns (domains, phases, layers), each has a template of its own that rotates.
`KindsModel` finds which position is of which kind, and at which angle. Here a disc of three-fold patterns lies among
patterns without symmetry; centre and orientation of all of them vary.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

around, _ = sv.synthetic((24, 24), (32, 32), dose=2e4, seed=1)
inside, _ = sv.synthetic((24, 24), (32, 32), dose=2e4, seed=2, symmetry=3)
y, x = np.mgrid[:24, :24] - 11.5
disc = np.hypot(y, x) < 7
patterns = np.where(disc[..., None, None], inside.data, around.data)
measured = sv.measure(sv.Dataset4D.from_array(patterns, calibration=around.calibration))

model = sv.KindsModel(n_kinds=2, n_latent=1).fit(measured)
found = model.embed(measured)
print(f"{100 * np.mean((found.kind == 2) == disc):.1f} % of the positions are right; symmetries {model.kind_symmetry}")

# %%
# The page of kinds shows where they lie, the angle within each, and by what their patterns differ.
found.plot("kinds")
plt.show()

# %%
# Labels
# ------
# One marked position of each kind, from the viewer or a CSV file, gives the kinds their names.
labels = {"film": [(0, 0)], "particle": [(12, 12)]}
named = sv.KindsModel(n_latent=1, n_kinds=2, labels=labels).fit(measured)
print(named.kind_names)
named.embed(measured).plot("kind")
plt.show()
