"""Other programs on the same file, each in an environment of its own, for ``benchmarks/speed/measure.py``.

``python -m benchmarks.speed.peers NAME FILE.npy MASKS.npz`` loads what it needs, prints a line of JSON for its tasks,
and then runs a task for every line that it reads, printing seconds and peak memory. MASKS.npz holds the optical axis
and weights ``(n, k_y, k_x)`` of the virtual images, and of the polar samples as a sparse matrix.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness.memory import peak_mib


def numpy_tasks(path: str, masks: Any) -> dict[str, Callable[[], Any]]:
    """Plain NumPy: frames times weights as a matrix product, some frames at a time."""
    data = np.load(path)
    frames = data.reshape(-1, data.shape[2] * data.shape[3])
    rows, columns = np.indices(data.shape[2:], dtype=np.float32)
    moments = np.stack([np.ones_like(rows), rows - masks["axis"][0], columns - masks["axis"][1]])

    def product(weights: Any) -> Any:
        flat = np.ascontiguousarray(weights.reshape(len(weights), -1).T, np.float32)
        sums = np.concatenate([frames[i : i + 64].astype(np.float32) @ flat for i in range(0, len(frames), 64)])
        return sums[:, 1:] / sums[:, :1]

    return {
        "com": lambda: product(moments),
        "com_images": lambda: product(np.concatenate([moments, masks["images"]])),
    }


def libertem_tasks(path: str, masks: Any, executor: str) -> dict[str, Callable[[], Any]]:
    """LiberTEM: one ApplyMasksUDF with all masks; polar samples as sparse masks."""
    import libertem.api as lt
    from libertem.udf.masks import ApplyMasksUDF
    from scipy.sparse import csr_matrix

    context = lt.Context.make_with(executor)
    dataset = context.load(
        "npy", path=path, nav_shape=tuple(masks["scan_shape"].tolist()), sig_shape=masks["images"].shape[1:]
    )
    shape = masks["images"].shape[1:]
    rows, columns = np.indices(shape, dtype=np.float32)
    axis, images = masks["axis"], masks["images"].astype(np.float32)
    moments = np.stack([np.ones_like(rows), rows - axis[0], columns - axis[1]])
    both = np.concatenate([moments, images])
    flat = both.reshape(len(both), -1)
    polar = csr_matrix((masks["weight"], masks["sample"], masks["indptr"]), (rows.size, int(masks["n_samples"])))

    def with_polar() -> Any:
        from scipy.sparse import vstack
        from sparse import COO

        return COO.from_scipy_sparse(vstack([csr_matrix(flat), polar.T.tocsr()])).reshape((-1, *shape))

    def run(udf: Any) -> Any:
        intensity = context.run_udf(dataset=dataset, udf=udf)["intensity"].data
        intensity = intensity.reshape(-1, intensity.shape[-1])
        return intensity[:, 1:6] / intensity[:, :1]

    # masks are made once, as LiberTEM's own analyses do
    com = ApplyMasksUDF(mask_factories=lambda: moments, mask_count=len(moments), mask_dtype=np.float32)
    all_images = ApplyMasksUDF(mask_factories=lambda: both, mask_count=len(both), mask_dtype=np.float32)
    samples = ApplyMasksUDF(
        mask_factories=with_polar,
        mask_count=len(both) + polar.shape[1],
        mask_dtype=np.float32,
        use_sparse="scipy.sparse.csc",
    )
    return {
        "com": lambda: run(com),
        "com_images": lambda: run(all_images),
        "com_images_polar": lambda: run(samples),
    }


def py4dstem_tasks(path: str, masks: Any) -> dict[str, Callable[[], Any]]:
    """py4DSTEM: the centre of mass of its DPC, and a virtual image for each mask."""
    import py4DSTEM
    from py4DSTEM.process.phase import DPC

    cube = py4DSTEM.DataCube(np.load(path))
    phase = DPC(datacube=cube, energy=60e3, verbose=False)
    phase._reciprocal_sampling = (1.0, 1.0)

    def com() -> Any:
        centres = phase._calculate_intensities_center_of_mass(cube.data, fit_function=None)
        return np.stack([np.ravel(centres[0]) - masks["axis"][0], np.ravel(centres[1]) - masks["axis"][1]], axis=-1)

    def com_images() -> Any:
        images = [cube.get_virtual_image("mask", mask, verbose=False, returncalc=True).data for mask in masks["images"]]
        total = np.sum(cube.data, axis=(2, 3))
        return np.concatenate([com(), np.stack([np.ravel(i / total) for i in images], axis=-1)], axis=-1)

    return {"com": com, "com_images": com_images}


def pyxem_tasks(path: str, masks: Any) -> dict[str, Callable[[], Any]]:
    """pyxem: the lazy signal's centre of mass, and dask's sums of masked patterns."""
    import dask.array as da
    import hyperspy.api as hs
    from pyxem.signals import LazyDiffraction2D

    hs.preferences.General.show_progressbar = False
    data = da.from_array(np.load(path, mmap_mode="r"), chunks=(16, 16, -1, -1))
    signal = LazyDiffraction2D(data)

    def com() -> Any:
        # pyxem gives the shift that would bring the beam to the middle, x first
        shifts = signal.get_direct_beam_position(method="center_of_mass", lazy_output=True)
        shifts.compute(show_progressbar=False)
        positions = shifts.data.reshape(-1, 2)
        middle = np.array(data.shape[2:]) / 2
        return middle - positions[:, ::-1] - masks["axis"]

    def com_images() -> Any:
        total = data.sum(axis=(2, 3), dtype=np.float32)
        images = da.stack([(data * mask.astype(np.float32)).sum(axis=(2, 3)) / total for mask in masks["images"]], -1)
        return np.concatenate([com(), images.compute().reshape(-1, len(masks["images"]))], axis=-1)

    return {"com": com, "com_images": com_images}


def main() -> None:
    """Answer on the stream that was stdout; whatever the programs print goes to stderr."""
    name, path, masks_path = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr
    masks = dict(np.load(masks_path))
    kind, _, executor = name.partition("-")
    makers: dict[str, Callable[[], dict[str, Callable[[], Any]]]] = {
        "numpy": lambda: numpy_tasks(path, masks),
        "libertem": lambda: libertem_tasks(path, masks, executor),
        "py4dstem": lambda: py4dstem_tasks(path, masks),
        "pyxem": lambda: pyxem_tasks(path, masks),
    }
    tasks = makers[kind]()
    print(json.dumps(sorted(tasks)), file=answers, flush=True)
    for line in sys.stdin:
        task, _, target = line.strip().partition(" ")
        start = time.perf_counter()
        result = tasks[task]()
        seconds = time.perf_counter() - start
        if target:
            np.save(target, np.asarray(result))
        print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
