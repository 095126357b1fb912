"""Relax the defects of graphene by GFN1-xTB and write them into src/stemvane/simulation/geometries.

Run as ``python docs/make_geometries.py [NAME ...]``, with ``pip install 'stemvane[structures]'``; some minutes a
defect on one core. ``--unrelaxed`` writes the starting geometries, ``--cells 12x6`` uses a larger supercell, and
``--output`` writes to another folder, to see what the supercell does.

Each defect lies in the middle of a flat, periodic supercell of graphene of the lattice constant that GFN1-xTB itself
prefers there; what is found is stretched to the lattice constant of graphite. tblite knows the Γ point only, so the
supercell must be large: 9 by 5 cells hold the Dirac points, and their pristine sheet is the one with the least force.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from stemvane.errors import MissingPackageError
from stemvane.extras import require_package
from stemvane.simulation.structures import graphene

FOLDER = Path(__file__).parent.parent / "src" / "stemvane" / "simulation" / "geometries"
A = 2.46
BOND = A / math.sqrt(3)
HEIGHT = 10.0
SMALL = (6, 4)
LARGEST_FORCE = 0.03
SPIN = {
    "vacancy": {"multiplicity": 3, "spin_polarization": 1.0, "mixer_damping": 0.2, "electronic_temperature": 1000.0}
}
"""The bare vacancy is a triplet (Casartelli and others, Phys. Rev. B 88, 195424 (2013)); the others are unpolarised.
With spin the cycles do not come to rest without damping and some more temperature than tblite's 300 K."""
SITE, MIDDLE_OF_BOND, HEXAGON = (0.0, BOND), (0.0, 1.5 * BOND), (0.0, 0.0)


def pristine(cells: tuple[int, int], centre: tuple[float, float]) -> Atoms:
    """Supercell with the point `centre` of the lattice in the origin and its atoms about it."""
    sheet = graphene((cells[1] * 3 * BOND - 0.1, cells[0] * A - 0.1), vacuum=HEIGHT)
    size = sheet.cell.lengths()
    moved = sheet.positions - [*centre, HEIGHT]
    moved[:, :2] -= size[:2] * np.round(moved[:, :2] / size[:2] - 1e-6)
    sheet.positions = moved
    sheet.set_array("site", moved[:, :2].copy())
    return sheet


def nearest(sheet: Atoms, x: float, y: float) -> int:
    """Index of the atom whose site is nearest to a point."""
    return int(np.linalg.norm(sheet.get_array("site") - (x, y), axis=1).argmin())


def substituted(*elements: str, height: float = 0.0) -> Callable[[Atoms], list[int]]:
    """An element in the origin, or two on sites above and below it."""

    def change(sheet: Atoms) -> list[int]:
        radii = np.linalg.norm(sheet.get_array("site"), axis=1)
        places = np.lexsort((sheet.get_array("site")[:, 1], np.abs(sheet.get_array("site")[:, 0]), radii.round(3)))
        if len(elements) == 2:
            places = [i for i in places if abs(sheet.get_array("site")[i, 0]) < 0.1]
        for index, element in zip(places, elements, strict=False):
            sheet.symbols[index] = element
            sheet.positions[index, 2] += height
        # a dome about a large atom, whose neighbours are drawn up and pushed out
        distance = np.linalg.norm(sheet.get_array("site"), axis=1)[:, None]
        dome = 0.3 * height * np.exp(-((distance / 3) ** 2))
        sheet.positions[:, 2:] += dome
        sheet.positions[:, :2] += 0.2 * dome * sheet.get_array("site") / np.maximum(distance, 1)
        return [int(i) for i in places[: len(elements)]]

    return change


def vacancy(sheet: Atoms) -> list[int]:
    """The two neighbours to the sides are drawn together, as they will bond."""
    for side in (-1, 1):
        sheet.positions[nearest(sheet, side * A / 2, -BOND / 2), 0] -= side * 0.2
    return [nearest(sheet, 0, 0)]


def divacancy(sheet: Atoms) -> list[int]:
    """Two pairs are drawn together, for two pentagons."""
    for side in (-1, 1):
        for end in (-1, 1):
            sheet.positions[nearest(sheet, side * A / 2, end * BOND), 0] -= side * 0.25
    return [nearest(sheet, 0, -BOND / 2), nearest(sheet, 0, BOND / 2)]


def silicon_in_divacancy(sheet: Atoms) -> list[int]:
    """One atom in the place of two."""
    places = [nearest(sheet, 0, -BOND / 2), nearest(sheet, 0, BOND / 2)]
    sheet.symbols[places[0]] = "Si"
    sheet.positions[places[0]] = 0
    return places


def stone_wales(sheet: Atoms) -> list[int]:
    """A bond rotated by 90°."""
    places = [nearest(sheet, 0, -BOND / 2), nearest(sheet, 0, BOND / 2)]
    for end, index in zip((-1, 1), places, strict=True):
        sheet.positions[index] = (end * 0.66, 0, 0)
        for side in (-1, 1):  # the four bonds that stay
            sheet.positions[nearest(sheet, side * A / 2, end * BOND), :2] += (side * 0.05, end * 0.05)
    return places


# kind: centre of the defect, what is changed, how many of the changed sites are empty, from the last one
DEFECTS: dict[str, tuple[tuple[float, float], Callable[[Atoms], list[int]], int]] = {
    "N": (SITE, substituted("N"), 0),
    "B": (SITE, substituted("B"), 0),
    "P": (SITE, substituted("P", height=1.1), 0),
    "Si-C3": (SITE, substituted("Si", height=1.2), 0),
    "Si-C4": (MIDDLE_OF_BOND, silicon_in_divacancy, 1),
    "vacancy": (SITE, vacancy, 1),
    "divacancy": (MIDDLE_OF_BOND, divacancy, 2),
    "stone-wales": (MIDDLE_OF_BOND, stone_wales, 0),
    "N-N-ortho": (MIDDLE_OF_BOND, substituted("N", "N"), 0),
    "N-N-para": (HEXAGON, substituted("N", "N"), 0),
}
NAMES = [*DEFECTS, "zigzag-edge", "armchair-edge"]


def start(name: str, cells: tuple[int, int]) -> Atoms:
    """Starting geometry; ``info`` holds the sites that are changed and a hexagon's centre."""
    centre, change, n_empty = DEFECTS[name]
    sheet = pristine(cells, centre)
    places = change(sheet)
    sheet.info = {"defect": name, "sites": sheet.get_array("site")[places].tolist(), "hexagon": [-c for c in centre]}
    del sheet[places[len(places) - n_empty :]]
    return sheet


def ribbon(kind: str) -> Atoms:
    """A ribbon of graphene with bare edges, nine cells of a or five of √3 a long."""
    axis = ("zigzag", "armchair").index(kind) ^ 1
    sheet = graphene((12.5 * BOND, 9 * A - 0.1) if axis else (15 * BOND - 0.1, 7 * A), vacuum=HEIGHT)
    across = sheet.positions[:, axis]
    first, last = (2 * BOND, 10 * BOND) if axis else (0.0, 5.5 * A)
    sheet = sheet[(across > first - 0.01) & (across < last + 0.01)]
    edge = sheet.positions[sheet.positions[:, axis] < first + 0.01]
    sheet.positions -= edge[edge[:, 1 - axis].argmin()]
    sheet.set_array("site", sheet.positions[:, :2].copy())
    size = sheet.cell.lengths()
    size[axis] = last - first + 12
    sheet.set_cell(size)
    sheet.info = {"defect": f"{kind}-edge"}
    return sheet


def edge_of(found: Atoms, kind: str) -> Atoms:
    """One period of the first half of a relaxed ribbon, the mean over its equivalent atoms."""
    axis = ("zigzag", "armchair").index(kind) ^ 1
    period = 3 * BOND if axis == 0 else A
    sites, shifts = found.get_array("site"), found.positions - np.pad(found.get_array("site"), ((0, 0), (0, 1)))
    middle = sites[:, axis].max() / 2
    inner = np.abs(sites[:, axis] - middle) < 2
    shifts = shifts - shifts[inner].mean(axis=0)
    along = np.round(sites[:, 1 - axis] % period, 3) % round(period, 3)
    half = found[(sites[:, axis] < middle) & (sites[:, 1 - axis] > -0.01) & (sites[:, 1 - axis] < period - 0.01)]
    for index, site in enumerate(half.get_array("site")):
        gap = np.abs((along - site[1 - axis] + period / 2) % period - period / 2)
        same = (gap < 0.01) & (np.abs(sites[:, axis] - site[axis]) < 0.01)
        half.positions[index] = np.array([*site, 0.0]) + shifts[same].mean(axis=0)
    size = found.cell.lengths()
    size[1 - axis] = period
    half.set_cell(size)
    half.info = found.info
    return half


def calculator(**settings: Any) -> Any:
    """GFN1-xTB as a calculator of ASE."""
    with require_package("relaxing a defect", "stemvane[structures]"):
        from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", verbosity=0, accuracy=1.0, max_iterations=500, **settings)


def lattice_constant(cells: tuple[int, int]) -> float:
    """Minimum of the energy of the pristine supercell."""
    tried, energies = np.linspace(A - 0.015, A + 0.015, 4), []
    for a in tried:
        sheet = pristine(cells, HEXAGON)
        sheet.set_cell(sheet.cell[:] * [[a / A], [a / A], [1]], scale_atoms=True)
        sheet.calc = calculator()
        energies.append(sheet.get_potential_energy())
    curvature, slope, _ = np.polyfit(tried - A, energies, 2)
    return float(A - slope / (2 * curvature))


def relaxed(sheet: Atoms, a: float) -> Atoms:
    """Relax at the lattice constant `a`, stretch to that of graphite, and put the far sheet to z = 0."""
    from ase.optimize.precon import Exp, PreconLBFGS

    moved = sheet.copy()
    moved.set_cell(moved.cell[:] * [[a / A], [a / A], [1]])
    moved.positions[:, :2] *= a / A
    moved.calc = calculator(**SPIN.get(sheet.info["defect"], {}))
    # (preconditioned with the bonds' stiffness, which saves nine of ten steps)
    steps = PreconLBFGS(moved, precon=Exp(A=3), use_armijo=False, maxstep=0.15, logfile="-")
    if not steps.run(fmax=LARGEST_FORCE, steps=150):
        sys.exit(f"{sheet.info['defect']}: not relaxed after 150 steps; start it from a better geometry")
    largest = float(np.linalg.norm(moved.get_forces(), axis=1).max())
    moved.info["relaxation"] = f"GFN1-xTB, a {a:.4f}, largest force {largest:.3f} eV per angstrom"
    moved.calc = None
    far = np.linalg.norm(moved.get_array("site"), axis=1) > 8
    moved.set_cell(sheet.cell)
    moved.positions[:, :2] *= A / a
    if "hexagon" not in sheet.info:
        return moved
    moved.positions -= (moved.positions - np.pad(moved.get_array("site"), ((0, 0), (0, 1))))[far].mean(axis=0)
    return moved


def transplanted(small: Atoms, large: Atoms) -> Atoms:
    """A starting geometry with the relaxation of a smaller supercell in its middle."""
    found = large.copy()
    sites, shifts = small.get_array("site"), small.positions - np.pad(small.get_array("site"), ((0, 0), (0, 1)))
    half = small.cell.lengths()[:2] / 2
    for index, site in enumerate(large.get_array("site")):
        share = np.prod(np.cos(math.pi / 2 * np.clip((np.abs(site) / half - 0.6) / 0.4, 0, 1)) ** 2)
        if share > 0:
            same = int(np.linalg.norm(sites - site, axis=1).argmin())
            found.positions[index] = [*site, 0] + share * shifts[same]
    return found


def main() -> None:
    """Relax what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--unrelaxed", action="store_true")
    parser.add_argument("--cells", default="9x5")
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    x, y = (int(n) for n in options.cells.split("x"))
    options.output.mkdir(parents=True, exist_ok=True)
    a = A if options.unrelaxed else lattice_constant((x, y))
    sys.stdout.write(f"lattice constant {a:.4f} in {x} x {y} cells\n")
    for name in options.names:
        kind = name.removesuffix("-edge")
        sheet = ribbon(kind) if kind != name else start(name, (x, y))
        if not options.unrelaxed:
            if "hexagon" in sheet.info:  # most of the way in a small supercell, which is ten times as fast
                sheet = transplanted(relaxed(start(name, SMALL), a), sheet)
            sheet = relaxed(sheet, a)
        sheet = edge_of(sheet, kind) if kind != name else sheet
        path = options.output / f"{name}.xyz"
        write(path, sheet, format="extxyz", columns=["symbols", "positions", "site"])
        sys.stdout.write(f"{path}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except MissingPackageError as error:
        sys.exit(str(error))
