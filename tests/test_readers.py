"""Every format: values, order and calibration as written, lazy, and fit to be sent to a worker."""

import numpy as np
import pytest
import reader_files as made

from stemvane.sources.files import open_dataset


@pytest.mark.parametrize("write", made.WRITERS, ids=lambda write: write.__name__)
def test_values_order_and_calibration(tmp_path, write):
    written = write(tmp_path)
    dataset = open_dataset(written.path, **written.options)
    assert dataset.shape == written.patterns.shape
    np.testing.assert_array_equal(dataset.data.compute(), written.patterns)
    for name, value in written.known.items():
        found = getattr(dataset.calibration, name)
        assert found is None if value is None else found == pytest.approx(value, rel=2e-5), name
    assert dataset.missing is None
    assert dataset.data.chunksize[2:] == dataset.detector_shape
