"""Defects from a folder of structures: each moved from its own supercell into the middle of the perfect host."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemvane.data.specimen import ScanDefects
from stemvane.errors import FileFormatError
from stemvane.simulation.relaxed_defects import fade
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.structure_files import read_structure
from stemvane.simulation.structures import SHEETS
from stemvane.simulation.supercells import align_zone_axis, shortest_vectors
from stemvane.specimens import STRUCTURE_FILES, is_structure_file

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["PRISTINE", "DefectFolder", "Host", "embed_defect", "read_defect_folder"]

Floats = NDArray[np.float64]
_Whole = NDArray[np.int64]

PRISTINE = "pristine"
"""Name of the file that holds the host without a defect."""

# 4 %: by how much a supercell's lattice constants may differ from the host's; functionals differ by 2 %
_MOST_STRAIN = 0.04
# 0.7 Å, half of a bond of graphene: an atom farther from the nearest site of its element has left its site; along the
# beam twice as far, since a sheet bends by 1 Å around silicon and planes of a dichalcogenide are 3 Å apart
_OFF_SITE, _ALONG_BEAM = 0.7, 0.5
# half of a supercell's sites: where fewer have their atom the crystal is another one, or seen from another side
_LEAST_MATCHED = 0.5
# 0.8 of the atoms of a folder's files are of a host's elements; the rest are the defects'
_LEAST_SHARE = 0.8
# the relaxation is kept on 0.6 of the radius of the largest circle in the supercell, 10 Å at most, and fades out to
# its rim, as that of stored defects does from 6 to 10 Å
_WHOLE_SHARE, _FARTHEST = 0.6, 10.0
# 300 Å, ten times what relaxes around a defect: supercells of the host are counted out, which grows with the square
_LONGEST = 300.0
# 12 atoms are tried as one that lies on a site, as most of a supercell's do
_N_TRIED = 12


class DefectFolder(NamedTuple):
    """What a folder of structures holds.

    Attributes
    ----------
    host : str
        What the host is called: the folder's name, or that of a built-in sheet.
    pristine : ase.Atoms
        A cell of the host.
    defects : mapping of str to ase.Atoms
        A supercell with one defect for each name.
    """

    host: str
    pristine: Atoms
    defects: Mapping[str, Atoms]


def read_defect_folder(folder: str | Path) -> DefectFolder:
    """Read the structure files of a folder, each of which holds one defect and is called as its kind.

    The file ``pristine`` holds the perfect host. Where there is none, the host is the built-in sheet of those elements
    that nearly all atoms of the files are of.

    Parameters
    ----------
    folder : str or Path
        Folder with CIF, XYZ or extended XYZ files.

    Returns
    -------
    DefectFolder

    Raises
    ------
    FileFormatError
        If the folder is missing or holds no defect, two files have one name, a file cannot be read or is not periodic
        across the beam, or the host is not known.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileFormatError(f"{folder}: there is no such folder; check the path of the library")
    paths = sorted(path for path in folder.iterdir() if is_structure_file(path.name))
    names = [path.stem for path in paths]
    if not set(names) - {PRISTINE}:
        raise FileFormatError(
            f"{folder}: there is no structure of a defect ({', '.join(STRUCTURE_FILES)}), nor a stored library; give a "
            "folder with one file for each kind, called as the kind"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FileFormatError(f"{folder}: two files are called '{twice}'; keep one of them")
    structures = {path.stem: _seen_from_above(read_structure(path), path) for path in paths}
    pristine = structures.pop(PRISTINE, None)
    if pristine is not None:
        return DefectFolder(folder.resolve().name, pristine, structures)
    elements = [symbol for atoms in structures.values() for symbol in atoms.symbols]
    for host, sheet in SHEETS.items():
        cell = sheet((1.0, 1.0))
        shares = [elements.count(symbol) / len(elements) for symbol in set(cell.symbols)]
        if sum(shares) >= _LEAST_SHARE and min(shares) > (1 - _LEAST_SHARE) / 2:
            cell.pbc = (True, True, False)
            return DefectFolder(host, cell, structures)
    raise FileFormatError(
        f"{folder}: the host is none of {', '.join(SHEETS)}; add the perfect host as '{PRISTINE}{STRUCTURE_FILES[0]}'"
    )


def _seen_from_above(atoms: Atoms, path: Path) -> Atoms:
    """The cell with the beam along z, cut along it where that is emptiest."""
    if not atoms.pbc[:2].all():
        raise FileFormatError(
            f"{path}: it is not periodic along its first two axes; give a supercell with its cell, as CIF and extended "
            "XYZ have it"
        )
    if atoms.pbc[2]:
        atoms = align_zone_axis(atoms, (0, 0, 1))
    if np.abs(atoms.cell.array[:2, 2]).max() > 0.01:
        raise FileFormatError(f"{path}: its first two cell vectors are not across the beam; give the sheet across z")
    if atoms.pbc[2]:
        depth = float(atoms.cell.array[2, 2])
        levels = np.sort(atoms.positions[:, 2] % depth)
        gaps = np.diff(np.append(levels, levels[0] + depth))
        cut = levels[int(gaps.argmax())] + gaps.max() / 2
        atoms.positions[:, 2] = (atoms.positions[:, 2] - cut) % depth
    return atoms


@dataclass(frozen=True, eq=False)
class Host:
    """A perfect host that fills a supercell.

    Attributes
    ----------
    atoms : ase.Atoms
        The supercell.
    vectors : ndarray of float, shape (2, 2)
        The shortest two lattice vectors ``(x, y)`` in Å across the beam.
    basis : ndarray of float, shape (n, 3)
        Atoms of the primitive cell.
    numbers : ndarray of int, shape (n,)
        Their atomic numbers.
    """

    atoms: Atoms
    vectors: Floats
    basis: Floats
    numbers: _Whole

    @classmethod
    def of(cls, name: str, cell: Atoms, extent: tuple[float, float], scan_extent: tuple[float, float]) -> Host:
        """Fill a supercell of at least ``extent`` (y, x) in Å, whose corner is the scan's.

        Raises
        ------
        FileFormatError
            If the cell has no two periods across the beam.
        """
        aligned = align_zone_axis(cell, (0, 0, 1)) if cell.pbc.all() else cell
        vectors = shortest_vectors(aligned)
        if vectors is None:
            raise FileFormatError(f"{name}: the host is not periodic across the beam; give its unit cell")
        atoms = build_structure(cell, extent, scan_extent=scan_extent)[0]
        at = atoms.positions[:, :2] @ np.linalg.inv(vectors)
        folded = np.column_stack([(at + 1e-3) % 1.0 @ vectors, atoms.positions[:, 2], atoms.numbers])
        first = np.unique(np.round(folded + 1.7e-4, 2), axis=0, return_index=True)[1]
        return cls(atoms, vectors, atoms.positions[first], atoms.numbers[first].astype(np.int64))

    @property
    def n_rotations(self) -> int:
        """Rotations that map the lattice onto itself: 6 of a hexagonal one, 4 of a square one, else 2."""
        a, b = self.vectors
        lengths = np.linalg.norm(self.vectors, axis=1)
        if lengths.max() > 1.01 * lengths.min():
            return 2
        cosine = abs(float(a @ b)) / np.prod(lengths)
        return 6 if abs(cosine - 0.5) < 0.01 else 4 if cosine < 0.01 else 2

    def sites(self, positions: Floats, numbers: _Whole) -> tuple[_Whole, Floats]:
        """Nearest site of each atom's own element.

        Returns
        -------
        sites : ndarray of int, shape (n, 3)
            Number in the basis, -1 where the host lacks the element, and the cell along both vectors.
        displacement : ndarray of float, shape (n, 3)
            From the site to the atom, infinite where there is none.
        """
        found = np.full((len(positions), 3), -1)
        displacement = np.full((len(positions), 3), np.inf)
        inverse = np.linalg.inv(self.vectors)
        for number, (site, element) in enumerate(zip(self.basis, self.numbers, strict=True)):
            off = positions - site
            cell = np.round(off[:, :2] @ inverse).astype(np.int64)
            off[:, :2] -= cell @ self.vectors
            nearer = (numbers == element) & (np.linalg.norm(off, axis=1) < np.linalg.norm(displacement, axis=1))
            found[nearer] = np.column_stack([np.full(len(cell), number), cell])[nearer]
            displacement[nearer] = off[nearer]
        return found, displacement

    def positions(self, sites: _Whole) -> Floats:
        """Positions ``(x, y, z)`` in Å of sites, shape ``(n, 3)``."""
        result: Floats = self.basis[sites[:, 0]].copy()
        result[:, :2] += sites[:, 1:] @ self.vectors
        return result


@dataclass(frozen=True, eq=False)
class _Registered:
    """A supercell in the frame of the host.

    `periods` are its vectors in those of the host, `positions` and `symbols` those of atoms on no site, `empty` the
    sites without an atom, and `occupied` the displacement of the atom of every other site of one period.
    """

    periods: _Whole
    positions: Floats
    symbols: tuple[str, ...]
    empty: _Whole
    occupied: Mapping[tuple[int, ...], Floats]


def embed_defect(name: str, supercell: Atoms, host: Host, middle: tuple[float, float]) -> tuple[Atoms, ScanDefects]:
    """Put the defect of a periodic supercell into a larger one of the host, where it is alone.

    The supercell is rotated, moved and strained until most of its atoms lie on sites of the host; what does not is the
    defect. Around it atoms are displaced as in the supercell, which fades out towards the supercell's border.

    Parameters
    ----------
    name : str
        Name of the defect, and in messages.
    supercell : ase.Atoms
        A supercell with one defect.
    host : Host
        Where it is put.
    middle : tuple of float
        Position ``(y, x)`` in Å to which the defect is as near as the lattice lets it.

    Returns
    -------
    atoms : ase.Atoms
        The host with the defect.
    defects : ScanDefects
        The defect; its sites are those that are empty or have another element, of an adatom its own place.

    Raises
    ------
    FileFormatError
        If the supercell's lattice is not the host's, or it holds no defect or several.
    """
    registered = _register(name, supercell, host)
    vectors = registered.periods @ host.vectors
    n_empty = len(registered.empty)
    parts = np.concatenate([host.positions(registered.empty), registered.positions])
    if not len(parts):
        raise FileFormatError(f"{name}: every atom is on a site of the host, so there is no defect; leave the file out")
    of_truth = slice(n_empty) if n_empty else slice(None)
    parts[:, :2] = _nearest_images(parts[:, :2], parts[0, :2], vectors)
    centre = parts[of_truth, :2].mean(axis=0)
    parts[:, :2] = _nearest_images(parts[:, :2], centre, vectors)
    radius, spread = _inscribed_radius(vectors), float(np.linalg.norm(parts[:, :2] - centre, axis=1).max())
    if spread > _WHOLE_SHARE * radius:
        raise FileFormatError(
            f"{name}: parts of the defect are {spread:.3g} Å from its middle, and half of its supercell's width is "
            f"{radius:.3g} Å; give a larger supercell with one defect"
        )
    # by whole cells of the host to the middle of the scan
    moved = _nearest_images(centre[None], np.array(middle[::-1]), host.vectors)[0]
    cells = np.round((moved - centre) @ np.linalg.inv(host.vectors)).astype(np.int64)
    parts[:, :2] += cells @ host.vectors
    atoms = host.atoms.copy()
    off = _nearest_images(atoms.positions[:, :2], moved, atoms.cell.array[:2, :2]) - moved
    distance = np.linalg.norm(off, axis=1)
    near = np.flatnonzero(distance < radius)
    sites = host.sites(np.column_stack([moved + off, atoms.positions[:, 2]])[near], atoms.numbers[near])[0]
    reach = min(radius, _FARTHEST)
    share = fade(distance[near], _WHOLE_SHARE * reach, reach)
    removed = []
    for i, kept, key in zip(near, share, _folded(sites - [0, *cells], registered.periods), strict=True):
        if key in registered.occupied:
            atoms.positions[i] += kept * registered.occupied[key]
        else:
            removed.append(i)
    del atoms[removed]
    for symbol, position in zip(registered.symbols, parts[n_empty:], strict=True):
        atoms.append(symbol)
        atoms.positions[-1] = position
    atoms.info.pop("n_cells", None)  # its cells are no longer alike
    atoms.pbc = (True, True, False)
    changed = parts[of_truth, 1::-1].copy()
    centres, owners = moved[None, ::-1].copy(), np.zeros(len(changed), np.int64)
    return atoms, ScanDefects((name,), centres, np.zeros(1), np.zeros(1, bool), changed, owners)


def _register(name: str, supercell: Atoms, host: Host) -> _Registered:
    """Find where a supercell's atoms belong in the host: most of them on its sites."""
    own = supercell.cell.array[:2, :2]
    if np.linalg.norm(own, axis=1).max() > _LONGEST:
        raise FileFormatError(
            f"{name}: its supercell is larger than {_LONGEST:g} Å; give a smaller one with one defect, in Å"
        )
    numbers = supercell.numbers.astype(np.int64)
    possible = np.flatnonzero(np.isin(numbers, host.numbers))
    tried = possible[np.unique(np.linspace(0, len(possible) - 1, _N_TRIED).astype(int))] if len(possible) else possible
    best, chosen = (0, 0.0, 0.0), None
    for periods, strain in _possible_periods(own, host.vectors):
        strained = supercell.positions.copy()
        strained[:, :2] = strained[:, :2] @ np.linalg.inv(own) @ periods @ host.vectors
        for i in tried:
            for site in host.basis[host.numbers == numbers[i]]:
                at = strained + (site - strained[i])
                distance = _off_site(host.sites(at, numbers)[1])
                on_site = distance < _OFF_SITE
                score = (int(on_site.sum()), -round(float(distance[on_site].mean()), 3), -strain)
                if score > best:
                    best, chosen = score, (periods, at)
    n_sites = 0 if chosen is None else abs(round(float(np.linalg.det(chosen[0])))) * len(host.basis)
    if chosen is None or best[0] < _LEAST_MATCHED * n_sites:
        raise FileFormatError(
            f"{name}: no supercell of the host has its cell of {np.linalg.norm(own[0]):.3g} by "
            f"{np.linalg.norm(own[1]):.3g} Å with most atoms on their sites; its host is another one, or it is seen "
            "from another side"
        )
    periods, positions = chosen
    displacement = host.sites(positions, numbers)[1]
    # the atom that was laid on a site may itself be displaced
    positions = positions - np.median(displacement[_off_site(displacement) < _OFF_SITE], axis=0)
    sites, displacement = host.sites(positions, numbers)
    distance = _off_site(displacement)
    occupied: dict[tuple[int, ...], Floats] = {}
    foreign = []
    keys = _folded(sites, periods)
    for i in np.argsort(distance):
        if distance[i] < _OFF_SITE and keys[i] not in occupied:
            occupied[keys[i]] = displacement[i]
        else:
            foreign.append(i)
    span = range(-int(np.abs(periods).sum()), int(np.abs(periods).sum()) + 1)
    grid = np.array([(0, *cell) for cell in itertools.product(span, span)])
    first = np.unique(np.array(_folded(grid, periods))[:, 1:], axis=0)
    every = [(number, *cell) for number in range(len(host.basis)) for cell in first.tolist()]
    empty = np.array([site for site in every if site not in occupied], np.int64).reshape(-1, 3)
    symbols = tuple(supercell.symbols[i] for i in foreign)
    return _Registered(periods, positions[foreign].reshape(-1, 3), symbols, empty, occupied)


def _off_site(displacement: Floats) -> Floats:
    """How far atoms are from their sites in Å, less along the beam."""
    return np.asarray(np.linalg.norm(displacement * [1, 1, _ALONG_BEAM], axis=1))


def _possible_periods(own: Floats, vectors: Floats) -> Iterator[tuple[_Whole, float]]:
    """Supercells of the host that have nearly these vectors after a rotation, and their strain."""
    length = np.linalg.norm(own[0])
    n = int(1.1 * length / _inscribed_radius(vectors)) + 1
    whole = np.array(list(itertools.product(range(-n, n + 1), repeat=2)))
    first = whole @ vectors
    for cell, vector in zip(whole, first, strict=True):
        if abs(np.linalg.norm(vector) / length - 1) > _MOST_STRAIN:
            continue
        angle = np.arctan2(vector[1], vector[0]) - np.arctan2(own[0, 1], own[0, 0])
        cosine, sine = np.cos(angle), np.sin(angle)
        second = own[1] @ np.array([[cosine, sine], [-sine, cosine]])
        periods = np.array([cell, np.round(second @ np.linalg.inv(vectors))]).astype(np.int64)
        stretches = np.linalg.svd(np.linalg.inv(own) @ periods @ vectors, compute_uv=False)
        strain = float(np.abs(stretches - 1).max())
        if strain <= _MOST_STRAIN:
            yield periods, strain


def _folded(sites: _Whole, periods: _Whole) -> list[tuple[int, ...]]:
    """The same sites in one period of a supercell."""
    # the fraction of a cell is a multiple of 1 / det, far more than a rounding error
    shift = np.floor(sites[:, 1:] @ np.linalg.inv(periods) + 1e-6).astype(np.int64)
    inside = sites.copy()
    inside[:, 1:] -= shift @ periods
    return [tuple(site) for site in inside.tolist()]


def _nearest_images(points: Floats, centre: Floats, vectors: Floats) -> Floats:
    """Periodic images of points that are nearest to a centre, shape ``(n, 2)``."""
    off = points - centre
    off = off - np.round(off @ np.linalg.inv(vectors)) @ vectors
    around = np.array(list(itertools.product((-1, 0, 1), repeat=2))) @ vectors
    images = off[:, None] + around
    nearest = np.linalg.norm(images, axis=-1).argmin(axis=1)
    return np.asarray(centre + images[np.arange(len(points)), nearest])


def _inscribed_radius(vectors: Floats) -> float:
    """Radius in Å of the largest circle in the Wigner-Seitz cell of a lattice."""
    around = np.array([n for n in itertools.product(range(-3, 4), repeat=2) if any(n)]) @ vectors
    return float(np.linalg.norm(around, axis=1).min()) / 2
