"""The pass on Dask workers: the same to the last bit, also where a worker is lost in the middle."""

import os
import signal
import time

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from pickled_tasks import PickledTasks

from stemvane.config import MeasureConfig
from stemvane.data.calibration import Calibration
from stemvane.data.dataset import Dataset4D
from stemvane.errors import ConfigError
from stemvane.io.files import open_dataset, save_dataset
from stemvane.models.aligned_pca import AlignedPCA
from stemvane.models.pca import PCA
from stemvane.reduction.cluster import connect
from stemvane.reduction.measure import measure
from stemvane.simulation.synthetic import synthetic

KNOWN = Calibration(optical_axis=(7.3, 8.1), disc_radius=4.0, pixel_size=(1.2, 1.5))
PIXELS = MeasureConfig(n_pixels=6)


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def patterns(dtype, shape=(12, 9, 16, 18)):
    return (np.random.default_rng(0).random(shape) * 60).astype(dtype)


def assert_same_bits(one, other):
    assert set(one.maps) == set(other.maps)
    for name in one.maps:
        np.testing.assert_array_equal(one.maps[name], other.maps[name])
    np.testing.assert_array_equal(one.mean_pattern, other.mean_pattern)
    np.testing.assert_array_equal(one.polar_patterns(), other.polar_patterns())
    np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_cluster_gives_the_same_bits(client, tmp_path, dtype):
    array = patterns(dtype)
    lazy = Dataset4D.from_array(da.from_array(array, chunks=(2, 4, 16, 18)), calibration=KNOWN)
    on_disk = open_dataset(save_dataset(lazy, tmp_path / "a.zarr"))
    for dataset in (Dataset4D.from_array(array, calibration=KNOWN), lazy, on_disk):
        assert_same_bits(measure(dataset, config=PIXELS, client=client), measure(dataset, config=PIXELS))


def test_a_lost_worker_does_not_change_the_result(client):
    array = patterns("float32")

    def slowly(block):
        time.sleep(0.1)
        return block

    dataset = Dataset4D.from_array(da.from_array(array, chunks=(1, 3, 16, 18)).map_blocks(slowly), calibration=KNOWN)
    workers = client.run(os.getpid)
    lost = []

    def lose_one(done, total):
        if not lost and done >= total // 4:
            lost.append(next(iter(workers.values())))
            os.kill(lost[0], signal.SIGKILL)

    measured = measure(dataset, config=PIXELS, client=client, progress=lose_one)
    assert lost
    assert_same_bits(measured, measure(dataset, config=PIXELS))
    client.wait_for_workers(2, timeout=30)
    assert lost[0] not in client.run(os.getpid).values()


@pytest.mark.parametrize("model", [AlignedPCA(n_latent=2), PCA(n_latent=2)])
def test_a_cluster_embeds_to_the_same_bits(model):
    # 1,200 noisy patterns: filtered over the scan, in more than one part, not all of them embedded
    dataset, _ = synthetic((40, 30), (16, 16), dose=2000.0, seed=1)
    measured = measure(dataset, config=PIXELS)
    mask = np.ones(measured.scan_shape, bool)
    mask[3, 5] = False
    model.fit(measured, mask=mask)
    client = PickledTasks()
    one, other = (model.embed(measured, mask=mask, client=where) for where in (client, None))
    assert client.n_tasks == 3
    assert np.isnan(one.latents[3, 5]).all()
    assert np.isfinite(one.latents[mask]).all()
    for name in ("latents", "latent_std", "angle", "angle_std", "angle_posterior", "log_evidence"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_patterns_with_nan_are_missing_from_a_cluster(client):
    array = patterns("float32")
    array[7, 5, 3, 3] = np.nan
    measured = measure(Dataset4D.from_array(array, calibration=KNOWN), client=client)
    assert np.argwhere(~measured.recorded).tolist() == [[7, 5]]
    assert "(7, 5)" in measured.findings[0].message


def test_settings_choose_the_cluster(client):
    with connect(MeasureConfig()) as nothing:
        assert nothing is None
    with connect(MeasureConfig(cluster=client.scheduler.address)) as remote:
        assert len(remote.scheduler_info()["workers"]) == 2
    with connect(MeasureConfig(n_workers=1)) as local:
        assert sum(local.nthreads().values()) == 1


def test_settings_that_lead_nowhere(monkeypatch):
    monkeypatch.setattr("stemvane.reduction.cluster._PATIENCE", "0.2s")
    with (
        pytest.raises(ConfigError, match=r"nobody answers at tcp://127.0.0.1:9") as info,
        connect(MeasureConfig(cluster="tcp://127.0.0.1:9")),
    ):
        pass
    assert "\n" not in str(info.value)
    with pytest.raises(ValueError, match="give one of them"):
        MeasureConfig(n_workers=2, cluster="tcp://127.0.0.1:9")
