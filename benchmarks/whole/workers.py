"""The pass and the embedding on two threads, and on two processes of a Dask cluster: time, and whether bits are equal.

Run as ``python -m benchmarks.whole.workers FILE PIXEL``; prints one line of JSON. Starting processes, and what they
import and compile, does not count; nor does the filter over the scan, which runs in the process that asks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import torch
from distributed import Client, LocalCluster

from stemvane import Dataset4D, RotationVAE, measure, open_dataset
from stemvane.config import TrainingConfig

__all__ = ["compare_workers"]

N_WORKERS = 2
# the model that embeds need not be a good one
TRAINING = TrainingConfig(n_epochs=4, max_patterns=4096)
_COLUMNS = ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence")


def compare_workers(path: str, pixel_size: float) -> dict[str, Any]:
    """Measure and embed a file both ways.

    Parameters
    ----------
    path : str
        A file that every process can read.
    pixel_size : float
        mrad per detector pixel.

    Returns
    -------
    dict
        ``bytes`` and ``patterns`` of the file; ``threads`` and ``processes``, the seconds of ``measure`` and ``embed``
        of each; ``same``, whether all maps, polar patterns and columns of the embedding have the same bits.
    """
    scan = open_dataset(path, energy=60e3, convergence_semiangle=20, scan_step=0.6, pixel_size=pixel_size)
    rows = max(1, 2048 // scan.scan_shape[1])
    part = Dataset4D.from_array(np.asarray(scan.data[:rows]), calibration=scan.calibration)
    report: dict[str, Any] = {"bytes": int(scan.data.nbytes), "patterns": scan.n_patterns}
    torch.set_num_threads(N_WORKERS)
    model = RotationVAE(2, training=TRAINING).fit(measure(scan, progress=False), progress=False)
    results = {}
    with (
        dask.config.set(num_workers=N_WORKERS),
        LocalCluster(n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        for name, where in (("threads", None), ("processes", client)):
            model.embed(measure(part, client=where, progress=False), client=where)
            seconds, measured = timed(lambda where=where: measure(scan, client=where, progress=False))
            # with this the filter over the scan is done, and kept
            model.embed(measured)
            of_embedding, found = timed(lambda where=where, measured=measured: model.embed(measured, client=where))
            report[name] = {"measure": seconds, "embed": of_embedding}
            results[name] = measured, found
    (measured, found), (other_measured, other_found) = results["threads"], results["processes"]
    report["same"] = (
        all(equal(values, other_measured.maps[name]) for name, values in measured.maps.items())
        and equal(measured.polar, other_measured.polar)
        and all(equal(getattr(found, name), getattr(other_found, name)) for name in _COLUMNS)
    )
    return report


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def equal(one: Any, other: Any) -> bool:
    """Whether two arrays have the same bits, NaN included."""
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


if __name__ == "__main__":
    print(json.dumps(compare_workers(sys.argv[1], float(sys.argv[2]))))
