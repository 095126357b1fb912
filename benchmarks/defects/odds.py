"""Whether names of defects are as probable as is said, and how far pairs that look alike can be told apart at all.

Run as ``python -m benchmarks.defects.odds`` (10 minutes on one core); writes ``results/odds.json`` and prints the
tables of ``benchmarks/README.md``. Scenes of graphene at a step of 0.3 Å: six of `benchmarks.defects.scenes`, and
three with defects that are taken for each other. Every defect that is found is named by the whole library, and by one
that lacks its kind. Beside that, it is named by its strength alone, the dark field and the divergence of the COM at
the site (`benchmarks.defects.strengths`). The bound is what a likelihood ratio of the raw counts would reach that knew
place, rotation and both alternatives: their expectations differ by d standard deviations of the counts, and Φ(d / 2)
of the answers are right. Cells lie under ``--work``, so that a run that was stopped goes on; ``--quick`` takes two
scenes at two doses.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy import special

from benchmarks.defects.methods import embedding_of_nothing
from benchmarks.defects.scenes import Scene, expectation, recorded, scenes
from benchmarks.defects.strengths import STRENGTHS, name_by_strength
from benchmarks.harness.cells import ROOT, machine, write_json
from stemvane import find_defects, measure, simulate, simulate_library
from stemvane.defects import search
from stemvane.defects.naming import UNKNOWN, DefectLibrary, Naming, name_defects

RESULTS = ROOT / "benchmarks" / "results" / "odds.json"
STEP = 0.3
DOSES = (100_000.0, 20_000.0, 10_000.0, 3_000.0)
ALIKE = {"Si-C3": 2, "P": 2, "N": 2, "N-N-ortho": 1}
PAIRS = (("Si-C3", "P"), ("N", "N-N-ortho"), ("N", "N-N-para"), ("vacancy", "divacancy"))
# Å between a defect and where the search puts it
NEAR = 1.6
LEVELS = (0.0, 0.5, 0.8, 0.95, 0.99, 1.0)
# odds from which on a name is sure
_SURE = 0.9
# of a scan of one defect, whose middle half is compared
_N = 32


def named(scene: Scene, dose: float, data: Path) -> list[dict[str, Any]]:
    """Truth, name and probability of every defect that was found, also by a library that lacks its kind."""
    measured = measure(recorded(expectation(scene, STEP, data), dose, scene.seed), progress=False)
    library = simulate_library(measured, folder=data / "library", progress=False)
    told: list[Any] = []

    def naming(library: DefectLibrary, *parts: Any) -> Naming:
        told[:] = parts
        return name_defects(library, *parts)

    with patch.object(search, "name_defects", naming):
        found = find_defects(measured, embedding_of_nothing(measured.scan_shape), library=library).defects
    assert measured.atoms is not None
    truth = measured.atoms.defects
    assert truth is not None
    if found is None or not len(found):
        return []
    assert found.naming is not None
    rows: list[dict[str, Any]] = []
    for number, position in enumerate(found.positions):
        away = np.linalg.norm(truth.positions - position, axis=1)
        name, probability = found.naming.ranked(number, 0)
        is_one = bool(len(away)) and away.min() < NEAR
        rows.append({"truth": truth.kinds[int(away.argmin())] if is_one else None, "name": name, "p": probability})
    for key, answers in name_by_strength(library, told[0][0][1], found.positions).items():
        for row, (name, probability) in zip(rows, answers, strict=True):
            row[key], row[f"p_{key}"] = name, probability
    for kind in {row["truth"] for row in rows} - {None}:
        lacking = name_defects(without(library, kind), *told)
        for number, row in enumerate(rows):
            if row["truth"] == kind:
                row["lacking"], row["p_lacking"] = lacking.ranked(number, 0)
    return rows


def without(library: DefectLibrary, kind: str) -> DefectLibrary:
    """The same library less one kind."""
    kept = [i for i, name in enumerate(library.names) if name != kind]
    return replace(library, names=tuple(library.names[i] for i in kept), scans=tuple(library.scans[i] for i in kept))


def apart(first: str, second: str, dose: float) -> float:
    """Standard deviations of the raw counts between the expectations of two defects in one place."""
    one, other = (
        np.asarray(
            simulate(
                structure=f"graphene-{kind}",
                scan_shape=(_N, _N),
                scan_extent=(_N * STEP, _N * STEP),
                progress=False,
            ).data
        )
        for kind in (first, second)
    )
    return float(np.sqrt(dose * ((one - other) ** 2 / np.maximum((one + other) / 2, 1e-12)).sum()))


def tables(cells: list[dict[str, Any]], bounds: list[dict[str, Any]]) -> str:
    """Reliability, names by dose and without the kind, names by strength, confusions, and pairs beside their bound."""
    rows = [row | {"dose": cell["dose"]} for cell in cells for row in cell["rows"]]
    lines = ["| probability said | names | right | said, mean |", "|---|---|---|---|"]
    for low, high in pairwise(LEVELS):
        inside = [row for row in rows if low <= row["p"] < high or row["p"] == high == 1]
        if inside:
            right, said = (np.mean(v) for v in zip(*((is_right(row), row["p"]) for row in inside), strict=True))
            lines.append(f"| {low:g} to {high:g} | {len(inside)} | {100 * right:.0f} % | {100 * said:.0f} % |")
    lines += [
        "",
        "| electrons | found | of them none | right name | its probability, mean | kind lacking: none of these |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for dose in sorted({row["dose"] for row in rows}, reverse=True):
        of_dose = [row for row in rows if row["dose"] == dose]
        known = [row for row in of_dose if row["truth"]]
        right, said = (100 * np.mean([value(row) for row in known]) for value in (is_right, lambda row: row["p"]))
        lines.append(
            f"| {dose:,.0f} | {len(of_dose)} | {len(of_dose) - len(known)} | {right:.1f} % | {said:.1f} % "
            f"| {sum(row['lacking'] == UNKNOWN for row in known)} of {len(known)} |"
        )
    lines += ["", *by_strength(rows)]
    lines += [
        "",
        "| is | called, all doses | called without its kind in the library, 100,000 electrons |",
        "|---|---|---|",
    ]
    for kind in sorted({row["truth"] for row in rows if row["truth"]}):
        of_kind = [row for row in rows if row["truth"] == kind]
        bright = [row for row in of_kind if row["dose"] == max(DOSES)]
        lines.append(f"| {kind} | {counted(of_kind, 'name')} | {counted(bright, 'lacking')} |")
    lines += ["", "| pair | electrons | told apart | at best | standard deviations |", "|---|---|---|---|---|"]
    for bound in bounds:
        pair = bound["pair"]
        of_pair = [row for row in rows if row["dose"] == bound["dose"] and row["truth"] in pair]
        right = f"{sum(is_right(row) for row in of_pair)} of {len(of_pair)}" if of_pair else ""
        best = 100 * special.ndtr(bound["apart"] / 2)
        lines.append(f"| {' and '.join(pair)} | {bound['dose']:,.0f} | {right} | {best:.1f} % | {bound['apart']:.1f} |")
    return "\n".join(lines)


def by_strength(rows: list[dict[str, Any]]) -> list[str]:
    """Right names of those that compare strengths alone beside ours, by dose, and how right their odds are."""
    doses = sorted({row["dose"] for row in rows}, reverse=True)
    columns = [*(f"right at {dose:,.0f}" for dose in doses), "right, all", "said, mean", "said 90 % or more: right"]
    lines = [f"| names by | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for key, words in (("name", "patterns"), *STRENGTHS.items()):
        said = "p" if key == "name" else f"p_{key}"
        shares = [np.mean([is_right(row, key) for row in rows if row["dose"] == dose]) for dose in doses]
        shares += [np.mean([is_right(row, key) for row in rows]), np.mean([row[said] for row in rows])]
        sure = [is_right(row, key) for row in rows if row[said] >= _SURE]
        cells = [f"{100 * share:.0f} %" for share in shares] + [f"{sum(sure)} of {len(sure)}"]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def is_right(row: dict[str, Any], key: str = "name") -> bool:
    return bool(row[key] == (row["truth"] or UNKNOWN))


def counted(rows: list[dict[str, Any]], key: str) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(row[key] for row in rows).most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two scenes at two doses, printed only")
    parser.add_argument("--minutes", type=float, default=35.0, help="start no cell that would end later")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "odds")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    kinds = [scene for scene in scenes(6, 0) if scene.family == "broken"]
    alike = [Scene(f"alike-{seed}", seed, ALIKE) for seed in range(900, 903)]
    todo = [(scene, dose) for scene in kinds + alike for dose in DOSES]
    if chosen.quick:
        todo = [(scene, dose) for scene in (kinds[0], alike[0]) for dose in DOSES[1:3]]
    started, cells = time.perf_counter(), []
    for number, (scene, dose) in enumerate(todo, 1):
        place = chosen.work / f"{scene.name}-{dose:.0f}.json"
        if not place.exists():
            if time.perf_counter() - started > 60 * chosen.minutes - 30:
                sys.exit(f"time is up: {len(todo) - number + 1} scans are left; the same command goes on with them")
            rows = named(scene, dose, chosen.work / "data")
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json({"scene": scene.name, "dose": dose, "rows": rows}, place)
            print(f"{number} of {len(todo)}: {scene.name}, {dose:,.0f} electrons", file=sys.stderr, flush=True)
        cells.append(json.loads(place.read_text(encoding="utf-8")))
    bounds = [
        {"pair": list(pair), "dose": dose, "apart": apart(*pair, dose)}
        for pair in (PAIRS[:1] if chosen.quick else PAIRS)
        for dose in (DOSES[1:3] if chosen.quick else DOSES)
    ]
    if not chosen.quick:
        write_json({"machine": machine(), "cells": cells, "bounds": bounds}, chosen.output)
    print(tables(cells, bounds))


if __name__ == "__main__":
    main()
