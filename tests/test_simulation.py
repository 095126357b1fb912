import numpy as np
import pytest
from scipy import fft, ndimage

from stemvane.errors import ConfigError
from stemvane.simulation.scattering import interaction_parameter, projected_scattering_factor
from stemvane.simulation.simulate import simulate
from stemvane.simulation.structures import graphene
from stemvane.simulation.synthetic import synthetic

# one orthogonal cell of graphene: a scan over it is periodic
CELL = {"scan_extent": (2.46 * 3**0.5, 2.46), "detector_shape": (32, 32)}


def com(dataset):
    """COM (y, x) in mrad from the calibration alone."""
    a, c = np.asarray(dataset.data, dtype=np.float64), dataset.calibration
    y, x = ((np.arange(n) - at) * size for n, at, size in zip(a.shape[2:], c.optical_axis, c.pixel_size, strict=True))
    moments = np.stack([(a * y[:, None]).sum((2, 3)), (a * x).sum((2, 3))], axis=-1)
    return moments / a.sum((2, 3))[..., None]


def rms(vectors):
    return np.sqrt((vectors**2).sum(-1).mean())


@pytest.fixture(scope="module")
def plain():
    return simulate(**CELL, scan_shape=(12, 8))


def test_graphene_has_three_neighbours_and_is_almost_square():
    sheet = graphene()
    distances = sheet.get_all_distances(mic=True)
    assert np.all((distances < 1.43).sum(axis=1) == 4)
    assert distances[distances > 0].min() == pytest.approx(1.4203, abs=1e-4)
    assert sheet.cell[1, 1] / sheet.cell[0, 0] == pytest.approx(1, abs=0.003)
    with pytest.raises(ConfigError):
        graphene((10.0, -1.0))


def test_com_points_at_the_atoms():
    dataset = simulate(scan_shape=(13, 17), scan_extent=(3.0, 5.5), detector_shape=(32, 32))
    step = dataset.calibration.scan_step
    probes = np.stack(np.meshgrid(np.arange(13) * step[0], np.arange(17) * step[1], indexing="ij"), axis=-1)
    towards = dataset.atoms.positions - probes[:, :, None]
    distance = np.linalg.norm(towards, axis=-1)
    nearest = np.take_along_axis(towards, distance.argmin(-1)[..., None, None], axis=2)[:, :, 0]
    close = (distance.min(-1) > 0.25) & (distance.min(-1) < 0.6)
    measured = com(dataset)
    cosine = (nearest * measured).sum(-1) / np.linalg.norm(nearest, axis=-1) / np.linalg.norm(measured, axis=-1)
    assert close.sum() > 30
    assert cosine[close].min() > 0.9


@pytest.mark.parametrize(
    "changes",
    [{}, {"defocus": 60.0}, {"defocus": -40.0, "cs": 1e5}, {"phonon_sigma": 0.06, "n_phonons": 2}],
    ids=["focus", "underfocus", "overfocus and cs", "phonons"],
)
def test_methods_agree(changes):
    settings = {**CELL, "scan_shape": (4, 5), **changes}
    single, multi = simulate(**settings), simulate(**settings, method="multislice")
    assert rms(com(single) - com(multi)) < 1e-4
    np.testing.assert_allclose(single.data, multi.data, atol=1e-6 * np.asarray(single.data).max() + 1e-7)


def test_defocus_weakens_the_field_and_has_a_sign(plain):
    settings = {**CELL, "scan_shape": (4, 5)}
    under = simulate(**settings, defocus=60.0)
    assert rms(com(under)) < 0.3 * rms(com(plain))
    # (the COM of a weak phase object hardly knows the sign; the patterns, which test_methods_agree compares, do)
    over = simulate(**settings, defocus=-60.0)
    assert np.abs((under.data - over.data).compute()).max() > 0.01 * under.data.max().compute()


def test_potential_is_abtems_where_atoms_lie_on_its_grid():
    import abtem
    from abtem.core.energy import energy2sigma

    from stemvane.config import SimulationConfig
    from stemvane.simulation.optics import Optics
    from stemvane.simulation.propagation import transmission

    sheet = graphene((12.0, 12.0))
    potential = abtem.Potential(sheet, gpts=(5 * 80, 3 * 144), slice_thickness=12.0, projection="infinite")
    projected = potential.build(lazy=False).array.sum(axis=0).T.astype(np.float64)
    expected = fft.fft2(np.exp(1j * energy2sigma(60e3) * projected), norm="forward")[:9, :9]
    optics = Optics.of(SimulationConfig())
    result = fft.fft2(transmission(sheet, (180, 180), (80, 80), optics), norm="forward")[:9, :9]
    bright = np.abs(expected) > 1e-3
    assert bright.sum() >= 3
    np.testing.assert_allclose(result[bright], expected[bright], rtol=5e-4)


def test_atoms_scatter_as_in_abtem():
    from abtem.core.energy import energy2sigma
    from abtem.parametrizations import LobatoParametrization

    theirs, square = LobatoParametrization(), np.linspace(0, 40, 50)
    for symbol in theirs.parameters:
        expected = theirs.projected_scattering_factor(symbol)(square)
        np.testing.assert_allclose(projected_scattering_factor(symbol, square), expected, rtol=1e-6)
    for energy in (20e3, 60e3, 300e3):
        assert interaction_parameter(energy) == pytest.approx(energy2sigma(energy), rel=1e-12)


@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (31, 40), (40, 24)])
def test_pixels_are_square_and_the_axis_is_in_the_middle(shape):
    dataset = simulate(**{**CELL, "detector_shape": shape}, scan_shape=(6, 4), detector_outer=60.0)
    c = dataset.calibration
    assert c.pixel_size == (120 / max(shape), 120 / max(shape))
    assert c.optical_axis == ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    mean = np.asarray(dataset.data, dtype=np.float64).mean((0, 1))
    # the mean over a cell is symmetric about the axis, so it is its own mirror image
    np.testing.assert_allclose(mean, mean[::-1], atol=2e-5 * mean.max())
    np.testing.assert_allclose(mean, mean[:, ::-1], atol=2e-5 * mean.max())
    y, x = ((np.arange(n) - (n - 1) / 2) * c.pixel_size[0] for n in shape)
    disc = np.where(np.hypot(y[:, None], x) < 1.15 * c.convergence_semiangle, mean, 0)
    assert (disc * y[:, None] ** 2).sum() / (disc * x**2).sum() == pytest.approx(1, abs=0.01)


def test_a_coarse_detector_is_the_binned_fine_one(plain):
    fine = simulate(**{**CELL, "detector_shape": (64, 64)}, scan_shape=(12, 8))
    binned = np.asarray(fine.data).reshape(12, 8, 32, 2, 32, 2).sum(axis=(3, 5))
    np.testing.assert_allclose(binned, plain.data, atol=1e-6 * binned.max())


def test_intensity_is_a_fraction_of_the_incident_electrons(plain):
    total = plain.data.sum(axis=(2, 3)).compute()
    assert plain.expectation is None
    assert plain.noiseless
    assert plain.data.dtype == np.float32
    assert 0.99 < total.min() < total.max() < 1
    wide = simulate(**{**CELL, "scan_shape": (2, 2)}, detector_outer=200.0)
    assert wide.data.sum(axis=(2, 3)).compute() == pytest.approx(1, abs=2e-4)


def test_counts_are_poisson_and_follow_the_seed(plain):
    settings = {**CELL, "scan_shape": (12, 8), "dose": 2000.0}
    noisy, again, other = (simulate(**settings, seed=seed) for seed in (1, 1, 2))
    counts, expected = np.asarray(noisy.data), np.asarray(noisy.expectation)
    assert counts.dtype == np.uint16
    assert noisy.electrons_per_pattern == 2000
    np.testing.assert_allclose(expected, 2000 * np.asarray(plain.data), rtol=1e-5)
    np.testing.assert_array_equal(counts, again.data)
    assert np.any(counts != np.asarray(other.data))
    bright = expected > 1
    assert (((counts - expected) ** 2)[bright] / expected[bright]).mean() == pytest.approx(1, abs=0.03)
    assert simulate(**{**CELL, "scan_shape": (1, 1)}, dose=1e8).data.dtype == np.uint32


def test_source_size_blurs_over_the_probe_positions(plain):
    blurred = simulate(**CELL, scan_shape=(12, 8), source_size=0.8)
    steps = np.array(plain.calibration.scan_step)
    sigma = 0.8 / 2.3548 / steps
    # the scan is periodic, so the margin must do what wrapping does
    expected = ndimage.gaussian_filter(
        np.asarray(plain.data, dtype=np.float64),
        sigma,
        axes=(0, 1),
        mode="wrap",
        radius=list(np.ceil(3 * sigma).astype(int)),
    )
    np.testing.assert_allclose(blurred.data, expected, atol=2e-6 * expected.max())
    assert rms(com(blurred)) < 0.8 * rms(com(plain))


def test_thermal_motion_changes_the_com_reproducibly(plain):
    settings = {**CELL, "scan_shape": (12, 8), "phonon_sigma": 0.08, "n_phonons": 3}
    warm, again, other = (simulate(**settings, seed=seed) for seed in (1, 1, 2))
    assert 0.02 < rms(com(warm) - com(plain)) / rms(com(plain)) < 0.6
    np.testing.assert_allclose(warm.data, again.data, atol=1e-9)
    assert rms(com(warm) - com(other)) > 1e-3


def test_progress_counts_every_pattern():
    calls = []
    simulate(**CELL, scan_shape=(3, 4), phonon_sigma=0.05, n_phonons=2, progress=lambda *at: calls.append(at))
    assert calls[-1] == (24, 24)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_atoms_fill_the_scan_and_its_margin(plain):
    positions = plain.atoms.positions
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    inner = np.all((positions > -3.5) & (positions < np.array(CELL["scan_extent"]) + 3.5), axis=1)
    assert inner.sum() > 30
    assert np.all((distances[inner] < 1.43).sum(axis=1) == 4)
    # the first probe stands on the middle of a hexagon
    assert (np.linalg.norm(positions, axis=1) < 1.43).sum() == 6
    assert np.linalg.norm(positions, axis=1).min() == pytest.approx(1.42, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"scan_shap": (2, 2)}, "scan_shap"), ({"energy": -1.0}, "energy"), ({"detector_outer": 10.0}, "detector_outer")],
)
def test_bad_settings_are_named(changes, word):
    with pytest.raises(ConfigError, match=word):
        simulate(**changes)


def test_synthetic_rotates_counter_clockwise_on_the_screen():
    shape = (3, 4)
    angle = np.linspace(0, 5, 12).reshape(shape)
    (plain, truth), (rotated, rotated_truth) = (synthetic(shape, (24, 24), angle=a) for a in (angle, angle + np.pi / 2))
    np.testing.assert_allclose(rotated.data, np.rot90(plain.data.compute(), axes=(2, 3)), atol=1e-9)
    # +90°: what points right, points up; (y, x) → (−x, y)
    np.testing.assert_allclose(rotated_truth.com, truth.com[..., ::-1] * [-1, 1], atol=1e-9)
    assert np.abs(np.asarray(plain.data) - np.asarray(rotated.data)).max() > 0.05 * plain.data.max().compute()


@pytest.mark.parametrize("symmetry", [1, 2, 4])
def test_synthetic_symmetry(symmetry):
    base, truth = synthetic((2, 3), (24, 24), symmetry=symmetry, n_content=3, angle=0.3)
    rotated, _ = synthetic((2, 3), (24, 24), symmetry=symmetry, n_content=3, angle=0.3 + 2 * np.pi / symmetry)
    half, _ = synthetic((2, 3), (24, 24), symmetry=symmetry, n_content=3, angle=0.3 + np.pi / symmetry)
    np.testing.assert_allclose(base.data, rotated.data, atol=1e-9)
    assert np.abs((base.data - half.data).compute()).max() > 0.05 * base.data.max().compute()
    assert truth.content.shape == (3, 2, 3)
    assert np.all((truth.angle >= 0) & (truth.angle < 2 * np.pi / symmetry))


def test_synthetic_truth_and_noise():
    noisy, truth = synthetic((6, 5), (24, 20), dose=500.0, seed=3)
    assert noisy.data.dtype == np.uint16
    assert noisy.expectation.min().compute() >= 0
    assert noisy.expectation.sum(axis=(2, 3)).compute() == pytest.approx(500, rel=0.02)
    np.testing.assert_allclose(
        com(noisy.__class__.from_array(noisy.expectation, calibration=noisy.calibration)), truth.com, atol=1e-5
    )
    assert truth.content[0].min() >= 1 / 3
    with pytest.raises(ConfigError, match="angle"):
        synthetic((2, 3), angle=np.zeros(5))
    with pytest.raises(ConfigError, match="symmetry"):
        synthetic(symmetry=0)


def test_synthetic_structures_that_do_not_rotate():
    shape, detector = (3, 4), (24, 24)
    angle = np.linspace(0, 5, 12).reshape(shape)
    plain, _ = synthetic(shape, detector, angle=angle)
    first, truth = synthetic(shape, detector, angle=angle, n_fixed=2)
    second, other = synthetic(shape, detector, angle=angle + 1, n_fixed=2)
    still = (first.data - plain.data).compute()
    moved = (second.data - synthetic(shape, detector, angle=angle + 1)[0].data).compute()
    assert np.ptp(still) > 0.05 * plain.data.max().compute()
    np.testing.assert_allclose(still, moved, atol=1e-9)
    np.testing.assert_array_equal(truth.fixed, other.fixed)
    assert truth.fixed.shape == (2, *shape)
    # orders 2 and 3 have no first moment; pixels at the disc's edge leave a little
    no_com = synthetic(shape, detector, angle=angle)[1].com
    np.testing.assert_allclose(truth.com, no_com, atol=1e-6)
    with pytest.raises(ConfigError, match="n_fixed"):
        synthetic(n_fixed=-1)
