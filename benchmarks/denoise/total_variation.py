"""Total variation of the deflection by scikit-image, in an environment of its own.

``python -m benchmarks.denoise.total_variation FILE.npz`` reads the maps ``com`` and ``truth``, and writes as
``FILE.npy`` that result of all weights which comes closest to the truth; which that is no user knows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage.restoration import denoise_tv_chambolle

# over the rms of the map
WEIGHTS = np.geomspace(0.01, 10, 31)


def main() -> None:
    path = Path(sys.argv[1])
    maps = np.load(path)
    com, truth = maps["com"], maps["truth"]
    both = np.stack([com.real, com.imag], axis=-1)
    size = float(np.sqrt((both**2).mean()))
    found = []
    for weight in WEIGHTS:
        y = denoise_tv_chambolle(both / size, weight, eps=1e-5, max_num_iter=500, channel_axis=-1) * size
        found.append(y[..., 0] + 1j * y[..., 1])
    np.save(path.with_suffix(".npy"), min(found, key=lambda each: float((np.abs(each - truth) ** 2).sum())))


if __name__ == "__main__":
    main()
