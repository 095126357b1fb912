"""Names of defects in hosts other than graphene, on ideal scenes: how many are found, and how many have their name.

Each scene holds every defect of the host's library once, at random places; patterns are noiseless ones with counting
noise. What is written is kept scene by scene, so that a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import stemvane as sv
from stemvane.config import SymmetryConfig
from stemvane.simulation.optics import poisson_counts
from stemvane.specimens import LIBRARIES

HOSTS = ("h-BN", "MoS2", "WS2")
DOSES = (100_000.0, 20_000.0)
EXTENT, STEP = 32.0, 0.16
RESULTS = Path(__file__).parents[1] / "results" / "hosts.json"
# Å between a defect and what is found of it
NEAR = 2.0


def scene(host: str, seed: int) -> sv.Dataset4D:
    n = round(EXTENT / STEP)
    return sv.simulate(
        structure=host,
        scan_shape=(n, n),
        scan_extent=(EXTENT, EXTENT),
        detector_shape=(48, 48),
        defects=dict.fromkeys(LIBRARIES[host], 1),
        placement_seed=seed,
        progress=False,
    )


def named(clean: sv.Dataset4D, host: str, dose: float, seed: int) -> dict[str, object]:
    """What a search says of every defect of a scene, and how many defects it reports that are none."""
    counts = poisson_counts(np.asarray(clean.data, np.float32) * np.float32(dose), seed)
    scan = sv.Dataset4D.from_array(counts, calibration=clean.calibration, name=host, electrons_per_pattern=dose)
    measured = sv.measure(scan, progress=False)
    embedding = sv.RotationVAE(n_latent=2).fit(measured, progress=False).embed(measured)
    start = time.perf_counter()
    library = sv.simulate_library(measured, SymmetryConfig(library=host), progress=False)
    seconds = time.perf_counter() - start
    found = sv.find_defects(measured, embedding, library=library, progress=False).defects
    assert clean.atoms is not None
    truth = clean.atoms.defects
    assert truth is not None
    said = {}
    taken = set()
    if found is not None and len(found) and found.naming is not None:
        for kind, position in zip(truth.kinds, truth.positions, strict=True):
            distances = np.linalg.norm(found.positions - position, axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] < NEAR:
                said[kind] = found.naming.names[nearest]
                taken.add(nearest)
    n_found = 0 if found is None else len(found)
    return {"truth": list(truth.kinds), "said": said, "n_false": n_found - len(taken), "library_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one scene of h-BN")
    quick = parser.parse_args().quick
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for host in HOSTS[:1] if quick else HOSTS:
        for seed in range(1 if quick or host != "h-BN" else 3):
            names = {dose: f"{host}, {dose:,.0f} electrons, scene {seed}" for dose in DOSES}
            if all(name in result for name in names.values()):
                continue
            clean = scene(host, seed)
            for dose, name in names.items():
                result[name] = named(replace(clean, name=host), host, dose, seed)
                RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                show(result, name)
    print(f"{'host':<8}{'electrons':>10}{'defects':>9}{'found':>7}{'named':>7}{'false':>7}{'library (s)':>13}")
    for host in HOSTS:
        for dose in DOSES:
            cells = [cell for name, cell in result.items() if name.startswith(f"{host}, {dose:,.0f} ")]
            if cells:
                n = sum(len(cell["truth"]) for cell in cells)
                found = sum(len(cell["said"]) for cell in cells)
                right = sum(kind == name for cell in cells for kind, name in cell["said"].items())
                false, seconds = sum(cell["n_false"] for cell in cells), max(c["library_seconds"] for c in cells)
                print(f"{host:<8}{dose:>10,.0f}{n:>9}{found:>7}{right:>7}{false:>7}{seconds:>13.0f}")


def show(result: dict[str, dict[str, object]], name: str) -> None:
    said = result[name]["said"]
    assert isinstance(said, dict)
    wrong = {kind: found for kind, found in said.items() if kind != found}
    missed = sorted(set(result[name]["truth"]) - set(said))  # type: ignore[call-overload]
    print(f"{name}: wrong {wrong}, missed {missed}, false {result[name]['n_false']}", flush=True)


if __name__ == "__main__":
    main()
