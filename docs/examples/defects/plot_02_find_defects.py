"""
Find defects
============

The lattice of a scan is found from its own maps; what departs from it is a defect, at a false discovery rate that is
set. The search is given neither the elements nor the probe.
"""

import matplotlib.pyplot as plt

import stemvane as sv

scan = sv.simulate(
    scan_shape=(64, 64),
    scan_extent=(16.0, 16.0),
    defects={"N": 1, "Si-C3": 1, "vacancy": 1},
    placement_seed=1,
    dose=1e5,
)
measured = sv.measure(scan)
embedding = sv.RotationVAE(n_latent=2).fit(measured).embed(measured)
result = sv.find_defects(measured, embedding)
for kind, (y, x) in zip(result.defects.kinds.kind, result.defects.positions, strict=True):
    print(f"kind {kind + 1} at y = {y:.1f} Å, x = {x:.1f} Å")

# %%
# Three kinds, since no two of the three are alike. A library of simulated defects gives them names: see the tutorial.

result.plot()
plt.show()
