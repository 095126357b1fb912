"""
Measure an array
================

Any array of four axes, ``(scan_y, scan_x, k_y, k_x)``, can be measured: one pass gives the total, the centre of mass
(COM), the standard images and the polar patterns that the models learn from.
"""

import matplotlib.pyplot as plt
import numpy as np

import stemvane as sv

patterns = np.asarray(sv.synthetic((32, 32), (48, 48), dose=1e4)[0].data)
print(patterns.shape, patterns.dtype)

# %%
# What is not known stays unknown: without a pixel size the COM is in pixels.

measured = sv.measure(patterns)
measured

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
measured.plot("bright_field", ax=axes[0])
measured.plot("com_x", ax=axes[1])
plt.show()
