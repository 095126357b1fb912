"""Write docs/structures.md, with every specimen's bonds beside published ones, and docs/images/structures.png.

Run as ``python docs/make_structures_page.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stemvane.simulation.catalogue import TOLERANCE, bond_agrees, bond_length
from stemvane.specimens import SPECIMENS

PAGE = Path(__file__).parent / "structures.md"
PICTURE = PAGE.parent / "images" / "structures.png"
SLICES = PAGE.parent.parent / "benchmarks" / "results" / "slices.json"
HEAD = """# Structures

<!-- written by docs/make_structures_page.py; do not edit -->

```
stemvane structures -o structures.png
stemvane simulate graphene-Si-C3 -o silicon.zarr
stemvane simulate graphene -o mix.zarr --scan 128x128 --defects N=3,divacancy=1 --placement-seed 7
stemvane simulate GaAs -o dumbbells.zarr --zone-axis 110 --thickness 40
stemvane simulate graphene -o moire.zarr --twist 5
stemvane simulate MoS2 -o sulphur.zarr --defects V_S=3,Se_S=2
stemvane simulate crystal.cif -o crystal.zarr --zone-axis 1,-1,0 --thickness 100
```

![Every specimen from above. Atoms of a defect or an edge have a halo.](images/structures.png)

A name with a defect in it has one such defect in the middle of the scan. `--defects` and `--concentration` put more of
them at random places: both sublattices, every rotation by 60° that differs, P and three-fold Si on either side of the
sheet. A concentration is a share of the lattice sites in the scanned area, rounded to whole defects. Centres are at
least 7 Å apart, which about 3 % of the sites can be, and 3 Å from the edge of the scanned area; what does not fit is an
error. The places follow
`--placement-seed`, or `--seed` where that is left out, in a random stream of their own: counts and thermal motion do
not change with them.
"""
BONDS = """
## Bond lengths

The defects are relaxed by GFN1-xTB (Grimme, Bannwarth and Shushkov, J. Chem. Theory Comput. 13, 1989 (2017)) through
`tblite`, in periodic supercells of 9 by 5 cells of a × √3 a (180 atoms), to a largest force of 0.03 eV/Å, the vacancy
as a spin triplet. GFN1-xTB's own lattice constant in that supercell, 2.457 Å, is stretched to the 2.46 Å of graphite.
The geometries are in `src/stemvane/simulation/geometries`; `python docs/make_geometries.py` makes them
(`pip install 'stemvane[structures]'`). With `--cells 6x4` (96 atoms), 9x5 and 12x6 (288 atoms) N-C is 1.400, 1.398 and
1.398 Å. Strained bonds need more room: those of the divacancy's pentagons are 1.715 Å in 6x4 cells and 1.671 Å in 9x5.

Published lengths are as usually quoted, with a paper on the defect; where values scatter, the table has their range.
They have not been checked against the text of each paper: do so before they are cited. For the bare zigzag edge none is
given.
The perfect sheets and crystals have the lattice of the crystal, as published, and are not relaxed.

| name | atoms changed | what it is | bond | here (Å) | published (Å) | source |
|---|---|---|---|---|---|---|
"""
TRUTH = """
## The truth

A simulated data set carries its atoms and defects, in memory, in its Zarr folder and in the run: nothing else is needed
to score a search for them.

```python
from stemvane import simulate

dataset = simulate(scan_extent=(24, 24), scan_shape=(4, 4), detector_shape=(16, 16), defects={"N": 2, "vacancy": 1})
truth = dataset.atoms.defects
for kind, (y, x) in zip(truth.kinds, truth.positions):
    print(f"{kind} at y {y:.2f} Å, x {x:.2f} Å")
```

| field | content |
|---|---|
| `kinds` | one word for each defect: the name above without its host |
| `positions` | centres `(y, x)` in Å from the first probe position |
| `angles` | rad, counter-clockwise on the screen, from the geometry in the picture |
| `mirrored` | true where it was turned over before: y → −y, z → −z, so that P and Si hang below the sheet |
| `sites`, `owners` | ideal lattice positions of what is substituted, removed or rotated, and the defect of each |

`dataset.atoms.labels` has one word for each atom: the kind of its defect, or the host. Where a site is empty, the atoms
around it belong to the defect. An edge is no defect; its outermost atoms are labelled `zigzag` or `armchair`.
`build_structure` gives the same without a simulation, as `ase.Atoms` and `ScanDefects`.
"""
ANY = """
## Crystals, layers and files

GaAs, ZnS and SrTiO3 are seen along `--zone-axis`, [0 0 1] where it is left out, and are `--thickness` Å thick, rounded
to whole periods along the beam; one period where it is left out. The shortest lattice vector across the beam is along
x, for [0 0 1] the first vector of the cell.

`--twist` puts a second layer on a sheet, rotated counter-clockwise by so many degrees about the hexagon nearest to the
middle of the scan, the layers as far apart as in the sheet's crystal. At 0 atoms lie on atoms of their own kind, at 60
boron on nitrogen and the metal on the chalcogen, as in the crystals of h-BN, MoS2, MoSe2 and WS2.

A file takes the place of a name: CIF, XYZ and extended XYZ are read, by ASE. In Python, `simulate(structure=...)` takes
a name, a path or `ase.Atoms`. A unit cell is repeated along its periodic axes until it fills what the probe can see:
a crystal as a whole number of its periods, also where they are those of a centred cell; where there is none along an
axis, as at a twist of 7°, the supercell ends 15 Å from the scan. What is periodic in no direction, such as a molecule,
is put into the middle of the scan. Sites that are occupied in part are refused: give an ordered supercell.
"""
RULED = """
## Defects by rule

The defects of graphene above are relaxed. In any other host, a file included, they are made by rule and **not
relaxed**, which `metadata["defects"]` of the data set says: what differs from the perfect host are the atoms that are
named, and bonds about a vacancy have the length that they had. They are named after what comes and whose site it is.

| rule | meaning |
|---|---|
| `V_S` | vacancy: one S is missing |
| `V_S2` | both S that are above one another are missing |
| `Se_S` | Se in place of S; with an element of the host an antisite, such as `Mo_S` |
| `Mo_S2` | Mo in place of both S that are above one another, in the middle between them |
| `V_B+V_N` | two of these on neighbouring sites: a divacancy, or a pair of substituted atoms such as `C_B+C_N` |
| `ad-Si_Mo` | Si on top of Mo, a bond's length (the sum of covalent radii) above it or below it |

`MoS2-V_S` has one in the middle of the scan, `--defects V_S=3` three at random places. V is the vacancy, so vanadium
cannot be named. The angle of a pair is the direction from its first site to its second; those that are made on the
lower side of a sheet are `mirrored`. `stemvane.specimens.LIBRARIES` lists the defects that are usually looked for in
each sheet.
"""
SLICED = """
## One slice or several

`method="single-slice"` lets the wave pass the whole specimen at once, `"multislice"` plane after plane of atoms: those
within 1 Å along the beam make a slice. One slice leaves out what beams gain on their way through the specimen. For the
outermost ones of the probe over half of the height h that is φ = π α² h / 2λ. By default (`"auto"`) one slice is taken
up to φ = 0.08 rad, several above; `metadata["method"]` and `metadata["method_reason"]` of the data set say which, and
why. At 60 kV and 31 mrad, in focus on the mean height of the atoms (`python -m benchmarks.accuracy.slices`):

| structure | φ (rad) | rms COM (mrad) | one slice: COM | one slice: patterns | farther beams |
|---|---|---|---|---|---|
"""
LIMITS = """
Differences are relative: that of the COM to its rms, that of the patterns to the rms of what changes over the scan.
"Farther beams" is what multislice misses by following beams up to 4 1/Å (2 in up to four slices) and not up to 6 1/Å.
One slice serves sheets of one plane and the COM of a silicon atom that stands up from its sheet. Against abTEM alone,
with its own potential, propagation and detector, patterns of 20 Å of GaAs along [110] differ by 1.0 % of what changes
over the scan (`--abtem`).

A crystal without defects and thermal motion is computed in one of its cells, beam by beam of the probe: a beam is
scattered by reciprocal lattice vectors only, so cells as large as the supercell are not needed. 64 × 64 positions of
40 Å of GaAs take some seconds, a hundredth of the time that each probe through all of the supercell would take. With
defects, thermal motion or a twist every probe goes through all of it.

## Limits

- **Independent atoms.** Potentials are sums of those of neutral atoms: the charge that moves into bonds, or from boron
  to nitrogen, is left out.
- **One point of the Brillouin zone.** tblite knows the Γ point alone. Supercells of 9 cells along x hold the Dirac
  points of graphene there, and the pristine sheet has forces below 0.03 eV/Å; what remains makes bonds that should
  be alike differ by some thousandths of an Å.
- **Semi-empirical bonds.** A star marks lengths that differ from the published ones by more than {tolerance} Å: they
  are left as GFN1-xTB gives them.
- **Flat where flat was the start.** Defects other than P and three-fold Si are relaxed in the plane. Four-fold Si is
  found slightly out of it by density functional theory (Nieman and others, J. Chem. Phys. 147, 194702 (2017)).
- **Faded out.** A defect keeps its relaxation up to 6 Å from its centre; from there it fades to the perfect lattice at
  10 Å. Where two patches overlap, their displacements add.
- **Bare edges**, without hydrogen, and not reconstructed.
"""


def page() -> str:
    """Return the page."""
    return HEAD + BONDS + _bonds() + TRUTH + RULED + ANY + SLICED + _slices() + LIMITS.format(tolerance=TOLERANCE)


def _bonds() -> str:
    rows = []
    for entry in SPECIMENS:
        here = f"{bond_length(entry):.3f}" + ("" if bond_agrees(entry) else r" \*")
        cells = (f"`{entry.name}`", entry.changed, entry.words, entry.bond, here, entry.published_words, entry.source)
        rows.append(f"| {' | '.join(cells)} |\n")
    return "".join(rows)


def _slices() -> str:
    rows = []
    for name, found in json.loads(SLICES.read_text(encoding="utf-8")).items():
        com, pattern = found["com_relative_difference"], found["pattern_relative_difference"]
        phase, farther = found["phase_rad"], found["pattern_difference_of_farther_beams"]
        rows.append(
            f"| {name} | {phase:.3f} | {found['com_rms_mrad']:.3f} | {com:.2%} | {pattern:.2%} | {farther:.2%} |\n"
        )
    return "".join(rows)


if __name__ == "__main__":
    from stemvane.figures.saving import save_structures_figure

    PAGE.write_text(page(), encoding="utf-8")
    save_structures_figure(PICTURE)
    sys.stdout.write(f"{PAGE}\n{PICTURE}\n")
