"""
A run folder
============

`run_pipeline`, as ``stemvane run`` on the command line, does everything in one go and writes a folder that is
complete or not there: settings, measurements, model, embedding, metrics and figures.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import stemvane as sv

scan, _ = sv.synthetic((24, 24), (32, 32), dose=1e5)
config = sv.Config().replace(basis={"n_features": 24}, training={"n_epochs": 10}, figures={"dpi": 100})
folder = Path(tempfile.mkdtemp()) / "mine"
run = sv.run_pipeline(config, folder, dataset=scan)
for path in sorted(folder.iterdir()):
    print(path.name)

# %%
# The folder is read again with `Run.open`. Nothing in it is pickled.

run = sv.Run.open(folder)
print(f"median error of the angle: {run.metrics['angle_error_median_deg']:.2f} degrees")

fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
ax.imshow(plt.imread(run.figures_path / "figure2.png"))
ax.set_axis_off()
plt.show()
