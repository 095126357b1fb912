"""Words of an EMPAD-G2 before its calibration: amplifier, counter and gain of each pixel, made into counts.

What the bits of a word mean, and the two models of a sensor, are those of the programs of its makers (H. T. Philipp et
al., Microsc. Microanal. 28, 425 (2022), https://doi.org/10.1017/S1431927622000174), as the package empad2 and the
detector's own background subtraction have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stemvane.errors import DataError, FileFormatError
from stemvane.io.hdf5_guard import probe
from stemvane.io.on_disk import file_errors
from stemvane.io.stack import RawFrames

__all__ = ["CountedFrames", "Sensor", "mean_background", "read_sensor"]

# an analogue value in the lowest 14 bits, how often the pixel's charge was removed in the next 16, and in the highest
# whether it was recorded at the amplifier's low gain
_ANALOGUE, _COUNTER, _COUNTER_AT, _GAIN_AT = 0x3FFF, 0xFFFF, 14, 31
_LINEAR = ("G1A", "G1B", "G2A", "G2B", "B2A", "B2B")
_QUADRATIC = ("Ml", "alpha", "Md", "Oh", "Ot")
_FLAT = ("FFA", "FFB")

# frames of a background that are decoded at once
_BLOCK = 64
# a frame's offset is where its histogram of pixels without electrons is highest, between these values in bins of 10,
# by a parabola through 7 bins; a peak of fewer pixels, or an offset of more than 200, is none; as the makers have it
_LOWEST, _WIDTH, _N_BINS, _BESIDE, _FEWEST, _LARGEST = -205.0, 10.0, 42, 3, 40, 200.0


@dataclass(frozen=True, eq=False)
class Sensor:
    """What makes words counts, for each pixel and for each of the two stores that take turns from frame to frame.

    Attributes
    ----------
    slope, curvature, step, shift : ndarray of float32, shape (2, k_y, k_x)
        At low gain an analogue value `a` stands for ``slope * a + curvature * a**2 + shift``; each removal of charge
        for `step`.
    offset : ndarray of float32, shape (2, k_y, k_x)
        Subtracted at either gain.
    flat : ndarray of float32, shape (2, k_y, k_x)
        Factor that makes pixels equally sensitive, after the background.
    files : tuple of Path
        Where it was read from.
    """

    slope: NDArray[np.float32]
    curvature: NDArray[np.float32]
    step: NDArray[np.float32]
    shift: NDArray[np.float32]
    offset: NDArray[np.float32]
    flat: NDArray[np.float32]
    files: tuple[Path, ...] = ()

    def count(self, words: NDArray[np.uint32], first: int) -> NDArray[np.float32]:
        """Counts with their background.

        Parameters
        ----------
        words : ndarray of uint32, shape (n, k_y, k_x)
            Words as they were recorded.
        first : int
            Number of the first frame in its file, which tells the stores apart.

        Returns
        -------
        ndarray of float32, shape (n, k_y, k_x)
        """
        store = stores(first, len(words))
        analogue = (words & _ANALOGUE).astype(np.float32)
        removals = (words >> _COUNTER_AT & _COUNTER).astype(np.float32)
        at_low_gain = analogue * (self.slope[store] + self.curvature[store] * analogue) + self.shift[store]
        kept = np.where(words >> _GAIN_AT, at_low_gain, analogue)
        counts: NDArray[np.float32] = kept + self.step[store] * removals - self.offset[store]
        return counts


@dataclass(frozen=True, eq=False)
class CountedFrames:
    """Frames whose words are made counts as they are read.

    Attributes
    ----------
    words : RawFrames
        The words, ``uint32``.
    sensor : Sensor
        Calibration of the sensor.
    background : ndarray of float32, shape (2, k_y, k_x)
        Counts of each store without a beam.
    """

    words: RawFrames
    sensor: Sensor
    background: NDArray[np.float32]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.words.n_frames

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Detector pixels ``(k_y, k_x)``."""
        return self.words.frame_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts."""
        return np.dtype(np.float32)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Frames `start` to `stop`, shape ``(n, k_y, k_x)``."""
        store = stores(start, max(stop - start, 0))
        counts = self.sensor.count(self.words.read(start, stop), start) - self.background[store]
        offsets = np.array([common_offset(frame) for frame in counts], np.float32)
        settled: NDArray[np.float32] = (counts - offsets[:, None, None]) * self.sensor.flat[store]
        return settled


def stores(first: int, n: int) -> NDArray[np.intp]:
    """Which of the two stores of charge each of `n` frames was kept in; they take turns."""
    return np.arange(first, first + n, dtype=np.intp) % 2


def common_offset(frame: NDArray[np.float32]) -> float:
    """What all pixels of a frame have in common beside electrons: where most pixels without electrons are.

    Parameters
    ----------
    frame : ndarray of float32, shape (k_y, k_x)
        Counts without their background.

    Returns
    -------
    float
        0 where no such value stands out, as in a frame with electrons in every pixel.
    """
    numbers = np.floor((frame.ravel() - _LOWEST) / _WIDTH)
    histogram = np.bincount(numbers[(numbers >= 0) & (numbers < _N_BINS)].astype(np.intp), minlength=_N_BINS)
    peak = int(np.argmax(histogram))
    if histogram[peak] <= _FEWEST or not _BESIDE <= peak < _N_BINS - _BESIDE:
        return 0.0
    # a parabola through the bins about the peak by least squares
    places = np.arange(-_BESIDE, _BESIDE + 1)
    curvature, slope, _ = np.polyfit(places, histogram[peak + places], 2)
    if curvature >= 0:
        return 0.0
    offset = _LOWEST + _WIDTH * (peak + 0.5 - slope / (2 * curvature))
    return float(offset) if abs(offset) <= _LARGEST else 0.0


def mean_background(path: Path, words: RawFrames, sensor: Sensor) -> NDArray[np.float32]:
    """Mean counts of each store in a scan without a beam.

    Parameters
    ----------
    path : Path
        Its file, which error messages name.
    words : RawFrames
        Its words.
    sensor : Sensor
        Calibration of the sensor.

    Returns
    -------
    ndarray of float32, shape (2, k_y, k_x)

    Raises
    ------
    DataError
        If it has fewer than two frames, one for each store.
    """
    if words.n_frames < 2:
        raise DataError(f"{path}: holds fewer than two frames; give a source.background with some of each store")
    sums = np.zeros((2, *words.frame_shape))
    for start in range(0, words.n_frames, _BLOCK):
        stop = min(start + _BLOCK, words.n_frames)
        counts = sensor.count(words.read(start, stop), start)
        for store in (0, 1):
            sums[store] += counts[stores(start, len(counts)) == store].sum(axis=0, dtype=np.float64)
    n_frames = np.array([(words.n_frames + 1) // 2, words.n_frames // 2])
    means: NDArray[np.float32] = (sums / n_frames[:, None, None]).astype(np.float32)
    return means


def read_sensor(path: Path, shape: tuple[int, int]) -> Sensor:
    """Read the calibration of a sensor.

    Parameters
    ----------
    path : Path
        An HDF5 file with the arrays ``G1A`` to ``FFB``, or ``Ml`` to ``FFB``, as the package empad2 has them; or a
        folder of files ``G1A.r32``, ``G1A_prelim.r32`` and so on, numbers of 32 bits in row order.
    shape : tuple of int
        Detector pixels ``(k_y, k_x)``.

    Returns
    -------
    Sensor

    Raises
    ------
    FileFormatError
        If it is missing or damaged, or an array is.
    """
    if path.is_dir():
        arrays, files = _from_folder(path, shape)
    else:
        with file_errors(path):
            probe(path)
            with h5py.File(path, "r") as file:
                arrays = {name: np.asarray(file[name]) for name in (*_LINEAR, *_QUADRATIC, *_FLAT) if name in file}
        files = (path.absolute(),)
    is_quadratic = arrays.keys() >= set(_QUADRATIC)
    needed = (*(_QUADRATIC if is_quadratic else _LINEAR), *_FLAT)
    absent = [name for name in needed if name not in arrays]
    if absent:
        raise FileFormatError(
            f"{path}: lacks {', '.join(absent)} of an EMPAD-G2's calibration; give as source.sensor a folder with "
            "G1A.r32 to FFB.r32, or an HDF5 file with these arrays"
        )
    for name in needed:
        expected = (*shape, 2) if name in _QUADRATIC else shape
        if arrays[name].shape != expected or arrays[name].dtype.kind not in "fiu":
            raise FileFormatError(
                f"{path}: {name} is {arrays[name].dtype} of shape {arrays[name].shape}, not numbers of shape "
                f"{expected}; give the calibration of this detector"
            )
    return _sensor(arrays, files, is_quadratic=is_quadratic)


def _from_folder(folder: Path, shape: tuple[int, int]) -> tuple[dict[str, NDArray[Any]], tuple[Path, ...]]:
    arrays, files = {}, []
    for name in (*_LINEAR, *_FLAT):
        found = sorted(folder.glob(f"{name}*.r32"))
        if len(found) > 1:
            raise FileFormatError(f"{folder}: holds {len(found)} files {name}*.r32; leave one calibration in it")
        for path in found:
            with file_errors(path):
                numbers = np.fromfile(path, "<f4")
            if numbers.size != shape[0] * shape[1]:
                raise FileFormatError(
                    f"{path}: holds {numbers.size} numbers instead of {shape[0]}x{shape[1]}; copy it again"
                )
            arrays[name] = numbers.reshape(shape)
            files.append(path.absolute())
    return arrays, tuple(files)


def _sensor(arrays: Mapping[str, NDArray[Any]], files: tuple[Path, ...], *, is_quadratic: bool) -> Sensor:
    def pair(first: str, second: str) -> NDArray[np.float32]:
        return np.stack([arrays[first], arrays[second]]).astype(np.float32)

    flat = pair(*_FLAT)
    if is_quadratic:
        slope, curvature, step, shift, offset = (np.moveaxis(arrays[n], 2, 0).astype(np.float32) for n in _QUADRATIC)
        return Sensor(slope, curvature, step, shift, offset, flat, files)
    slope = pair("G1A", "G1B")
    nothing = np.zeros_like(slope)
    return Sensor(slope, nothing, pair("G2A", "G2B"), -slope * pair("B2A", "B2B"), nothing, flat, files)
