"""
Simulate defects
================

Relaxed defects at places drawn from a seed, and a scan of them. The data set carries the truth: kinds and positions.
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
defects = scan.atoms.defects
for kind, (y, x) in zip(defects.kinds, defects.positions, strict=True):
    print(f"{kind:8} at y = {y:.1f} Å, x = {x:.1f} Å")

# %%
# In the annular dark field silicon is bright and the vacancy dark; nitrogen is hardly brighter than carbon.

measured = sv.measure(scan)
fig, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
measured.plot("annular_dark_field", ax=ax)
plt.show()
