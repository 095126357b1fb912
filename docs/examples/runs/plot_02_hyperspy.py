"""
Hand maps to HyperSpy
=====================

Every map and pattern of a run as a HyperSpy signal, with units on every axis. `export_run` writes the same signals,
and files for py4DSTEM, xarray, ImageJ and tables.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import stemvane as sv

scan, _ = sv.synthetic((24, 24), (32, 32), dose=1e5)
config = sv.Config().replace(basis={"n_features": 24}, training={"n_epochs": 10}, compare={"n_turned": 0})
run = sv.run_pipeline(config, Path(tempfile.mkdtemp()) / "mine", dataset=scan)

signals = run.to_hyperspy()
for name, signal in signals.items():
    print(f"{name:20} {signal}")

# %%
signals["com_magnitude"].plot()
plt.show()
