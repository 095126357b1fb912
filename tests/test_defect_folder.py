"""Libraries from a folder: structures put into their host, and scans that are stored there."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from ase.io import write

from stemvane import measure, simulate, simulate_library
from stemvane.config import SymmetryConfig
from stemvane.errors import ConfigError, FileFormatError
from stemvane.features.aberrations import Aberrations
from stemvane.simulation.embedded_defects import Host, embed_defect, read_defect_folder
from stemvane.simulation.relaxed_defects import read_geometry
from stemvane.simulation.scenes import build_structure
from stemvane.simulation.structures import SHEETS


def supercell(kind):
    """A relaxed defect as another program would write it: periodic, in a cell of its own."""
    atoms = read_geometry(kind)
    atoms.info.clear()
    for name in set(atoms.arrays) - {"numbers", "positions"}:
        del atoms.arrays[name]
    atoms.set_cell([*atoms.cell.array[:2], [0, 0, 20]])
    atoms.pbc = True
    return atoms


def changed(kind):
    """The same somewhere else, rotated by 77°, and with the lattice constant of another functional."""
    atoms = supercell(kind)
    atoms.set_cell(atoms.cell.array * [1.01, 1.01, 1], scale_atoms=True)
    atoms.rotate(77, "z", rotate_cell=True)
    atoms.positions += [3.1, -1.7, 9.0]
    return atoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for kind in ("N", "divacancy"):
        write(folder / f"{kind}.cif", supercell(kind))
    write(folder / "Si-C3.xyz", changed("Si-C3"), format="extxyz")
    return folder


@pytest.fixture(scope="module")
def measured():
    return measure(simulate(scan_shape=(20, 20), scan_extent=(6.0, 6.0), detector_shape=(32, 32), dose=1e4))


def test_a_structure_has_the_place_of_its_defect_in_the_host(folder):
    read = read_defect_folder(folder)
    assert read.host == "graphene"
    assert set(read.defects) == {"N", "divacancy", "Si-C3"}
    host = Host.of(read.host, read.pristine, (46.0, 46.0), (14.0, 14.0))
    assert (host.n_rotations, len(host.basis)) == (6, 2)
    for kind, structure in read.defects.items():
        atoms, defects = embed_defect(kind, structure, host, (7.0, 7.0))
        same, truth = build_structure(f"graphene-{kind}", (46.0, 46.0), scan_extent=(14.0, 14.0))
        assert atoms.get_chemical_formula() == same.get_chemical_formula()
        assert defects.kinds == (kind,)
        np.testing.assert_allclose(defects.positions, truth.positions, atol=0.01)
        assert defects.sites.shape == truth.sites.shape
        # up to a rotation of the lattice
        near = [np.sort(np.linalg.norm(a.positions[:, 1::-1] - truth.positions, axis=1))[:60] for a in (atoms, same)]
        np.testing.assert_allclose(*near, atol=0.02)


def test_a_host_of_its_own_and_an_atom_on_top(tmp_path):
    sheet = SHEETS["MoS2"]((1.0, 1.0))
    sheet.pbc = (True, True, False)
    write(tmp_path / "pristine.xyz", sheet, format="extxyz")
    cells = sheet.repeat((6, 4, 1))
    empty = cells.copy()
    sulphur = np.flatnonzero(empty.symbols == "S")[11]
    site = empty.positions[sulphur].copy()
    del empty[sulphur]
    write(tmp_path / "V_S.xyz", empty, format="extxyz")
    on_top = cells.copy()
    on_top.append("Si")
    outwards = np.sign(site[2] - sheet.positions[:, 2].mean())
    on_top.positions[-1] = site + np.array([0, 0, 2.2 * outwards])
    write(tmp_path / "ad-Si.xyz", on_top, format="extxyz")
    read = read_defect_folder(tmp_path)
    assert read.host == tmp_path.name
    host = Host.of(read.host, read.pristine, (46.0, 46.0), (14.0, 14.0))
    for kind, n_more in (("V_S", -1), ("ad-Si", 1)):
        atoms, defects = embed_defect(kind, read.defects[kind], host, (7.0, 7.0))
        assert len(atoms) == len(host.atoms) + n_more
        assert np.linalg.norm(defects.positions - 7.0) < 2.0
        assert len(defects.sites) == 1
    with pytest.raises(FileFormatError, match="every atom is on a site"):
        embed_defect("whole", cells, host, (7.0, 7.0))
    two = cells.copy()
    del two[[sulphur, sulphur + len(sheet) * 14]]
    with pytest.raises(FileFormatError, match="larger supercell with one defect"):
        embed_defect("two", two, host, (7.0, 7.0))


def test_folders_that_are_no_library_are_refused_in_one_line(tmp_path, folder, measured):
    with pytest.raises(ConfigError, match=r"neither a sheet .* nor a folder"):
        simulate_library(measured, SymmetryConfig(library="graphite"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileFormatError, match="no structure of a defect"):
        simulate_library(measured, SymmetryConfig(library=empty))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "N.cif").write_text("data_\nloop_\n_atom_site_label\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"N\.cif: cannot be read as CIF"):
        simulate_library(measured, SymmetryConfig(library=damaged))
    alone = supercell("N")
    alone.pbc = False
    (damaged / "N.cif").unlink()
    write(damaged / "N.xyz", alone, format="xyz")
    with pytest.raises(FileFormatError, match="not periodic along its first two axes"):
        read_defect_folder(damaged)
    strange = supercell("N")
    strange.numbers[:] = 79
    write(damaged / "N.xyz", strange, format="extxyz")
    with pytest.raises(FileFormatError, match=r"the host is none of .* 'pristine\.cif'"):
        read_defect_folder(damaged)
    # ASE would read on for each atom that is announced
    (damaged / "N.xyz").write_text("999999999999\n\nC 0 0 0\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match="999999999999 atoms are announced, and 1 lines follow"):
        read_defect_folder(damaged)
    # a host that is not that of the defect
    host = Host.of("h-BN", SHEETS["h-BN"]((1.0, 1.0)), (46.0, 46.0), (14.0, 14.0))
    with pytest.raises(FileFormatError, match="its host is another one"):
        embed_defect("N", read_defect_folder(folder).defects["N"], host, (7.0, 7.0))
    vast = supercell("N")
    vast.cell[:] *= 1e6
    with pytest.raises(FileFormatError, match="larger than 300 Å"):
        embed_defect("N", vast, host, (7.0, 7.0))


@pytest.mark.parametrize("name", ["N,N", "a$b", "two\nlines", "unknown", "N" * 80])
def test_names_that_no_table_or_figure_can_hold_are_refused(tmp_path, measured, name):
    write(tmp_path / "N.cif", supercell("N"))
    (tmp_path / "N.cif").rename(tmp_path / f"{name}.cif")
    with pytest.raises(FileFormatError, match="cannot name a kind"):
        simulate_library(measured, SymmetryConfig(library=tmp_path))


def test_files_that_a_system_leaves_beside_others_are_no_structures(tmp_path):
    write(tmp_path / "N.cif", supercell("N"))
    (tmp_path / "._N.cif").write_bytes(b"\x00\x05\x16\x07\xff")
    assert list(read_defect_folder(tmp_path).defects) == ["N"]


@pytest.mark.parametrize(
    "damage",
    [{"n_rotations": 0}, {"vector": [0, 0]}, {"vector": ["a", "b"]}, {"defocus": math.inf}, {"pristine": ".."}, "["],
)
def test_damaged_records_of_a_library_are_refused(tmp_path, measured, damage):
    optics = {"energy": 6e4, "convergence_semiangle": 31.0, "defocus": 0, "detector_outer": 99.0, "scan_extent": 99.0}
    record = optics | {"vector": [0, 2.46], "n_rotations": 6, "probe": "", "pristine": "a", "defects": {"N": "a"}}
    (tmp_path / "a").mkdir()
    text = "[" * 100000 if damage == "[" else json.dumps(record | damage)
    (tmp_path / "library-0.json").write_text(text, encoding="utf-8")
    with pytest.raises(FileFormatError, match="describes no library"):
        simulate_library(measured, SymmetryConfig(library=tmp_path))


def test_a_folder_of_structures_is_a_library_that_can_be_stored(tmp_path, folder, measured, monkeypatch):
    import stemvane.defects.library

    few = tmp_path / "few"
    few.mkdir()
    (few / "nitrogen.cif").write_bytes((folder / "N.cif").read_bytes())
    monkeypatch.setattr(stemvane.defects.library, "LIBRARIES", {"graphene": ("N",)})
    built_in = simulate_library(measured)
    stored = tmp_path / "stored"
    library = simulate_library(measured, SymmetryConfig(library=few), folder=stored)
    assert library.names == ("nitrogen",)
    assert library.scans[0].atoms.defects.kinds == ("nitrogen",)
    assert "in focus" in library.probe
    # the same atoms in the same places, by another way
    np.testing.assert_allclose(library.pristine.com, built_in.pristine.com, atol=1e-4)
    np.testing.assert_allclose(library.scans[0].com, built_in.scans[0].com, atol=0.01)
    monkeypatch.setattr(stemvane.defects.library, "simulate", None)
    again = simulate_library(measured, SymmetryConfig(library=few), folder=stored)
    np.testing.assert_array_equal(again.scans[0].polar, library.scans[0].polar)
    opened = simulate_library(measured, SymmetryConfig(library=stored))
    assert opened.names == ("nitrogen",)
    np.testing.assert_array_equal(opened.scans[0].polar, library.scans[0].polar)
    assert str(stored) in opened.probe
    other = replace(measured, calibration=replace(measured.calibration, energy=80e3))
    with pytest.raises(FileFormatError, match="none fits the scan's 80 keV"):
        simulate_library(other, SymmetryConfig(library=stored))
    (record,) = stored.glob("library-*.json")
    record.write_text(json.dumps({"pristine": 3}), encoding="utf-8")
    with pytest.raises(FileFormatError, match="describes no library"):
        simulate_library(measured, SymmetryConfig(library=stored))


def test_the_probe_is_the_scan_s_own_where_it_tells_it(measured, monkeypatch):
    from stemvane.defects import library

    assert library._defocus(measured, SymmetryConfig())[0] == 0
    found = Aberrations(61.7, 0.3, 20.0, 0.5, 0.4, 0.99)
    monkeypatch.setattr(library, "aberrations_that_matter", lambda _: found)
    defocus, said = library._defocus(measured, SymmetryConfig())
    assert defocus == 62
    assert "as fitted to the scan, without its astigmatism of 20 Å" in said
    assert library._defocus(measured, SymmetryConfig(defocus=-10.0)) == (-10, "defocus -10 Å as set")
