"""What each constant, each channel and each step of the search for defects is worth.

Run as ``python -m benchmarks.defects.constants``; writes ``benchmarks/results/constants.json``, and puts the table
between the markers of ``docs/symmetry.md``. A few scans of `benchmarks.defects` and `benchmarks.scenes` are searched
once for each of `variations`, everything else left as it is, and what is found is held against the search as it is.
What comes before the step that a variation concerns is taken from that search. Scans are simulated and measured once
and kept under ``--work``, as is every outcome, so that a run that was stopped goes on where it was. It stops by itself
after ``--minutes``; ``--full`` lets it run until everything is done.

``--quick`` takes two scans, and what can be left out alone; its table is printed and nothing is written. ``--only``
takes the variations in whose names a word is.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from benchmarks.defects.constants_table import AS_IS, table
from benchmarks.defects.methods import scored
from benchmarks.defects.scenes import Scene, expectation, mixed, recorded
from benchmarks.defects.scores import Places, auc, compare_defects, site_level
from benchmarks.defects.variations import Stage, Variation, all_variations, varied
from benchmarks.harness.cells import ROOT, Progress, machine, write_json
from benchmarks.harness.comparison import Comparison, cells_as_json
from benchmarks.scenes import scans
from stemvane import find_defects, measure, pattern_model, simulate_library
from stemvane.config import Config, MeasureConfig, SymmetryConfig
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.data.specimen import ScanDefects
from stemvane.defects import search
from stemvane.defects.analysis import DefectAnalysis
from stemvane.defects.fitted_scan import FittedScan, RecordedScan
from stemvane.defects.naming import DefectLibrary
from stemvane.errors import DataError

STEP, SCENE_STEP = 0.3, 0.36
BROKEN, DOSES = (1, 8), (100_000.0, 10_000.0, 3_000.0)
# noise drawn anew, which tells how far a cell may move by chance
N_DRAWS = 2
SCENES = (("grains", 0, 20_000.0), ("contaminated", 0, 100_000.0))
SECONDS = 4.0

COMPARISON = Comparison("defects.constants", table, cells_as_json)


@dataclass(frozen=True)
class Field:
    """One scan to search.

    Attributes
    ----------
    name : str
        ``broken-1`` and others of `benchmarks.defects`, or a class of `benchmarks.scenes`.
    seed : int
        Random seed of the specimen.
    dose : float
        Electrons per pattern.
    draw : int
        0, or the number of another draw of its noise.
    """

    name: str
    seed: int
    dose: float
    draw: int = 0

    @property
    def group(self) -> str:
        """Scans whose outcomes are added: one cell of the table."""
        return f"{self.dose:,.0f}" if self.name == "broken" else self.name

    @property
    def file(self) -> str:
        """Name of what is kept of it."""
        return f"{self.name}-{self.seed}-{self.dose:.0f}-{self.draw}"


@dataclass(frozen=True, eq=False)
class Measured:
    """A measured scan with the truth about it; ``is_clear`` says which defects should be found."""

    measurements: Measurements
    embedding: Embedding
    truth: ScanDefects
    is_clear: NDArray[np.bool_]
    source_size: float


@dataclass(frozen=True, eq=False)
class Memory:
    """What the search as it is has found on the way, step by step."""

    results: dict[str, list[Any]] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what each step returns."""
        with ExitStack() as stack:
            for _, home, name in _STEPS:
                original = getattr(home, name)

                def kept(*args: Any, _original: Any = original, _name: str = name, **options: Any) -> Any:
                    result = _original(*args, **options)
                    self.results.setdefault(_name, []).append(result)
                    return result

                stack.enter_context(patch.object(home, name, kept))
            yield

    @contextmanager
    def replaying(self, stage: Stage) -> Iterator[None]:
        """Let steps before a stage return what they have returned."""
        with ExitStack() as stack:
            for step, home, name in _STEPS:
                if step < stage:
                    kept = self.results[name]
                    if name == "of" and stage <= Stage.P_VALUES:
                        # what follows from a fit is cached in it
                        kept = [replace(fitted) for fitted in kept]
                    calls = iter(kept)
                    stack.enter_context(patch.object(home, name, lambda *_, _calls=calls, **__: next(_calls)))
            yield


_STEPS: tuple[tuple[Stage, Any, str], ...] = (
    (Stage.FEATURES, RecordedScan, "read"),
    (Stage.DOMAINS, RecordedScan, "find_domains"),
    (Stage.FIT, FittedScan, "of"),
    (Stage.P_VALUES, search, "excess"),
    (Stage.P_VALUES, search, "site_p_values"),
)


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    parser = COMPARISON.parser(__doc__)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.set_defaults(
        output=ROOT / "benchmarks" / "results" / "constants.json",
        readme=ROOT / "docs" / "symmetry.md",
        work=ROOT / "build" / "constants",
    )
    chosen = parser.parse_args()
    work = COMPARISON.work(chosen)
    COMPARISON.require_page(chosen)
    todo = {scan: missing for scan in all_fields(quick=chosen.quick) if (missing := _missing(scan, chosen, work))}
    progress = COMPARISON.progress(chosen, sum(map(len, todo.values())))
    if not chosen.tables:
        for scan, variations in todo.items():
            run(scan, variations, work, chosen.work.absolute() / "data", progress)
    COMPARISON.finish(joined(work), chosen, progress)


def all_fields(*, quick: bool) -> list[Field]:
    """Scans in the order in which they are searched."""
    if quick:
        return [Field("broken", BROKEN[0], dose) for dose in DOSES[1:]]
    first, *others = [Field("broken", seed, dose) for dose in reversed(DOSES) for seed in reversed(BROKEN)]
    drawn = [replace(scan, draw=draw) for scan in (first, *others) for draw in range(1, N_DRAWS + 1)]
    return [first, others[1], *(Field(*scene) for scene in SCENES), others[0], *others[2:], *drawn]


def is_planned(scan: Field, change: Variation, *, quick: bool) -> bool:
    """Whether a scan is searched for a variation: one sheet for all, scenes for what says where lattices are."""
    if change.name == AS_IS:
        return True
    if scan.draw or (quick and "=" in change.name):
        return False
    if scan.name != "broken":
        is_of_regions = change.name.startswith(("domains.", "lattice.", "fitted_scan._REACH", "fitted_scan._SEARCHED"))
        return change.stage < Stage.P_VALUES and (is_of_regions or "=" not in change.name)
    if change.stage == Stage.LIBRARY:
        return (scan.seed, scan.dose) == (BROKEN[0], DOSES[1])
    # of one sheet that is all one lattice they decide nothing
    if change.name.startswith(
        tuple(f"domains.{name}" for name in ("_NARROW", "_AROUND", "_PRESENT", "_PARTS", "_LEAST"))
    ):
        return False
    return quick or change.stage >= Stage.P_VALUES or scan == all_fields(quick=False)[0]


def _missing(scan: Field, chosen: Any, work: Path) -> list[Variation]:
    """Variations that were not searched for yet, the search as it is first."""
    as_is = Variation(AS_IS, {}, Stage.FEATURES, {})
    wanted = [as_is, *(change for change in all_variations() if chosen.only in change.name)]
    done = _outcomes(scan, work)
    return [change for change in wanted if change.name not in done and is_planned(scan, change, quick=chosen.quick)]


def _outcomes(scan: Field, work: Path) -> dict[str, Any]:
    path = work / "cells" / f"{scan.file}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["outcomes"]) if path.exists() else {}


def run(scan: Field, variations: list[Variation], work: Path, data: Path, progress: Progress) -> None:
    """Search one scan once for each variation."""
    if not progress.admits(SECONDS):
        progress.n_postponed += len(variations) - 1
        return
    progress.n_started -= 1
    measured = prepare(scan, data)
    # in the scenes nothing is named, which takes as long as the rest
    library = _library(measured, data) if scan.name == "broken" else None
    memory = Memory()
    with memory.recording():
        unvaried = outcome(measured, library, {})
    outcomes = _outcomes(scan, work)
    for change in variations:
        if not progress.admits(SECONDS):
            continue
        started = time.process_time()
        try:
            if change.name == AS_IS:
                outcomes[AS_IS] = unvaried
            else:
                with varied(change.changes), memory.replaying(change.stage):
                    own = _library(measured, data) if change.stage == Stage.LIBRARY else library
                    outcomes[change.name] = outcome(measured, own, change.settings)
        except (DataError, np.linalg.LinAlgError, ValueError, IndexError) as error:
            # a search that a constant breaks is worth knowing of
            outcomes[change.name] = {"failed": f"{type(error).__name__}: {error}"}
        write_json(
            {"cell": asdict(scan) | {"group": scan.group}, "outcomes": outcomes}, work / "cells" / f"{scan.file}.json"
        )
        progress.add(f"{scan.file}: {change.name}, {time.process_time() - started:.1f} s", "")


def prepare(scan: Field, data: Path) -> Measured:
    """The measured scan, which is kept."""
    path = data / f"{scan.file}.zarr"
    if not path.exists():
        measured = _measure(scan, data)
        hidden = path.with_suffix(".partial")
        group = zarr.open_group(hidden, mode="w")
        measured.measurements.write(group.create_group("measurements"))
        measured.embedding.write(group.create_group("embedding"))
        truth = measured.truth
        group.attrs.update(
            {
                "kinds": list(truth.kinds),
                "mirrored": truth.mirrored.tolist(),
                "owners": truth.owners.tolist(),
                "is_clear": measured.is_clear.tolist(),
                **{name: getattr(truth, name).tolist() for name in ("positions", "angles", "sites")},
                "source_size": measured.source_size,
            }
        )
        hidden.rename(path)
    group = zarr.open_group(path, mode="r")
    about: dict[str, Any] = dict(group.attrs)
    parts: Any = group
    measurements = Measurements.read(parts["measurements"])
    truth = ScanDefects(
        kinds=tuple(about["kinds"]),
        positions=np.array(about["positions"], float).reshape(-1, 2),
        angles=np.array(about["angles"], float),
        mirrored=np.array(about["mirrored"], bool),
        sites=np.array(about["sites"], float).reshape(-1, 2),
        owners=np.array(about["owners"], int),
    )
    embedding = Embedding.read(parts["embedding"])
    # patterns in memory, since every variation reads them
    measurements = replace(measurements, polar=np.asarray(measurements.polar[:]))
    return Measured(measurements, embedding, truth, np.array(about["is_clear"], bool), float(about["source_size"]))


def _measure(scan: Field, data: Path) -> Measured:
    """Simulate, record and measure a scan; latents are those of the closed form, which decide nothing."""
    if scan.name == "broken":
        scene = Scene(f"broken-{scan.seed}", scan.seed, mixed(scan.seed))
        dataset = recorded(expectation(scene, STEP, data), scan.dose, scan.seed + 1000 * scan.draw)
        assert dataset.atoms is not None
        assert dataset.atoms.defects is not None
        truth, source_size = dataset.atoms.defects, 0.0
        is_clear = np.ones(len(truth), bool)
    else:
        specimen = scans.record(scans.Scene(scan.name, scan.seed, SCENE_STEP, scan.dose), data)
        dataset, truth, source_size = specimen.dataset, specimen.defects, scans.SOURCE_SIZE
        is_clear = specimen.specimen.is_clear
    measurements = measure(dataset, config=MeasureConfig(), progress=False)
    settings = Config().replace(model={"model": "alignment", "n_latent": 2})
    embedding = pattern_model(settings).fit(measurements).embed(measurements)
    return Measured(measurements, embedding, truth, is_clear, source_size)


def _library(measured: Measured, data: Path) -> DefectLibrary:
    config = SymmetryConfig(source_size=measured.source_size)
    return simulate_library(measured.measurements, config, folder=data / "library", progress=False)


def outcome(measured: Measured, library: DefectLibrary | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Search a scan, and hold what was found against the truth."""
    config = SymmetryConfig(**settings)
    started = time.process_time()
    analysis = find_defects(measured.measurements, measured.embedding, config, library=library, progress=False)
    result: dict[str, Any] = {
        "seconds": round(time.process_time() - started, 2),
        "n_lattices": len(analysis.lattices),
        "share_searched": round(analysis.share_searched, 4),
    }
    if analysis.defects is None:
        return result | {"failed": "no lattice"}
    found = compare_defects(analysis.defects, measured.truth)
    clear = measured.is_clear
    errors = [error for error, wanted in zip(found["errors"], clear, strict=True) if wanted and error is not None]
    same = [pair["together"] for pair in found["pairs"] if pair["kinds"][0] == pair["kinds"][1]]
    other = [not pair["together"] for pair in found["pairs"] if pair["kinds"][0] != pair["kinds"][1]]
    return result | {
        "n_true": int(clear.sum()),
        "found": len(errors),
        "error": round(float(np.mean(errors)), 4) if errors else None,
        "false": found["n_false"],
        "double": found["n_double"],
        "named": sum(bool(right) for right in found["named"]),
        "grouped": sum(same) + sum(other),
        "n_pairs": len(same) + len(other),
        "auc": _auc(analysis, measured),
        "winding": round(float(np.nanmean(analysis.winding)), 3),
    }


def _auc(analysis: DefectAnalysis, measured: Measured) -> float | None:
    """ROC AUC of the changed atoms that should be seen."""
    sites = analysis.sites
    assert sites is not None
    assert analysis.content is not None
    tie = np.zeros(len(sites))
    tie[sites.is_atom] = analysis.content.strength
    level = site_level(scored(analysis.p, tie), Places.of(sites.positions, sites.is_atom, measured.truth))
    wanted = measured.is_clear[measured.truth.owners]
    if not wanted.any() or not level["pristine"]:
        return None
    return round(float(auc(np.array(level["scores"])[wanted], level["pristine"], level["weights"]).mean()), 4)


def joined(work: Path) -> dict[str, Any]:
    """All outcomes that are there, of variations that there are, in their order."""
    names = [AS_IS, *(change.name for change in all_variations())]
    cells = []
    for path in sorted((work / "cells").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        outcomes = record["outcomes"]
        cells.append(record | {"outcomes": {name: outcomes[name] for name in names if name in outcomes}})
    return {"machine": machine(), "cells": cells}


if __name__ == "__main__":
    main()
