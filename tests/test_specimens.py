"""Specimens of any kind: files, crystals along a direction, layers at a twist, and how the wave passes them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from stemvane.config import SimulationConfig
from stemvane.errors import ConfigError, FileFormatError
from stemvane.simulation import propagation
from stemvane.simulation.optics import Optics
from stemvane.simulation.propagation import multislice, single_slice
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.simulate import simulate
from stemvane.simulation.structures import dichalcogenide

GAAS, AREA = 5.6533, (8.0, 8.0)
FEW = {"scan_shape": (2, 3), "scan_extent": (4.0, 4.0), "detector_shape": (16, 16)}


def columns(atoms):
    """Projected positions (y, x), each once."""
    return np.unique(np.round(atoms.positions[:, 1::-1], 3), axis=0)


def nearest(atoms, index):
    distances = np.sort(atoms.get_distances(index, range(len(atoms)), mic=True))
    return distances[1:]


@pytest.fixture
def gaas(tmp_path):
    path = tmp_path / "gallium arsenide.cif"
    write(path, bulk("GaAs", "zincblende", a=GAAS, cubic=True))
    return path


def test_a_crystal_along_110_shows_its_dumbbells(gaas):
    atoms, defects = build_structure(gaas, scan_extent=AREA, zone_axis=(1, 1, 0), thickness=40.0)
    built_in, _ = build_structure("GaAs", scan_extent=AREA, zone_axis=(1, 1, 0), thickness=40.0)
    np.testing.assert_allclose(np.sort(atoms.positions, axis=0), np.sort(built_in.positions, axis=0), atol=1e-3)
    assert len(defects) == 0
    # ten periods of a/√2 along the beam, two planes in each
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(40.0 - GAAS / 8**0.5, abs=0.1)
    at = columns(atoms)
    gaps = np.linalg.norm(at[:, None] - at, axis=-1) + 9 * np.eye(len(at))
    inner = np.all((at > 3) & (at < 40), axis=1)
    np.testing.assert_allclose(gaps.min(axis=1)[inner], GAAS / 4, atol=2e-3)
    assert nearest(atoms, len(atoms) // 2)[:4] == pytest.approx([GAAS * 3**0.5 / 4] * 4, abs=0.05)
    # the cell is periodic along both axes: a√2/2 along x, a along y
    n_y, n_x = atoms.info["n_cells"]
    assert (atoms.cell[1, 1] / n_y, atoms.cell[0, 0] / n_x) == pytest.approx((GAAS, GAAS / 2**0.5), abs=1e-3)


@pytest.mark.parametrize("name", ["GaAs", "ZnS", "SrTiO3"])
@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 1, 0), (1, 1, 1), (2, 1, -1)])
def test_every_atom_of_a_crystal_has_its_neighbours(name, axis):
    """Whatever the direction, the supercell continues itself: no atoms are lost or doubled at its borders."""
    atoms, _ = build_structure(name, scan_extent=AREA, zone_axis=axis, thickness=12.0)
    density = {"GaAs": 8 / GAAS**3, "ZnS": 8 / 5.4093**3, "SrTiO3": 5 / 3.905**3}[name]
    slab = atoms.positions[:, 2]
    middle = (slab > slab.min() + 2) & (slab < slab.max() - 2)
    assert atoms.cell[2, 2] == pytest.approx(np.ptp(slab) + 12)
    assert len(atoms) / (atoms.cell[0, 0] * atoms.cell[1, 1]) == pytest.approx(density * 12, rel=0.35)
    inner = np.flatnonzero(middle)[:: max(1, middle.sum() // 40)]
    bond = {"GaAs": 2.448, "ZnS": 2.342, "SrTiO3": 1.9525}[name]
    bonds = [nearest(atoms, index)[0] for index in inner]
    # strontium has its oxygen at a/√2
    assert max(bonds) == pytest.approx(bond if name != "SrTiO3" else 3.905 / 2**0.5, abs=2e-3)
    assert min(bonds) == pytest.approx(bond, abs=2e-3)


def test_a_sheet_from_a_file_is_the_built_in_one(tmp_path):
    write(tmp_path / "sheet.xyz", dichalcogenide("WS2", (1.0, 1.0)), format="extxyz")
    from_file, built_in = (simulate(structure=s, **FEW) for s in (tmp_path / "sheet.xyz", "WS2"))
    np.testing.assert_allclose(from_file.data, built_in.data, atol=2e-6)
    assert from_file.name == from_file.metadata["structure"] == "sheet.xyz"
    assert from_file.metadata["method"] == built_in.metadata["method"] == "multislice"
    assert "one slice serves up to" in from_file.metadata["method_reason"]
    assert set(from_file.atoms.labels) == {"sheet"}


def test_atoms_are_taken_as_they_are():
    benzene = Atoms("C6", [(1.4 * np.cos(t), 1.4 * np.sin(t), 0) for t in np.arange(6) * np.pi / 3])
    dataset = simulate(structure=benzene, **FEW)
    assert dataset.name == "C"
    assert len(dataset.atoms.numbers) == 6
    # in the middle of the scan
    np.testing.assert_allclose(dataset.atoms.positions.mean(axis=0), (2, 2), atol=1e-9)
    assert dataset.metadata["method"] == "single-slice"


@pytest.mark.parametrize("twist", [0.0, 7.0, 60.0])
def test_layers_at_a_twist(twist):
    atoms, _ = build_structure("h-BN", scan_extent=AREA, twist=twist)
    height = atoms.positions[:, 2] > atoms.positions[:, 2].mean()
    assert height.mean() == pytest.approx(0.5, abs=0.02)
    assert np.ptp(atoms.positions[:, 2]) == pytest.approx(3.33)
    about = atoms.positions[:, :2] - 4.0
    layers = [about[layer & (np.linalg.norm(about, axis=1) < 9)] for layer in (~height, height)]
    angles = []
    for layer in layers:
        bonds = (layer[:, None] - layer).reshape(-1, 2)
        bonds = bonds[np.abs(np.linalg.norm(bonds, axis=1) - 2.504) < 0.01]
        # y grows downwards; a lattice looks the same every 60°
        angles.append(np.angle(np.exp(6j * np.arctan2(-bonds[:, 1], bonds[:, 0])).mean()) / 6)
    turned = np.degrees(angles[1] - angles[0]) % 60
    assert min(turned, 60 - turned) == pytest.approx(twist % 60, abs=1e-3)
    assert ("n_cells" in atoms.info) == (twist != 7.0)
    assert len(columns(atoms)) == len(atoms) // (1 if twist == 7.0 else 2)


def test_boron_is_above_nitrogen_at_60_degrees():
    atoms, _ = build_structure("h-BN", scan_extent=AREA, twist=60.0)
    at = np.round(atoms.positions[:, 1::-1] / 0.05).astype(int)
    above = {}
    for place, number in zip(map(tuple, at), atoms.numbers, strict=True):
        above.setdefault(place, set()).add(int(number))
    assert sum(elements == {5, 7} for elements in above.values()) > 0.9 * len(above)


@pytest.fixture(scope="module")
def thin():
    """One cell of MoS2, 46 Å of it, and some positions in it."""
    atoms, _ = build_structure("MoS2")
    return atoms, np.arange(5) * 1.1, np.arange(70) * 0.23, Optics.of(SimulationConfig(detector_shape=(32, 32)))


def patterns_of(engine, atoms, ys, xs, optics):
    patterns = np.zeros((len(ys), len(xs), *optics.detector_shape), np.float32)
    assert sum(engine(atoms, ys, xs, optics, patterns)) == len(ys) * len(xs)
    return patterns


def test_a_cell_of_a_crystal_stands_for_the_supercell(thin):
    """Beam by beam in one cell, or probe by probe in all: the same patterns."""
    atoms, ys, xs, optics = thin
    ys = ys[:1]
    assert np.prod(atoms.info["n_cells"]) > 100
    by_cell = patterns_of(multislice, atoms, ys, xs, optics)
    whole = atoms.copy()
    del whole.info["n_cells"]
    by_position = patterns_of(multislice, whole, ys, xs[:6], optics)
    changing = np.std(by_position, axis=(0, 1)).max()
    np.testing.assert_allclose(by_cell[:, :6], by_position, atol=1e-2 * changing)


def test_one_slice_is_many_of_a_flat_sheet(thin):
    _, ys, xs, optics = thin
    sheet, _ = build_structure("h-BN")
    single, multi = (patterns_of(engine, sheet, ys[:2], xs, optics) for engine in (single_slice, multislice))
    np.testing.assert_allclose(multi, single, atol=2e-5 * single.max())


def test_thickness_is_a_defocus_where_nothing_scatters():
    """A thin sheet far behind another of hardly any atoms is seen by a probe that is focused on it."""
    atoms, _ = build_structure("h-BN")
    atoms.info.clear()
    far = atoms.copy()
    far += Atoms("H", [(23.0, 23.0, float(atoms.positions[0, 2]) + 60.0)])
    optics = Optics.of(SimulationConfig(detector_shape=(16, 16), defocus=0.0))
    at = np.array([2.0, 3.1])
    moved = float(far.positions[:, 2].mean() - atoms.positions[0, 2])
    ahead = Optics(**{**vars(optics), "defocus": moved})
    np.testing.assert_allclose(
        patterns_of(multislice, far, at, at, optics), patterns_of(multislice, atoms, at, at, ahead), atol=2e-5
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"structure": "graphene", "thickness": 10.0}, "graphene is a sheet"),
        ({"structure": "GaAs", "twist": 3.0}, "built-in sheets"),
        ({"structure": "GaAs", "zone_axis": (0, 0, 0)}, "no direction"),
        ({"structure": "graphene-N", "twist": 3.0}, "take graphene"),
        ({"structure": "GaAs", "thickness": -1.0}, "thickness"),
        ({"structure": "nothing.traj"}, ".cif or .xyz or .extxyz"),
        ({"structure": 3}, "int"),
        ({"structure": "GaAs", "defects": {"N": 1}}, "defects"),
    ],
)
def test_what_does_not_fit_is_one_line(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        simulate(**{**FEW, **settings})
    assert "\n" not in str(caught.value)


BAD_FILES = {
    "missing.cif": (None, "there is no such file"),
    "empty.cif": ("", "cannot be read as CIF"),
    "noise.cif": ("data_x\nloop_\n_atom_site_label\n", "cannot be read as CIF"),
    "noise.xyz": ("\x00\x01 rubbish\n3\n", "cannot be read as EXTXYZ"),
    "short.xyz": ("5\n\nC 0 0 0\n", "cannot be read as EXTXYZ"),
    "none.xyz": ("0\n\n", "no atoms"),
    "nan.xyz": ("1\n\nC nan 0 0\n", "not finite"),
    "same.xyz": ("2\n\nC 0 0 0\nC 0 0 0.1\n", "two atoms are 0.1 Å apart"),
    "strange.xyz": ("1\n\nXx 0 0 0\n", "(cannot be read|scatters electrons is not known)"),
    "flat.xyz": (
        '1\nLattice="3 0 0 6 0 0 0 0 3" Properties=species:S:1:pos:R:3\nC 0 0 0\n',
        "(spans no volume|cannot)",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line(name, tmp_path):
    content, words = BAD_FILES[name]
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=words) as caught:
        build_structure(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_sites_that_are_occupied_in_part_are_refused(tmp_path):
    alloy = bulk("GaAs", "zincblende", a=GAAS, cubic=True)
    alloy.info["occupancy"] = {"0": {"Ga": 0.7, "Al": 0.3}}
    alloy.set_array("spacegroup_kinds", np.zeros(len(alloy), int))
    with pytest.raises(FileFormatError, match="occupied in part"):
        build_structure(alloy)
    assert propagation.n_cells_of(alloy) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "elements", "sites"),
    [
        ("V_S", {"S": -1}, 1),
        ("V_S2", {"S": -2}, 1),
        ("Se_S", {"S": -1, "Se": 1}, 1),
        ("Mo_S2", {"S": -2, "Mo": 1}, 1),
        ("S_Mo", {"Mo": -1, "S": 1}, 1),
        ("V_Mo+V_S", {"Mo": -1, "S": -1}, 2),
        ("ad-Au_Mo", {"Au": 1}, 1),
    ],
)
def test_a_defect_by_rule_changes_what_it_names(kind, elements, sites):
    atoms, defects = build_structure(f"MoS2-{kind}", scan_extent=(12.0, 12.0))
    perfect, _ = build_structure("MoS2")
    counts, before = (a.symbols.formula.count() for a in (atoms, perfect))
    assert {s: counts.get(s, 0) - before.get(s, 0) for s in {*counts, *before}} == {"Mo": 0, "S": 0, **elements}
    assert (defects.kinds, len(defects.sites)) == ((kind,), sites)
    assert np.linalg.norm(defects.positions[0] - 6) < 2
    assert "n_cells" not in atoms.info
    marked = atoms.positions[atoms.get_array("labels") == kind, 1::-1]
    assert 0 < len(marked) <= 12
    # what is not changed is as it was
    unmoved = np.linalg.norm(atoms.positions[:, None] - perfect.positions, axis=-1).min(axis=1)
    assert (unmoved > 1e-6).sum() == {"Mo_S2": 1, "ad-Au_Mo": 1}.get(kind, 0)


def test_defects_by_rule_lie_on_both_sides_and_in_all_directions():
    _, defects = build_structure("MoS2", (60.0, 60.0), scan_extent=(55.0, 55.0), defects={"V_S": 14}, seed=2)
    assert 0 < defects.mirrored.sum() < 14
    _, pairs = build_structure("h-BN", (60.0, 60.0), scan_extent=(55.0, 55.0), defects={"V_B+V_N": 14}, seed=2)
    directions = np.unique(np.round(np.degrees(pairs.angles)) % 360)
    assert directions.tolist() == [30, 150, 270]
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(pairs.sites.reshape(-1, 2, 2), axis=1), axis=-1), 1.4457, atol=1e-3
    )


def test_defects_by_rule_are_made_of_files_and_said_not_to_be_relaxed(gaas):
    settings = {**FEW, "scan_extent": (20.0, 20.0), "structure": gaas, "zone_axis": (1, 1, 0)}
    dataset = simulate(**settings, method="single-slice", defects={"V_As": 1, "Ga_As": 1})
    assert sorted(dataset.atoms.defects.kinds) == ["Ga_As", "V_As"]
    assert dataset.metadata["defects"] == "by rule, not relaxed"
    assert "defects" not in simulate(**FEW).metadata


@pytest.mark.parametrize(
    ("structure", "kind", "words"),
    [
        ("h-BN", "V_S", "has no S"),
        ("h-BN", "V_B2", "two B above"),
        ("MoS2", "ad-V_S", "by rule"),
        ("MoS2", "V_", "by rule"),
    ],
)
def test_a_rule_that_does_not_fit_is_one_line(structure, kind, words):
    with pytest.raises(ConfigError, match=words) as caught:
        simulate(**{**FEW, "structure": structure, "scan_extent": (12.0, 12.0)}, defects={kind: 1})
    assert "\n" not in str(caught.value)
