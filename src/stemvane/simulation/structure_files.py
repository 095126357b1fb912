"""Structures from files that others write, read by ASE."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from stemvane.errors import FileFormatError
from stemvane.extras import require_package
from stemvane.simulation.scattering import known_elements
from stemvane.simulation.structures import EXTRA, SIMULATING
from stemvane.specimens import STRUCTURE_FILES

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["checked_structure", "read_structure"]

# a million atoms, whose text has some 50 MB, are more than fit a supercell
_MOST_BYTES = 100 * 2**20
# 0.5 Å: nearer than any bond, the 0.74 Å of hydrogen among them
_CLOSEST = 0.5
# pairs are not looked at in larger files, which are supercells of millions of Å
_MOST_ATOMS = 20000


def read_structure(path: str | Path) -> Atoms:
    """Read the first structure of a file.

    Parameters
    ----------
    path : str or Path
        CIF (.cif), XYZ (.xyz) or extended XYZ (.extxyz, .xyz). Other formats of ASE, some of which can hold code, are
        not read.

    Returns
    -------
    ase.Atoms
        Elements, positions, cell and periodicity alone.

    Raises
    ------
    FileFormatError
        If the file is missing or damaged, or holds no structure that can be simulated.
    MissingPackageError
        If ASE is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in STRUCTURE_FILES:
        raise FileFormatError(f"{path}: structures are read from {', '.join(STRUCTURE_FILES)}; convert it to one")
    if not path.is_file():
        raise FileFormatError(f"{path}: there is no such file; check the path of the structure")
    with require_package(SIMULATING, EXTRA):
        from ase.io import read
    if path.stat().st_size > _MOST_BYTES:
        raise FileFormatError(f"{path}: more than {_MOST_BYTES // 2**20} MB of text is no unit cell; give one cell")
    kind = "cif" if path.suffix.lower() == ".cif" else "extxyz"
    try:
        with warnings.catch_warnings(), path.open(encoding="utf-8") as file:
            warnings.simplefilter("ignore")
            if kind == "extxyz":
                _require_lines(file)
            atoms = read(file, index=0, format=kind)
    except Exception as error:  # the readers raise whatever a damaged line happens to raise
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FileFormatError(f"{path}: cannot be read as {kind.upper()} ({reason}); check the file") from None
    assert not isinstance(atoms, list)  # one image is asked for
    return checked_structure(atoms, str(path))


def _require_lines(file: TextIO) -> None:
    """Raise ValueError where an XYZ file counts more atoms than it has lines; ASE reads on past its end for each."""
    count = int(file.readline())
    n_lines = sum(1 for _ in file)
    if n_lines < count + 1:
        raise ValueError(f"{count} atoms are announced, and {max(n_lines - 1, 0)} lines follow")
    file.seek(0)


def checked_structure(atoms: Atoms, name: str) -> Atoms:
    """What concerns a simulation of a structure, where it can be simulated.

    Parameters
    ----------
    atoms : ase.Atoms
        Atoms of any source.
    name : str
        What messages call it.

    Returns
    -------
    ase.Atoms
        Elements, positions, cell and periodicity alone.

    Raises
    ------
    FileFormatError
        If there are no atoms, or elements, positions or cell cannot be those of a specimen.
    """
    from ase import Atoms

    positions, cell, pbc = np.asarray(atoms.positions, float), np.asarray(atoms.cell.array, float), atoms.pbc
    if not len(atoms):
        raise FileFormatError(f"{name}: there are no atoms; check the file")
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise FileFormatError(f"{name}: a position or the cell is not finite; check the file")
    unknown = sorted(set(atoms.symbols) - known_elements())
    if unknown:
        raise FileFormatError(f"{name}: how '{unknown[0]}' scatters electrons is not known; give atoms of elements")
    occupancy = atoms.info.get("occupancy") or {}
    if any(len(site) > 1 or min(site.values()) < 1 for site in occupancy.values()):
        raise FileFormatError(
            f"{name}: some sites are occupied in part; give an ordered supercell in which each has one atom or none"
        )
    if pbc.any():
        along = cell[pbc]
        volume = np.sqrt(max(np.linalg.det(along @ along.T), 0.0))
        if not volume > 0.01 * np.prod(np.linalg.norm(along, axis=1)) or np.linalg.norm(along, axis=1).min() < 1:
            raise FileFormatError(f"{name}: its cell {np.round(cell, 3).tolist()} Å spans no volume; check the file")
    plain = Atoms(atoms.numbers, positions=positions, cell=cell, pbc=pbc)
    if len(plain) <= _MOST_ATOMS:
        from ase.neighborlist import neighbor_list

        close = neighbor_list("d", plain, _CLOSEST)
        if len(close):
            raise FileFormatError(f"{name}: two atoms are {close.min():.2g} Å apart; check positions and cell")
    return plain
