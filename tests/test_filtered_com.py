"""The deflection as all patterns of a scan tell it."""

from dataclasses import replace

import numpy as np
import pytest

import stemvane as sv
from stemvane.config import Config
from stemvane.errors import DataError
from stemvane.evaluation.com_agreement import compare_angles
from stemvane.features.filtered_com import add_filtered_com
from stemvane.features.scan_frame import ScanFrame, mirror, noise_frequencies, scan_middle
from stemvane.features.shrinkage import estimate_power


def simulated(**changes):
    settings = {"scan_shape": (40, 36), "scan_extent": (6.56, 5.9), "detector_shape": (32, 32), "dose": 10_000.0}
    return sv.simulate(Config().replace(simulation=settings | changes).simulation, progress=False)


def relative_error(deflection, truth):
    off = deflection - truth
    off = off - np.nanmean(off, axis=(0, 1))
    return float(np.sqrt(np.nanmean(off**2) / np.nanmean(truth**2)))


@pytest.fixture(scope="module")
def graphene():
    return sv.measure(simulated())


@pytest.fixture(scope="module")
def filtered(graphene):
    return graphene.filtered_com()


def test_it_is_far_better_than_the_com_of_each_pattern(graphene, filtered):
    truth = graphene.expectation.deflection
    assert relative_error(filtered.deflection, truth) < 0.3 * relative_error(graphene.deflection, truth)
    angle = compare_angles(filtered.angle, truth, noiseless=True)
    assert angle.error_median_deg < 4
    assert angle.sign == 1


def test_the_shared_potential_has_its_atoms_where_they_are(graphene, filtered):
    """The atoms of a noiseless dark field, whatever the sign that the features leave open."""
    image = graphene.expectation.maps["annular_dark_field"]
    assert np.corrcoef(filtered.potential.ravel(), np.asarray(image).ravel())[0, 1] > 0.8
    assert 0 < np.median(filtered.potential_std) < 0.3 * filtered.potential.std()
    mirrored = replace(
        graphene, maps={name: values[:, ::-1] for name, values in graphene.maps.items()}, polar=graphene.polar[:, ::-1]
    )
    maps = add_filtered_com(mirrored).maps
    assert np.corrcoef(maps["shared_potential"][:, ::-1].ravel(), filtered.potential.ravel())[0, 1] > 0.95


def test_its_error_is_about_what_it_says(graphene, filtered):
    off = (filtered.deflection - graphene.expectation.deflection)[4:-4, 4:-4]
    ratio = off / filtered.std[4:-4, 4:-4, None]
    assert 0.5 < np.sqrt((ratio**2).mean()) < 1.5
    assert np.sqrt(np.mean(filtered.std**2)) < 0.3 * np.std(graphene.deflection - graphene.expectation.deflection)


def test_missing_positions_count_nowhere_and_are_nan(graphene, filtered):
    recorded = np.ones(graphene.scan_shape, bool)
    recorded[10:14, 20:22], recorded[5, 5] = False, False
    maps = {name: np.where(recorded, values, np.nan) for name, values in graphene.maps.items()}
    polar = np.where(recorded[..., None, None], graphene.polar[:], 1e6)
    with_gaps = sv.filter_com(replace(graphene, maps=maps, polar=polar))
    assert np.isnan(with_gaps.deflection[~recorded]).all()
    assert np.isnan(with_gaps.std[~recorded]).all()
    truth = np.where(recorded[..., None], graphene.expectation.deflection, np.nan)
    assert relative_error(with_gaps.deflection, truth) < 1.3 * relative_error(filtered.deflection, truth)


def test_a_mirrored_scan_is_filtered_alike(graphene, filtered):
    flipped = replace(
        graphene, maps={name: values[::-1] for name, values in graphene.maps.items()}, polar=graphene.polar[::-1]
    )
    again = sv.filter_com(flipped).deflection[::-1]
    assert relative_error(again, filtered.deflection) < 0.05


def test_a_coarse_scan_is_no_worse_than_the_com():
    measured = sv.measure(simulated(scan_shape=(12, 12), scan_extent=(7.2, 7.2), dose=20_000.0))
    truth = measured.expectation.deflection
    result = sv.filter_com(measured)
    assert relative_error(result.deflection, truth) <= relative_error(measured.deflection, truth)


def test_without_noise_the_com_stays_as_it_is():
    measured = sv.measure(simulated(dose=None, scan_shape=(16, 16), scan_extent=(2.6, 2.6)))
    result = sv.filter_com(measured)
    assert not result.is_filtered
    np.testing.assert_array_equal(result.deflection, measured.deflection)
    assert add_filtered_com(measured) is measured


def test_the_error_of_a_com_that_stays_is_that_of_single_electrons():
    measured = sv.measure(simulated(scan_shape=(16, 16), scan_extent=(2.6, 2.6), dose=1e8))
    result = sv.filter_com(measured)
    off = measured.deflection - measured.expectation.deflection
    assert not result.is_filtered
    assert result.std.mean() == pytest.approx(off.std(), rel=0.25)


def test_a_scan_of_a_few_positions_stays_as_it_is(graphene):
    few = replace(
        graphene,
        maps={name: values[:4, :9] for name, values in graphene.maps.items()},
        polar=graphene.polar[:4, :9],
        expectation=None,
    )
    assert not sv.filter_com(few).is_filtered


def test_features_without_noise_of_their_own_end_in_no_nan(graphene):
    """Patterns that were smoothed until nothing but their COM is noisy."""
    polar = np.broadcast_to(graphene.polar[:].mean(axis=-1, keepdims=True).mean(axis=(0, 1)), graphene.polar.shape)
    y = np.arange(graphene.scan_shape[0])[:, None, None, None]
    smooth = replace(graphene, polar=(polar * (1 + 0.1 * np.sin(y / 3))).astype(np.float32))
    assert np.isfinite(sv.filter_com(smooth).deflection).all()


def test_nothing_but_noise_is_next_to_nothing():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.where(np.hypot(y, x) < 9, 20.0, 0.02)
    dataset = sv.Dataset4D.from_array(rng.poisson(disc, (32, 32, 32, 32)).astype(np.float32))
    measured = sv.measure(dataset)
    result = sv.filter_com(measured)
    assert np.std(result.deflection) < 0.2 * np.std(measured.deflection)


def test_wrong_arguments_get_one_line(graphene):
    with pytest.raises(DataError, match="polar"):
        sv.filter_com(replace(graphene, polar=None))
    with pytest.raises(DataError, match="measure"):
        sv.filter_com(graphene.maps["com_y"])


def test_maps_of_a_run_have_units_and_make_the_field(graphene):
    added = add_filtered_com(graphene)
    assert added.units["com_filtered_std"] == "mrad"
    np.testing.assert_array_equal(added.filtered_deflection[..., 0], added.maps["com_filtered_y"])
    calibrated = replace(added, calibration=replace(added.calibration, scan_rotation=0.0))
    plain = replace(graphene, calibration=calibrated.calibration)
    smooth, rough = (sv.field_maps(m).maps["divergence"] for m in (calibrated, plain))
    truth = sv.field_maps(replace(graphene.expectation, calibration=calibrated.calibration)).maps["divergence"]
    assert np.std(smooth - truth) < 0.3 * np.std(rough - truth)


def test_channels_of_a_thin_specimen_are_its_spectrum_times_real_numbers():
    rng = np.random.default_rng(1)
    orders, shape = np.array([0, 1, 3]), (12, 10)
    frame = ScanFrame(orders, shape, (0.5, 0.4))
    potential = np.fft.fft2(rng.normal(size=shape))
    transfer = np.array([0.5, 1 + 2j, -0.3j])[:, None, None]
    # the highest frequencies of an even axis are their own opposites, and have no direction
    whole = frame.frequency * 0 + 1
    whole[6], whole[:, 5] = 0, 0
    spectrum = transfer * np.conj(frame.phases) * potential * whole
    spectrum[0] = spectrum[0].real + 1j * spectrum[0].imag
    channels = frame.channels(spectrum)
    used = (whole > 0) & (frame.frequency > 0)
    ratio = channels[:, used] / potential[used]
    np.testing.assert_allclose(ratio.imag, 0, atol=1e-5)
    np.testing.assert_allclose(ratio.real.mean(axis=1), [0.5, 1, 0, 2, -0.3], atol=1e-5)
    np.testing.assert_allclose(frame.responses(channels)[:, used], spectrum[:, used], atol=1e-4)
    assert mirror(mirror(spectrum)).tolist() == spectrum.tolist()


def test_frequencies_beyond_the_band_limit_and_the_taper_hold_noise_alone():
    empty = noise_frequencies((64, 32), (0.2, 0.2), 1.25)
    frequency = np.hypot(np.fft.fftfreq(64, 0.2)[:, None], np.fft.fftfreq(32, 0.2))
    np.testing.assert_array_equal(empty, frequency > 1.25 + 2 / (32 * 0.2))
    assert noise_frequencies((64, 32), (0.2, 0.2), None) is None
    # 251 of these 400 frequencies are beyond, too few to tell a variance to 5 %
    assert noise_frequencies((20, 20), (0.2, 0.2), 1.25) is None


def test_the_middle_of_an_axis_is_all_of_a_short_one():
    assert scan_middle(64) == slice(0, 64)
    assert scan_middle(512) == slice(128, 384)


def test_power_is_found_where_it_is_and_nowhere_else():
    rng = np.random.default_rng(2)
    power = np.zeros(2000)
    power[:20] = 100
    squares = (power + 1) * rng.exponential(size=2000)
    estimate = estimate_power(squares, np.zeros(2000, int), 1.0, 1.0)
    gain = estimate / (estimate + 1)
    assert gain[20:].mean() < 0.1
    assert np.median(gain[:20]) > 0.95
    assert (estimate_power(squares, np.full(2000, -1), 1.0, 1.0) == 0).all()
