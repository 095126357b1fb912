"""Settings: TOML in and out, and messages that fit on one line."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from stemvane import Calibration, Config
from stemvane.config import (
    MODEL_CONFIGS,
    CoordinateConfig,
    HarmonicConfig,
    MeasureConfig,
    NMFConfig,
    PCAConfig,
    PreparationConfig,
    SimulationConfig,
)
from stemvane.errors import CalibrationError, ConfigError

PAIRS = ("scan_step", "pixel_size", "optical_axis")


def message(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_files_are_named_by_text_or_path(tmp_path):
    for name in (tmp_path / "dark.npy", str(tmp_path / "dark.npy")):
        config = PreparationConfig.from_dict({"dark": name})
        assert config.dark == str(name)
        assert config.files() == (tmp_path / "dark.npy",)
    for value in (np.zeros((4, 4)), 3, None):
        with pytest.raises(ConfigError, match=r"'dark' is .*; give the name of a file; an array can be saved"):
            PreparationConfig.from_dict({"dark": value})
    with pytest.raises(ConfigError, match=r"masks\.left.*give the name of a file"):
        MeasureConfig.from_dict({"masks": {"left": 1}})


def test_defaults_come_back_from_toml(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(Config().to_toml(), encoding="utf-8")
    assert Config.from_toml(path) == Config()


def test_other_values_come_back_from_toml(tmp_path):
    config = Config().replace(
        source={"path": "scän.h5", "scan_step": (0.2, 0.3), "energy": 8e4},
        simulation={"scan_shape": (3, 5), "dose": 1e4},
        measure={"n_radial": 20},
        basis={"drop_orders": (1, 6)},
        model={"n_latent": 3, "start": "random"},
        training={"n_epochs": 0, "holdout": 0.25},
    )
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    again = Config.from_toml(path)
    assert again == config
    assert again.simulation.scan_shape == (3, 5)
    assert again.basis.drop_orders == (1, 6)


def test_every_setting_stands_in_the_file():
    text = Config().to_toml()
    for name, section in Config():
        assert f"[{name}]" in text
        for setting, value in section:
            # a mapping is a table of its own
            entry = f"\n[{name}.{setting}]" if isinstance(value, dict) else f"\n{setting} ="
            assert value is None or entry in text


def test_sections_follow_the_data():
    assert list(Config.model_fields)[:5] == ["source", "simulation", "preparation", "survey", "measure"]


def test_a_part_of_a_file_is_enough(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[model]\nn_latent = 1\n", encoding="utf-8")
    config = Config.from_toml(path)
    assert config.model.n_latent == 1
    assert config.training == Config().training


def test_unknown_key_is_named_with_the_known_ones():
    text = message(Config.from_dict, {"model": {"n_latents": 2}}, "my.toml")
    assert text.startswith("my.toml: unknown setting 'model.n_latents'; known here are model, n_latent, ")
    text = message(Config.from_dict, {"modell": {}})
    assert "unknown setting 'modell'" in text
    assert "source, simulation, preparation, survey" in text


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [
        ("model", "n_latent", -1),
        ("model", "start", "anywhere"),
        ("training", "holdout", 1.0),
        ("training", "n_epochs", "many"),
        ("align", "n_angles", 4),
        ("simulation", "convergence_semiangle", 0.0),
        ("source", "scan_step", (0.1,)),
    ],
)
def test_value_out_of_range_is_named(section, setting, value):
    text = message(Config.from_dict, {section: {setting: value}})
    assert f"{section}.{setting}" in text
    assert repr(value) in text or repr(value[0] if isinstance(value, tuple) else value) in text or "Field" in text


def test_values_that_do_not_fit_together():
    text = message(Config.from_dict, {"simulation": {"detector_outer": 20.0}})
    assert "give a detector_outer that is larger than convergence_semiangle" in text
    assert "Value error" not in text


def test_broken_toml(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[model\nn_latent = ", encoding="utf-8")
    assert f"{path}: not valid TOML" in message(Config.from_toml, path)


def test_file_that_cannot_be_read(tmp_path):
    assert "cannot be read (No such file or directory)" in message(Config.from_toml, tmp_path / "none.toml")
    assert "cannot be read" in message(Config.from_toml, tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[source]\npath = "\xe4"\n')
    assert "not UTF-8" in message(Config.from_toml, path)


def test_updated_checks_again_and_leaves_the_old_as_it_was():
    config = Config()
    assert config.replace(model={"n_latent": 5}).model.n_latent == 5
    assert config.model.n_latent == 2
    assert "model.n_latent" in message(lambda: config.replace(model={"n_latent": -5}))
    assert "unknown setting 'modes'" in message(lambda: config.replace(modes={}))


def test_sections_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Config().model.n_latent = 3
    with pytest.raises(ValidationError, match="frozen"):
        SimulationConfig().dose = 3.0


def test_every_setting_is_described():
    for section in [*(type(section) for _, section in Config()), *MODEL_CONFIGS.values()]:
        for name, field in section.model_fields.items():
            assert field.description, name


def numbers():
    """Every setting that takes a float, and how it is written in TOML: alone, within a pair or by name."""
    for section, values in Config():
        for name, field in type(values).model_fields.items():
            if "float" in str(field.annotation):
                words = str(field.annotation)
                yield section, name, "[1.0, {}]" if "tuple" in words else "{{N = {}}}" if "dict" in words else "{}"


def test_there_are_settings_that_take_floats():
    forms = {(section, name): form for section, name, form in numbers()}
    assert forms["source", "optical_axis"] == "[1.0, {}]"
    assert forms["simulation", "cs"] == forms["model", "beta"] == "{}"
    assert forms["simulation", "concentrations"] == "{{N = {}}}"


@pytest.mark.parametrize("bad", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(("section", "setting", "form"), list(numbers()))
def test_numbers_are_finite(tmp_path, section, setting, form, bad):
    path = tmp_path / "settings.toml"
    path.write_text(f"[{section}]\n{setting} = {form.format(bad)}\n", encoding="utf-8")
    text = message(Config.from_toml, path)
    assert text.startswith(f"{path}: '{section}.{setting}")
    assert f"is {bad}; give a finite number" in text


def test_the_users_calibration_is_in_the_units_of_calibration():
    assert Config().source.calibration() == {}
    source = Config().replace(source={"path": "a.h5", "optical_axis": (0, 31.5), "scan_rotation": -90}).source
    assert source.calibration() == {"optical_axis": (0, 31.5), "scan_rotation": pytest.approx(-math.pi / 2)}
    # distortion is a switch of the preparation
    names = [name for name in Calibration.__dataclass_fields__ if name != "ellipse"]
    full = Config().replace(source=dict.fromkeys(names, 2) | dict.fromkeys(PAIRS, (2, 3)))
    assert sorted(full.source.calibration()) == sorted(names)
    Calibration(**full.source.calibration())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_calibration_rotates_by_a_finite_angle(value):
    with pytest.raises(CalibrationError, match=r"scan_rotation is .*; it must be finite"):
        Calibration(scan_rotation=value)


def test_every_model_has_its_own_settings_and_defaults():
    assert Config().model == HarmonicConfig()
    assert list(MODEL_CONFIGS) == ["harmonic", "coordinate", "vae", "pca", "nmf", "alignment", "kinds"]
    for name, section in MODEL_CONFIGS.items():
        config = Config().replace(model={"model": name, "n_latent": 3})
        assert config.model == section(n_latent=3)
        assert Config.from_dict({"model": {"model": name}}).model == section()
        assert config.model.learns_pixels == (name not in ("harmonic", "alignment", "kinds"))
    assert set(PCAConfig.model_fields) == set(NMFConfig.model_fields) == {"model", "n_latent"}


def test_another_model_starts_from_its_own_defaults_and_takes_over_what_was_chosen():
    chosen = Config().replace(model={"n_latent": 5, "beta": 2.0, "start": "random"})
    other = chosen.replace(model={"model": "coordinate"})
    assert other.model == CoordinateConfig(n_latent=5, beta=2.0)
    assert (other.model.n_hidden, other.model.batch_size, other.model.learning_rate) == (128, 256, 1e-4)
    assert other.replace(model={"model": "harmonic"}).model == HarmonicConfig(n_latent=5, beta=2.0)
    assert chosen.replace(model={"model": "pca", "n_latent": 1}).model == PCAConfig(n_latent=1)


def test_a_setting_of_another_model_is_named_with_the_model():
    text = message(lambda: Config().replace(model={"model": "pca", "start": "random"}))
    assert "model 'pca' has no setting 'model.start'" in text
    text = message(lambda: Config().replace(model={"model": "alignment"}, training={"learning_rate": 0.1}))
    assert "model 'alignment' has no setting 'model.learning_rate'" in text
    text = message(Config.from_dict, {"model": {"model": "umap"}})
    assert "'model.model' is 'umap'" in text
    assert "alignment" in text


def test_a_file_with_one_section_for_all_models_is_read(tmp_path):
    """As written when batch size and learning rate were settings of the training, and all models shared a section."""
    shared = "n_latent = 2\nn_angles = 72\nn_hidden = {}\nbeta = 1.0\nangle_prior = 0.1\ntranslation = 0.0\n"
    shared += 'noise_floor = 0.05\nstart = "alignment"\n[training]\nn_epochs = 9\nbatch_size = {}\nlearning_rate = {}\n'
    path = tmp_path / "config.toml"
    for name, numbers in (
        ("harmonic", (32, 100, 0.01)),
        ("coordinate", (128, 256, 0.001)),
        ("pca", (64, 512, 0.008)),
        ("alignment", (64, 512, 0.008)),
    ):
        path.write_text(f'[model]\nmodel = "{name}"\n' + shared.format(*numbers), encoding="utf-8")
        config = Config.from_toml(path)
        assert config.training.n_epochs == 9
        assert config.model.model == name
        if "n_hidden" in MODEL_CONFIGS[name].model_fields:
            assert (config.model.n_hidden, config.model.batch_size, config.model.learning_rate) == numbers
    path.write_text('[model]\nmodel = "pca"\n' + shared.format(64, 32, 0.008), encoding="utf-8")
    assert "model 'pca' has no setting 'model.batch_size'" in message(Config.from_toml, path)
