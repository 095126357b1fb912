"""Tilt-corrected bright field ("parallax") by py4DSTEM, in an environment of its own.

``python -m benchmarks.denoise.parallax FILE.npz`` reads ``counts``, the scan's ``step`` in Å, the ``pixel`` in mrad and
the ``energy`` in eV, and writes as ``FILE.npy`` the phase with its aberrations corrected, at the positions of the scan.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import py4DSTEM
from py4DSTEM.process.phase import Parallax

# px; its default of 16 would fade half of a scan of 64
EDGE = 4


def main() -> None:
    path = Path(sys.argv[1])
    given = np.load(path)
    cube = py4DSTEM.DataCube(given["counts"].astype(np.float32))
    cube.calibration.set_R_pixel_size(float(given["step"]))
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(float(given["pixel"]))
    cube.calibration.set_Q_pixel_units("mrad")
    parallax = Parallax(datacube=cube, energy=float(given["energy"]), verbose=False)
    parallax.preprocess(edge_blend=EDGE, plot_average_bf=False)
    parallax.reconstruct(progress_bar=False, plot_aligned_bf=False, plot_convergence=False)
    # it is told that the scan is not rotated
    parallax.aberration_fit(force_rotation_angle_deg=0)
    parallax.aberration_correct(plot_corrected_phase=False, upsampled=False)
    phase = np.asarray(parallax.recon_phase_corrected)
    inside = [slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(phase.shape, cube.shape[:2], strict=True)]
    np.save(path.with_suffix(".npy"), phase[tuple(inside)])


if __name__ == "__main__":
    main()
