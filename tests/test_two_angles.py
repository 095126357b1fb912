"""The angle of the content and that of the COM, each with its uncertainty."""

from dataclasses import replace

import numpy as np
import pytest
import zarr

import stemvane as sv
from stemvane.config import Config
from stemvane.data.deflection_angle import deflection_angle, direction_std
from stemvane.data.embedding import Embedding
from stemvane.evaluation.com_agreement import angle_difference, compare
from stemvane.evaluation.verdict import judge

SETTINGS = {"scan_shape": (24, 24), "scan_extent": (3.9, 3.9), "detector_shape": (32, 32), "dose": 1e5}


@pytest.fixture(scope="module")
def measured():
    return sv.measure(sv.simulate(Config().replace(simulation=SETTINGS).simulation, progress=False))


def embedding_of(measured, turned, std=0.05):
    """An embedding whose angle is that of the noiseless COM, mirrored, and rotated further by `turned`."""
    angle, of_com_std = deflection_angle(measured)
    shape, spread = angle.shape, np.full(angle.shape, std)
    content = -measured.expectation.com_angle + turned
    latents, posterior = np.zeros((*shape, 1)), np.full((*shape, 8), 1 / 8)
    of_com = {"deflection_angle": angle, "deflection_angle_std": of_com_std}
    return Embedding(latents, latents, content, spread, posterior, np.zeros(shape), **of_com)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0, 40.0])
def test_the_spread_of_a_direction_is_that_of_drawn_vectors(ratio):
    rng = np.random.default_rng(0)
    angle = np.arctan2(rng.standard_normal(200_000), ratio + rng.standard_normal(200_000))
    drawn = np.sqrt(-2 * np.log(np.abs(np.exp(1j * angle).mean())))
    assert direction_std(np.array([ratio]), np.ones(1))[0] == pytest.approx(drawn, rel=0.02)


def test_a_direction_without_noise_is_certain_and_without_a_vector_unknown():
    np.testing.assert_allclose(
        direction_std(np.array([1.0, 0.0, np.nan]), np.array([0.0, 1.0, 1.0])), [0, np.inf, np.nan]
    )


def test_the_direction_of_the_measured_com_is_as_uncertain_as_it_says(measured):
    angle, std = deflection_angle(measured)
    error = np.abs(np.angle(np.exp(1j * (angle - measured.expectation.com_angle))))
    sure = std < 0.3
    assert np.mean(error[sure] < std[sure]) == pytest.approx(0.68, abs=0.06)
    quiet = replace(measured, noiseless=True)
    assert not deflection_angle(quiet)[1].any()


def test_two_angles_differ_where_they_are_rotated_apart(measured):
    turned = np.zeros(measured.scan_shape)
    turned[:2] = 1.0
    apart = angle_difference(embedding_of(measured, turned), measured)
    known = apart.std < 0.2
    assert apart.differs[:2][known[:2]].mean() > 0.95
    assert apart.differs[2:][known[2:]].mean() < 0.3
    metrics = compare(embedding_of(measured, 0.3), measured)
    assert metrics["angle_differs_share"] < 0.1
    assert metrics["angle_std_median_deg"] == pytest.approx(np.degrees(0.05))
    assert metrics["deflection_angle_std_median_deg"] == pytest.approx(
        np.degrees(np.median(deflection_angle(measured)[1]))
    )
    assert angle_difference(replace(embedding_of(measured, 0.0), symmetry=3), measured) is None


def test_what_differs_is_a_note(measured):
    rng = np.random.default_rng(1)
    bent = 0.15 * rng.standard_normal(measured.scan_shape)
    assert "angles_differ" in [finding.id for finding in judge(measured, embedding_of(measured, bent, std=0.001))]
    assert "angles_differ" not in [finding.id for finding in judge(measured, embedding_of(measured, 0.0))]


def test_both_are_kept_in_a_file(measured, tmp_path):
    embedding = embedding_of(measured, 0.0)
    group = zarr.open_group(tmp_path / "embedding.zarr", mode="w")
    embedding.write(group)
    again = Embedding.read(group)
    np.testing.assert_allclose(again.deflection_angle, embedding.deflection_angle, atol=1e-6)
    assert "angle of the COM" in str(embedding)
    older = replace(embedding, deflection_angle=None, deflection_angle_std=None)
    older.write(zarr.open_group(tmp_path / "older.zarr", mode="w"))
    assert Embedding.read(zarr.open_group(tmp_path / "older.zarr")).deflection_angle is None
