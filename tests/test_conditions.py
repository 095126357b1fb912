"""Content that known maps account for."""

from dataclasses import replace

import numpy as np
import pytest

import stemvane as sv
from stemvane import Config, Dataset4D, measure, synthetic
from stemvane.config import AlignmentConfig, HarmonicConfig
from stemvane.errors import DataError


@pytest.fixture(scope="module")
def measured():
    """A scan whose outer ring brightens with a map that has nothing to do with angle or latents."""
    dataset, _ = synthetic((20, 20), (32, 32), dose=None, seed=3)
    thickness = np.random.default_rng(0).normal(size=(20, 20))
    y, x = np.indices((32, 32)) - 15.5
    ring = np.exp(-(((np.hypot(y, x) - 9) / 2) ** 2))
    patterns = np.asarray(dataset.data) * (1 + 0.1 * thickness[..., None, None] * ring)
    found = measure(Dataset4D.from_array(patterns, calibration=dataset.calibration), polar=True)
    maps = {**found.maps, "thickness": thickness, "flat": np.ones((20, 20))}
    return replace(found, maps=maps, units={**found.units, "thickness": "", "flat": ""})


def fitted(measured, *conditions):
    model = sv.RotationVAE(2, model=HarmonicConfig(conditions=conditions), training=Config().training)
    return model.fit(measured)


def correlations(embedding, values):
    return [abs(np.corrcoef(embedding.latents[..., k].ravel(), values.ravel())[0, 1]) for k in range(2)]


def test_latents_leave_out_what_a_map_accounts_for(measured, tmp_path):
    thickness = measured.maps["thickness"]
    plain, conditioned = fitted(measured), fitted(measured, "thickness")
    assert max(correlations(plain.embed(measured), thickness)) > 0.9
    embedding = conditioned.embed(measured)
    assert max(correlations(embedding, thickness)) < 0.1
    # two latents explain more where one of them is not needed for the map, whose content is drawn again
    residual, of_plain = conditioned.misfit(measured).residual.sum(), plain.misfit(measured).residual.sum()
    assert residual < 0.7 * of_plain
    again = sv.load_model(conditioned.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.embed(measured).latents, embedding.latents)
    part = np.zeros((20, 20), bool)
    part[4:8, 3:11] = True
    some, all_of_them = (again.embed(measured, mask=mask, rescale=False).latents for mask in (part, None))
    np.testing.assert_allclose(some[part], all_of_them[part], atol=1e-4)


def test_a_condition_is_a_known_map_that_varies(measured):
    with pytest.raises(DataError, match=r"no map 'tilt'.*may name .*thickness"):
        fitted(measured, "tilt")
    with pytest.raises(DataError, match="the same everywhere"):
        fitted(measured, "flat")
    with pytest.raises(DataError, match="follow from each other"):
        fitted(measured, "thickness", "thickness")
    maps = {**measured.maps, "thickness": np.where(np.arange(20) < 2, np.nan, measured.maps["thickness"])}
    with pytest.raises(DataError, match="unknown at 40 of 400 positions"):
        fitted(replace(measured, maps=maps), "thickness")
    maps = {**measured.maps, "thickness": np.ones((3, 3))}
    with pytest.raises(DataError, match=r"has the shape \(3, 3\), the scan \(20, 20\)"):
        fitted(replace(measured, maps=maps), "thickness")


def test_a_map_of_two_values_is_a_condition(measured):
    halves = {**measured.maps, "left": np.repeat([[0.0] * 10 + [1.0] * 10], 20, axis=0)}
    model = sv.AlignedPCA(1, model=AlignmentConfig(conditions=("left",)))
    assert np.isfinite(model.fit(replace(measured, maps=halves)).embed(replace(measured, maps=halves)).latents).all()


def test_conditions_are_words_of_a_list():
    assert HarmonicConfig(conditions="image, total").conditions == ("image", "total")
    assert Config().replace(model={"conditions": ["image"]}).model.conditions == ("image",)
