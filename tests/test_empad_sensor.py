"""Words of an EMPAD-G2 with the calibration of its sensor: what was recorded comes back, or one line says why not."""

import h5py
import numpy as np
import pytest

from stemvane import open_dataset
from stemvane.errors import DataError, FileFormatError

SIDE = 128
LINEAR = ("G1A", "G1B", "G2A", "G2B", "B2A", "B2B")
QUADRATIC = ("Ml", "alpha", "Md", "Oh", "Ot")
# as the two recorded sensors have them, up to the rounding of one analogue step at low gain
SLOPE, CURVATURE, STEP, DARK = 18.0, 1.6e-4, 105_000.0, 7800.0
NOISE = 40.0


def pixels(random, value, spread):
    return (value * (1 + spread * random.standard_normal((SIDE, SIDE)))).astype(np.float32)


def stored(random, value, spread):
    return np.stack([pixels(random, value, spread) for _ in range(2)], axis=2)


def make_sensor(path, random, model):
    """A calibration as the package empad2 keeps it; both stores differ in every pixel."""
    flat = {name: pixels(random, 1.0, 0.03) for name in ("FFA", "FFB")}
    if model == "linear":
        values = dict(zip(LINEAR, (SLOPE, SLOPE, STEP, STEP, DARK, DARK), strict=True))
        arrays = {name: pixels(random, value, 0.03) for name, value in values.items()}
    else:
        values = dict(zip(QUADRATIC, (SLOPE, CURVATURE, STEP, -124_000.0, 7900.0), strict=True))
        arrays = {name: stored(random, value, 0.03) for name, value in values.items()}
    with h5py.File(path, "w") as file:
        for name, array in (arrays | flat).items():
            file[name] = array
    return arrays | flat


def low_gain(charge, sensor, model, store):
    """The analogue value that stands for a charge at low gain: the model of the sensor, solved for it."""
    if model == "linear":
        which = "AB"[store]
        return charge / sensor[f"G1{which}"] + sensor[f"B2{which}"]
    a, b, c = sensor["alpha"][..., store], sensor["Ml"][..., store], sensor["Oh"][..., store] - charge
    # as at high gain, the offset of both stores is subtracted with the background
    return (-b + np.sqrt(b**2 - 4 * a * c)) / (2 * a)


def record(charges, sensor, model, random, offsets):
    """Words of what pixels collect: first at high gain, then at low gain, then with whole steps removed and counted."""
    dark = [pixels(random, DARK, 0.02), pixels(random, DARK + 200, 0.02)]
    words = np.zeros(charges.shape, np.uint32)
    for i, charge in enumerate(charges):
        store = i % 2
        step = sensor[f"G2{'AB'[store]}"] if model == "linear" else sensor["Md"][..., store]
        removals = np.floor(charge / step)
        rest = charge - removals * step
        at_low = charge > 4000
        high = dark[store] + rest + offsets[i] + NOISE * random.standard_normal(charge.shape)
        # charge and dark level both are converted at low gain
        low = low_gain(rest + dark[store], sensor, model, store)
        analogue = np.rint(np.where(at_low, low, high)).astype(np.uint32)
        assert analogue.max() < 1 << 14
        words[i] = analogue | removals.astype(np.uint32) << 14 | 1 << 30 | at_low.astype(np.uint32) << 31
    return words


@pytest.fixture(params=["linear", "quadratic"])
def recorded(request, tmp_path):
    """A scan of 3 x 5, an odd number of columns, so that the stores differ from line to line; and a background."""
    random = np.random.default_rng(0)
    sensor = make_sensor(tmp_path / "sensor.h5", random, request.param)
    charges = np.zeros((15, SIDE, SIDE), np.float32)
    charges[:, 50:70, 50:60] = random.uniform(500, 3000, (15, 20, 10))
    charges[:, 50:70, 60:65] = random.uniform(8000, 60_000, (15, 20, 5))
    charges[:, 50:70, 65:70] = random.uniform(120_000, 3_000_000, (15, 20, 5))
    offsets = random.uniform(-90, 90, 15)
    state = random.bit_generator.state
    record(charges, sensor, request.param, random, offsets).astype("<u4").tofile(tmp_path / "scan.raw")
    # the same dark level of each pixel, without electrons
    random.bit_generator.state = state
    record(np.zeros((60, SIDE, SIDE), np.float32), sensor, request.param, random, np.zeros(60)).astype("<u4").tofile(
        tmp_path / "dark.raw"
    )
    flat = np.stack([sensor["FFA"], sensor["FFB"]])
    return tmp_path, charges * flat[np.arange(15) % 2]


def test_words_become_what_was_recorded(recorded):
    folder, charges = recorded
    opened = open_dataset(
        folder / "scan.raw", scan_shape=(3, 5), sensor=folder / "sensor.h5", background=folder / "dark.raw"
    )
    frames = opened.data.compute().reshape(15, SIDE, SIDE)
    assert frames.dtype == np.float32
    off = frames - charges
    # noise, its mean in the background, and half of an analogue step of low gain
    assert np.abs(off).max() < 7 * NOISE
    assert abs(off.mean()) < 0.05 * NOISE
    # a block from within the scan is the same: the stores are counted from the file's beginning
    np.testing.assert_array_equal(opened.data[1, 1:4].compute(), frames[6:9])
    skipped = open_dataset(
        folder / "scan.raw",
        scan_shape=(2, 5),
        skip_frames=5,
        sensor=folder / "sensor.h5",
        background=folder / "dark.raw",
    )
    np.testing.assert_array_equal(skipped.data.compute().reshape(10, SIDE, SIDE), frames[5:])
    assert {path.name for path in opened.files} == {"scan.raw", "sensor.h5", "dark.raw"}


def test_a_folder_of_calibration_files(recorded):
    folder, _ = recorded
    with h5py.File(folder / "sensor.h5", "r") as file:
        names = set(file)
        arrays = {name: file[name][()] for name in file}
    calibration = folder / "calibration"
    calibration.mkdir()
    options = {"scan_shape": (3, 5), "background": folder / "dark.raw"}
    if "G1A" not in names:
        with pytest.raises(FileFormatError, match=r"lacks G1A, .*FFB of an EMPAD-G2's calibration; give as"):
            open_dataset(folder / "scan.raw", sensor=calibration, **options)
        return
    for name, array in arrays.items():
        array.astype("<f4").tofile(calibration / f"{name}_prelim.r32")
    read = open_dataset(folder / "scan.raw", sensor=calibration, **options)
    same = open_dataset(folder / "scan.raw", sensor=folder / "sensor.h5", **options)
    np.testing.assert_array_equal(read.data.compute(), same.data.compute())
    (calibration / "G1A.r32").write_bytes(b"\0" * 64)
    with pytest.raises(FileFormatError, match=r"holds 2 files G1A\*\.r32; leave one"):
        open_dataset(folder / "scan.raw", sensor=calibration, **options)
    (calibration / "G1A_prelim.r32").unlink()
    with pytest.raises(FileFormatError, match=r"G1A\.r32: holds 16 numbers instead of 128x128; copy it again"):
        open_dataset(folder / "scan.raw", sensor=calibration, **options)


def test_what_is_wrong_with_a_calibration_is_one_line(recorded):
    folder, _ = recorded
    whole = {"scan_shape": (3, 5), "sensor": folder / "sensor.h5", "background": folder / "dark.raw"}
    for absent in ("sensor", "background"):
        with pytest.raises(FileFormatError, match=r"before its calibration; give source\.sensor.*source\.background"):
            open_dataset(folder / "scan.raw", **{name: value for name, value in whole.items() if name != absent})
    with pytest.raises(FileFormatError, match=r"nowhere\.h5"):
        open_dataset(folder / "scan.raw", **whole | {"sensor": folder / "nowhere.h5"})
    with pytest.raises(FileFormatError, match=r"nowhere\.raw"):
        open_dataset(folder / "scan.raw", **whole | {"background": folder / "nowhere.raw"})
    np.zeros((4, SIDE, SIDE), "<f4").tofile(folder / "counts.raw")
    with pytest.raises(FileFormatError, match=r"counts\.raw: holds no words of an EMPAD-G2 as scan\.raw does; give"):
        open_dataset(folder / "scan.raw", **whole | {"background": folder / "counts.raw"})
    np.fromfile(folder / "dark.raw", "<u4", SIDE**2).tofile(folder / "one.raw")
    with pytest.raises(DataError, match=r"one\.raw: holds fewer than two frames; give a source\.background"):
        open_dataset(folder / "scan.raw", **whole | {"background": folder / "one.raw"})
    with h5py.File(folder / "sensor.h5", "a") as file:
        del file["FFB"]
        file["FFB"] = np.ones((64, 64))
    with pytest.raises(FileFormatError, match=r"FFB is float64 of shape \(64, 64\), not numbers of shape \(128, 128\)"):
        open_dataset(folder / "scan.raw", **whole)


def test_counts_need_no_calibration(tmp_path):
    random = np.random.default_rng(0)
    random.normal(0, 3, (6, SIDE, SIDE)).astype("<f4").tofile(tmp_path / "scan_x3_y2.raw")
    assert open_dataset(tmp_path / "scan_x3_y2.raw").scan_shape == (2, 3)
    with pytest.raises(DataError, match=r"holds counts already; leave out source\.sensor and source\.background"):
        open_dataset(tmp_path / "scan_x3_y2.raw", sensor=tmp_path / "a.h5", background=tmp_path / "b.raw")
    np.save(tmp_path / "scan.npy", np.zeros((2, 3, 8, 8), np.float32))
    with pytest.raises(FileFormatError, match=r"which needs no source\.sensor; leave it out"):
        open_dataset(tmp_path / "scan.npy", sensor=tmp_path / "a.h5")
