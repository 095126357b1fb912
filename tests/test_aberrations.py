"""Defocus and astigmatism of the probe, found in the patterns, and what the filter makes of them."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.denoise.scans import Scan, simulated

import stemvane as sv
from stemvane.data.deflection_angle import deflection_angle
from stemvane.data.embedding import Embedding
from stemvane.errors import DataError
from stemvane.evaluation.metrics import aberration_metrics
from stemvane.evaluation.verdict import judge
from stemvane.features.filtered_com import add_filtered_com

SETTINGS = {"scan_shape": (40, 40), "scan_extent": (6.5, 6.5), "detector_shape": (32, 32), "dose": 5e4}


def measured(astigmatism=0.0, **changes):
    return sv.measure(simulated(Scan(SETTINGS | changes, astigmatism=astigmatism), seed=0))


@pytest.fixture(scope="module")
def astigmatic():
    return measured(defocus=60.0, astigmatism=20.0)


@pytest.mark.parametrize("defocus", [0.0, 60.0, -50.0])
def test_the_defocus_is_found_with_its_sign(defocus):
    found = sv.fit_aberrations(measured(defocus=defocus))
    assert found.defocus == pytest.approx(defocus, abs=3 * found.defocus_std + 1.0)
    assert found.defocus_std < 2
    assert found.astigmatism < 3
    assert found.agreement > 0.95


def test_astigmatism_is_found_with_its_direction(astigmatic):
    found = sv.fit_aberrations(astigmatic)
    # findings and metrics ask for the same
    assert sv.fit_aberrations(astigmatic) is found
    assert found.is_astigmatic
    assert found.astigmatism == pytest.approx(20, abs=2)
    assert np.degrees(found.astigmatism_angle) == pytest.approx(90, abs=4)
    assert found.defocus == pytest.approx(60, abs=2)
    assert "largest at" in str(found)


def test_the_rotation_of_the_scan_turns_the_astigmatism(astigmatic):
    """Positions in another order: a scan that is rotated by 90° against the detector."""
    rotated = replace(
        astigmatic,
        maps={name: np.rot90(values) for name, values in astigmatic.maps.items()},
        polar=np.rot90(astigmatic.polar),
        calibration=astigmatic.calibration.replace(scan_rotation=np.pi / 2),
    )
    found, before = sv.fit_aberrations(rotated), sv.fit_aberrations(astigmatic)
    assert found.defocus == pytest.approx(before.defocus, abs=0.5)
    assert found.astigmatism_angle == pytest.approx(before.astigmatism_angle, abs=0.05)


def test_out_of_focus_the_filter_takes_the_probe_that_it_has_found(astigmatic):
    truth = astigmatic.expectation.deflection
    off = sv.filter_com(astigmatic).deflection - truth
    # 0.28 with a transfer that is the same in all directions
    assert np.sqrt((off**2).sum() / (truth**2).sum()) < 0.15


def test_what_tells_nothing_is_said(astigmatic):
    with pytest.raises(DataError, match="scan step"):
        sv.fit_aberrations(replace(astigmatic, calibration=astigmatic.calibration.replace(scan_step=None)))
    few = {name: values[:8] for name, values in astigmatic.maps.items()}
    with pytest.raises(DataError, match="16 positions"):
        sv.fit_aberrations(replace(astigmatic, maps=few, polar=astigmatic.polar[:8]))


def test_a_run_has_them_among_its_metrics(astigmatic):
    metrics = aberration_metrics(astigmatic)
    assert metrics["defocus"] == pytest.approx(60, abs=2)
    assert metrics["astigmatism_angle_deg"] == pytest.approx(90, abs=4)
    unknown = aberration_metrics(replace(astigmatic, calibration=astigmatic.calibration.replace(energy=None)))
    assert set(unknown) == set(metrics)
    assert not any(unknown.values())


def test_angles_that_defocus_parts_are_no_failure(astigmatic):
    """The content's angle has no direction of the COM then, and both are given."""
    angle, std = deflection_angle(astigmatic)
    shape, latents = angle.shape, np.zeros((*angle.shape, 1))
    random = np.random.default_rng(0).uniform(-np.pi, np.pi, shape)
    small, posterior = np.full(shape, 0.05), np.full((*shape, 8), 1 / 8)
    of_com = {"deflection_angle": angle, "deflection_angle_std": std}
    embedding = Embedding(latents, latents, random, small, posterior, np.zeros(shape), **of_com)
    severities = {finding.id: finding.severity for finding in judge(add_filtered_com(astigmatic), embedding)}
    assert severities["angles_differ"] == "note"
    assert "angle_contradicts_com" not in severities
