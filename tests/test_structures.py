"""Specimens: relaxed defects in their places, and the truth about them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stemvane.config import SimulationConfig
from stemvane.data.measurements import read_atoms, write_atoms
from stemvane.data.specimen import ScanDefects
from stemvane.errors import ConfigError, DataError
from stemvane.simulation.catalogue import bond_agrees, bond_length
from stemvane.simulation.relaxed_defects import load_patch, placements, read_geometry
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.simulate import simulate
from stemvane.simulation.structures import graphene
from stemvane.specimens import DEFECTS, SPECIMENS

EXTENT = (46.0, 46.0)
# bonds that GFN1-xTB gives otherwise than the literature: Å
MISSED = {"graphene-Si-C3": 1.799, "graphene-divacancy": 1.671}
SCRIPT = Path(__file__).parent.parent / "docs" / "make_geometries.py"
FEW = {"scan_shape": (2, 2), "scan_extent": (24.0, 30.0), "detector_shape": (16, 16)}


def load_script():
    spec = importlib.util.spec_from_file_location("make_geometries", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plane(atoms):
    """Positions (y, x), and the supercell (y, x)."""
    return atoms.positions[:, 1::-1], atoms.cell.lengths()[1::-1]


def across(points, to, size):
    """Vectors to the nearest image."""
    vectors = points - np.asarray(to)
    return vectors - size * np.round(vectors / size)


def test_the_settings_take_their_choices_from_the_table():
    names = [specimen.name for specimen in SPECIMENS]
    assert len(set(names)) == len(names)
    assert [SimulationConfig(structure=name).structure for name in names] == names
    assert {"graphene", "graphene-zigzag-edge", "h-BN", *(f"graphene-{kind}" for kind in DEFECTS)} < set(names)
    with pytest.raises(ValidationError, match="graphene-Si-C3"):
        SimulationConfig(structure="graphite")


@pytest.mark.parametrize("entry", SPECIMENS, ids=lambda entry: entry.name)
def test_bonds_are_the_published_ones_or_known_not_to_be(entry):
    length, expected = bond_length(entry), MISSED.get(entry.name)
    if expected is None:
        assert bond_agrees(entry), f"{entry.name}: {entry.bond} is {length:.3f} Å, published {entry.published}"
    else:
        assert length == pytest.approx(expected, abs=0.002)
        assert not bond_agrees(entry)


@pytest.mark.parametrize("kind", ["N", "B", "P", "Si-C3", "Si-C4"])
def test_bonds_of_a_scene_are_those_of_the_stored_geometry(kind):
    atoms, _ = build_structure(f"graphene-{kind}", EXTENT)
    index = int(np.flatnonzero(atoms.numbers != 6)[0])
    nearest = np.sort(atoms.get_distances(index, range(len(atoms)), mic=True))[1 : 5 if kind == "Si-C4" else 4]
    entry = next(entry for entry in SPECIMENS if entry.geometry == kind)
    assert nearest.mean() == pytest.approx(bond_length(entry), abs=1e-4)
    standing = atoms.positions[index, 2] - np.median(atoms.positions[:, 2])
    assert (standing > 1) == (kind in ("P", "Si-C3"))


def test_a_patch_turned_over_hangs_below_the_sheet():
    size = graphene(EXTENT).cell.lengths()[:2]
    above, below = (next(p for p in placements("P", size) if p.mirrored == over) for over in (False, True))
    lift = load_patch("P").displacements[:, 2].max()
    assert (above.matrix @ [0, 0, lift])[2] == -(below.matrix @ [0, 0, lift])[2] > 1


def test_the_script_makes_every_geometry():
    script = load_script()
    assert set(script.NAMES) == {*DEFECTS, "zigzag-edge", "armchair-edge"}
    for kind in DEFECTS:
        made, stored = script.start(kind, (9, 5)), read_geometry(kind)
        np.testing.assert_array_equal(made.numbers, stored.numbers)
        np.testing.assert_allclose(made.get_array("site"), stored.get_array("site"), atol=1e-6)
        assert np.linalg.norm(made.positions - stored.positions, axis=1).max() < 1.5


def test_a_stored_geometry_is_at_rest():
    script = load_script()
    pytest.importorskip("tblite", reason="relaxation needs tblite: pip install 'stemvane[structures]'")
    atoms, scale = read_geometry("N"), 2.4573 / 2.46
    atoms.set_cell(atoms.cell[:] * [[scale], [scale], [1]], scale_atoms=False)
    atoms.positions[:, :2] *= scale
    atoms.calc = script.calculator()
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 1.5 * script.LARGEST_FORCE


def test_the_plain_sheet_is_unchanged():
    atoms, defects = build_structure("graphene", EXTENT)
    np.testing.assert_array_equal(atoms.positions, graphene(EXTENT).positions)
    assert len(defects) == 0
    assert set(atoms.get_array("labels")) == {"graphene"}


@pytest.mark.parametrize("kind", list(DEFECTS))
def test_one_defect_lies_in_the_middle_of_the_scan(kind):
    atoms, defects = build_structure(f"graphene-{kind}", EXTENT, scan_extent=(12.0, 14.0))
    assert defects.kinds == (kind,)
    assert np.linalg.norm(defects.positions[0] - (6, 7)) < 1.5
    assert len(atoms) == 836 - {"vacancy": 1, "divacancy": 2, "Si-C4": 1}.get(kind, 0)
    pristine = plane(graphene(EXTENT))[0]
    gaps = np.linalg.norm(pristine[:, None] - defects.sites, axis=-1).min(axis=0)
    np.testing.assert_allclose(gaps, 0, atol=1e-6)
    positions, size = plane(atoms)
    foreign = atoms.numbers != 6
    assert foreign.sum() == {"vacancy": 0, "divacancy": 0, "stone-wales": 0}.get(kind, 1 + kind.startswith("N-N"))
    labelled = positions[atoms.get_array("labels") == kind]
    assert 1 <= len(labelled) <= 6
    assert np.linalg.norm(across(labelled, defects.positions[0], size), axis=1).max() < 2.9
    # beyond the patch the sheet is perfect
    far = np.linalg.norm(across(positions, defects.positions[0], size), axis=1) > 10.5
    assert np.linalg.norm(positions[far, None] - pristine, axis=-1).min(axis=1).max() < 1e-9


@pytest.mark.parametrize("kind", ["N", "Si-C3", "vacancy", "stone-wales"])
def test_every_placement_is_the_same_defect_rotated(kind):
    """Distances about the defect are those of the stored geometry, whatever its turn."""
    size = graphene(EXTENT).cell.lengths()[:2]
    patch = load_patch(kind)
    for placement in placements(kind, size)[:: 7 * len(placements(kind, size)) // 60]:
        matrix = placement.matrix
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        on_lattice = graphene(EXTENT).positions[:, :2]
        gaps = across(placement.map(patch.sites)[:, None], on_lattice, size)
        assert np.linalg.norm(gaps, axis=-1).min(axis=1).max() < 1e-6
        assert np.all((placement.centre >= -1e-6) & (placement.centre <= size))


def test_angles_are_counter_clockwise_on_the_screen():
    kind, size = "vacancy", graphene(EXTENT).cell.lengths()[:2]
    upright, rotated = (next(p for p in placements(kind, size) if p.n_sixths == n) for n in (0, 1))
    right = [p.map(np.array([[1.0, 0.0]]))[0] - p.centre for p in (upright, rotated)]
    np.testing.assert_allclose(right[0], [1, 0], atol=1e-12)
    # y grows downwards, so up is −y
    np.testing.assert_allclose(right[1], [np.cos(np.pi / 3), -np.sin(np.pi / 3)], atol=1e-12)


def test_random_defects_keep_their_distance_and_follow_the_seed():
    asked = {"scan_extent": (40.0, 40.0), "defects": {"N": 4, "divacancy": 2, "Si-C3": 2}}
    atoms, defects = build_structure("graphene", EXTENT, **asked, seed=5)
    again, other = (build_structure("graphene", EXTENT, **asked, seed=seed)[1] for seed in (5, 6))
    assert sorted(defects.kinds) == ["N"] * 4 + ["Si-C3"] * 2 + ["divacancy"] * 2
    np.testing.assert_array_equal(defects.positions, again.positions)
    assert not np.array_equal(defects.positions, other.positions)
    size = plane(atoms)[1]
    apart = np.linalg.norm(across(defects.positions[:, None], defects.positions, size), axis=-1)
    assert apart[~np.eye(8, dtype=bool)].min() >= 7
    assert defects.positions.min() >= 3 - 1e-9
    assert defects.positions.max() <= 37 + 1e-9
    assert (atoms.numbers == 7).sum() == 4
    assert len(atoms) == 836 - 4
    nearest = np.linalg.norm(across(plane(atoms)[0][:, None], plane(atoms)[0], size), axis=-1) + 9 * np.eye(len(atoms))
    assert nearest.min() > 1.15


def test_concentrations_are_shares_of_the_sites_in_the_scan():
    _, defects = build_structure("graphene", EXTENT, concentrations={"N": 0.01, "B": 0.004})
    assert (defects.kinds.count("N"), defects.kinds.count("B")) == (8, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"structure": "graphite"}, "graphene-Si-C3"),
        ({"defects": {"X": 1}}, "stone-wales"),
        ({"defects": {"N": 60}}, "60 N: no room in 24 x 30 Å"),
        ({"defects": {"N": 1}, "scan_extent": (4.0, 4.0)}, "no room"),
        ({"concentrations": {"N": 1e-4}}, "less than one N"),
        ({"concentrations": {"N": 2.0}}, "concentrations"),
    ],
)
def test_impossible_requests_are_one_line(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        simulate(**{**FEW, **changes})
    assert "\n" not in str(caught.value)


def test_defects_that_would_share_sites_are_refused():
    with pytest.raises(ConfigError, match="separation is 1"):
        build_structure(defects={"N": 1}, separation=1.0)
    with pytest.raises(ConfigError, match="too small for a defect"):
        build_structure("graphene-N", (12.0, 12.0))


def test_places_and_noise_have_seeds_of_their_own():
    asked = {**FEW, "defects": {"N": 2}, "dose": 1000.0}
    first = simulate(**asked, seed=1, placement_seed=4)
    noise, places = simulate(**asked, seed=2, placement_seed=4), simulate(**asked, seed=1, placement_seed=5)
    np.testing.assert_array_equal(first.expectation, noise.expectation)
    assert np.any(first.data.compute() != noise.data.compute())
    assert np.any(first.atoms.defects.positions != places.atoms.defects.positions)
    np.testing.assert_array_equal(
        simulate(**asked, seed=4).atoms.defects.positions, simulate(**asked, placement_seed=4).atoms.defects.positions
    )


def test_the_truth_is_kept_on_disk_and_moved_with_the_scan(tmp_path):
    import zarr

    atoms = simulate(**FEW, structure="graphene-Si-C4", defects={"N": 1}, placement_seed=2).atoms
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    write_atoms(group, atoms)
    again = read_atoms(group)
    assert again.labels == atoms.labels
    assert again.defects.kinds == atoms.defects.kinds == ("Si-C4", "N")
    for name in ("positions", "angles", "mirrored", "sites", "owners"):
        stored, expected = getattr(again.defects, name), getattr(atoms.defects, name)
        np.testing.assert_array_equal(stored, expected)
        assert stored.dtype == expected.dtype
    moved = atoms.move(np.array([1.0, -2.0]))
    np.testing.assert_allclose(moved.defects.sites - atoms.defects.sites, [[1, -2]] * 3)
    np.testing.assert_allclose(moved.defects.positions - atoms.defects.positions, [[1, -2]] * 2)
    assert len(atoms.move(np.zeros(2)).defects) == 2


def test_a_truth_that_does_not_fit_is_refused():
    none = {"angles": np.zeros(1), "mirrored": np.zeros(1, bool), "sites": np.zeros((1, 2))}
    with pytest.raises(DataError, match="positions"):
        ScanDefects(("N",), np.zeros((2, 2)), **none, owners=np.zeros(1, int))
    with pytest.raises(DataError, match="owners"):
        ScanDefects(("N",), np.zeros((1, 2)), **none, owners=np.ones(1, int))


@pytest.mark.parametrize(
    ("name", "bond", "elements", "neighbours"),
    [("h-BN", 1.4457, {5: 7, 7: 5}, {5: 3, 7: 3}), ("MoS2", 2.4174, {42: 16, 16: 42}, {42: 6, 16: 3})],
)
def test_other_hosts(name, bond, elements, neighbours):
    atoms, defects = build_structure(name, EXTENT)
    distances = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
    assert distances.min() == pytest.approx(bond, abs=2e-4)
    assert min(plane(atoms)[1]) >= 46
    for index in range(0, len(atoms), 37):
        near = np.flatnonzero(distances[index] < bond + 0.01)
        assert len(near) == neighbours[atoms.numbers[index]]
        assert set(atoms.numbers[near]) == {elements[atoms.numbers[index]]}
    assert len(defects) == 0
    assert set(atoms.get_array("labels")) == {name}
    with pytest.raises(ConfigError, match=f"{name}: defects"):
        build_structure(name, EXTENT, defects={"N": 1})


@pytest.mark.parametrize("kind", ["zigzag", "armchair"])
def test_edges_lie_in_the_middle_of_the_scan(kind):
    atoms, _ = build_structure(f"graphene-{kind}-edge", EXTENT, scan_extent=(14.0, 12.0))
    axis, scan = (0, 14) if kind == "zigzag" else (1, 12)
    positions, size = plane(atoms)
    outermost = atoms.get_array("labels") == kind
    assert np.ptp(positions[outermost, axis]) < 1e-6
    assert positions[outermost, axis].mean() == pytest.approx(scan / 2, abs=1.3)
    assert positions[:, axis].min() > positions[outermost, axis].mean() - 0.3
    # a probe in the scan sees neither the sheet's other end nor an image of the sheet
    assert scan + 10 < positions[:, axis].max() < size[axis] - 14
    distances = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
    assert set((distances[outermost] < 1.6).sum(axis=1)) == {2}
    deep = positions[:, axis] - positions[outermost, axis].mean() > 7
    inside = deep & (positions[:, axis] < positions[:, axis].max() - 3)
    assert set((distances[inside] < 1.43).sum(axis=1)) == {3}
    truth = simulate(**FEW, structure=f"graphene-{kind}-edge").atoms
    assert set(truth.labels) == {"graphene", kind}
