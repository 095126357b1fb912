"""Dataset4D: a lazy 4D-STEM scan with its calibration."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from numpy.typing import ArrayLike, NDArray

from stemvane.data.axes import (
    AXES,
    backward_axes,
    beam_of,
    calibration_from_axes,
    reciprocal_step,
    require_no_spectra,
)
from stemvane.data.calibration import Calibration, require_plausible
from stemvane.data.findings import Finding
from stemvane.data.preparation_record import Preparation, describe_preparation
from stemvane.data.representation import Representable, Row, format_quantity, format_shape, format_size
from stemvane.data.specimen import ScanAtoms, ScanDefects
from stemvane.data.truth import DetectorTruth
from stemvane.data.typical_pattern import TypicalPattern
from stemvane.errors import DataError, StemvaneError

__all__ = ["Dataset4D", "ScanAtoms", "ScanDefects"]

_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Dataset4D(Representable):
    """A 4D-STEM scan: a lazy array in the order ``(scan_y, scan_x, k_y, k_x)`` and a `Calibration`.

    Build one with `open_dataset`, `simulate`, `Dataset4D.from_array` or `Dataset4D.from_hyperspy`.

    Attributes
    ----------
    data : dask.array.Array, shape (scan_y, scan_x, k_y, k_x)
        Intensities; integers are counts. Half precision becomes single.
    calibration : Calibration
        What is known of steps, axis and beam.
    name : str
        A short name for tables and figures.
    expectation : dask.array.Array, optional
        The noiseless patterns in the same units and shape, where the source knows them.
    atoms : ScanAtoms, optional
        The specimen, where the source knows it.
    image : ndarray of float, shape (scan_y, scan_x), optional
        A simultaneously recorded image, for example from an annular dark-field detector.
    metadata : mapping
        Plain numbers and words about the origin, for people to read.
    path : Path, optional
        Where the data were read from.
    bad_pixels : ndarray of bool, shape (k_y, k_x), optional
        True where a detector pixel is left out of everything that is measured.
    missing : ndarray of bool, shape (scan_y, scan_x), optional
        True where no pattern was recorded, for example after an aborted scan: the data are zero there, maps NaN.
    beam_shift : tuple of two or five pairs of float, optional
        How far the optical axis moves, ``(y, x)`` in pixels, from the first scan row to the last, and from the first
        column to the last, and, for a curved shift, the factors of ``v² - 1/12``, ``u² - 1/12`` and ``v u`` with v and
        u from -1/2 to 1/2 over rows and columns. The calibration's axis is that of the scan's centre.
    typical_pattern : TypicalPattern, optional
        Mean of some patterns; bad pixels are filled after it.
    origins : mapping
        Where numbers of the calibration came from: the ``"file"`` or signal, ``"given"`` by the user, ``"found"`` in
        the patterns, found in those of a probe in ``"vacuum"``, or ``"computed"`` from the semi-angle. What is not
        listed came from the file, or was given where there is none.
    reciprocal_pixel : tuple of float, optional
        Detector step ``(y, x)`` in 1/Å where the file gives that; the beam energy makes it a pixel size.
    electrons_per_pattern : float, optional
        Incident electrons per pattern, where the source knows them.
    noiseless : bool
        Whether the source says that the patterns are free of noise.
    is_scan : bool
        Whether positions next to each other were next to each other on the specimen.
    files : tuple of Path
        The files that the data lie in, where these are more than `path` alone.
    preparation : Preparation, optional
        What `prepare_scan` has found and done; None where it has not been called.
    findings : tuple of Finding
        What readers and preparation have noticed that the user should know of.
    truth : DetectorTruth, optional
        What the detector did to the scan, where the scan was simulated with one. Nothing is analysed with it.
    """

    data: da.Array
    calibration: Calibration = field(default_factory=Calibration)
    name: str = "dataset"
    expectation: da.Array | None = None
    atoms: ScanAtoms | None = None
    image: NDArray[np.floating[Any]] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    missing: NDArray[np.bool_] | None = None
    beam_shift: tuple[tuple[float, float], ...] | None = None
    typical_pattern: TypicalPattern | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    reciprocal_pixel: tuple[float, float] | None = None
    electrons_per_pattern: float | None = None
    noiseless: bool = False
    is_scan: bool = True
    files: tuple[Path, ...] = ()
    preparation: Preparation | None = None
    findings: tuple[Finding, ...] = ()
    truth: DetectorTruth | None = None

    def __post_init__(self) -> None:
        for name in ("data", "expectation"):
            array = getattr(self, name)
            if array is not None and not isinstance(array, da.Array):
                array = as_lazy(array, self.name)
                object.__setattr__(self, name, array)
            if array is not None and array.dtype == np.float16:
                # sums and squares of half precision overflow at 65504
                object.__setattr__(self, name, array.astype(np.float32))
        _require_4d(self.data, self.name)
        if self.expectation is not None and self.expectation.shape != self.data.shape:
            raise DataError(
                f"{self.name}: the noiseless patterns have shape {self.expectation.shape}, "
                f"the data {self.data.shape}; give both in the same shape"
            )
        for name, shape in (("bad_pixels", self.detector_shape), ("missing", self.scan_shape)):
            mask = getattr(self, name)
            if mask is not None and np.shape(mask) != shape:
                raise DataError(f"{self.name}: {name} has shape {np.shape(mask)}; give one of shape {shape}")
        if self.truth is not None and (
            self.truth.bad_pixels.shape != self.detector_shape or self.truth.axis.shape != (*self.scan_shape, 2)
        ):
            raise DataError(f"{self.name}: the detector's truth is that of another scan; leave it out")
        if self.image is not None and np.shape(self.image) != self.scan_shape:
            raise DataError(
                f"{self.name}: the image has shape {np.shape(self.image)}, the scan {self.scan_shape}; "
                "crop it to the scan"
            )

    @classmethod
    def from_array(
        cls,
        array: ArrayLike | da.Array,
        *,
        calibration: Calibration | None = None,
        name: str = "array",
        expectation: ArrayLike | da.Array | None = None,
        atoms: ScanAtoms | None = None,
        image: ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
        electrons_per_pattern: float | None = None,
        noiseless: bool = False,
    ) -> Dataset4D:
        """Wrap an array in the order ``(scan_y, scan_x, k_y, k_x)``.

        Parameters
        ----------
        array : array_like or dask.array.Array, shape (scan_y, scan_x, k_y, k_x)
            Intensities, real.
        calibration : Calibration, optional
            What is known; nothing where it is left out.
        name : str
            A short name for tables and figures.
        expectation : array_like or dask.array.Array, optional
            Noiseless patterns of the same shape.
        atoms : ScanAtoms, optional
            The specimen.
        image : array_like, shape (scan_y, scan_x), optional
            A simultaneously recorded image.
        metadata : mapping, optional
            Plain numbers and words about the origin.
        electrons_per_pattern : float, optional
            Incident electrons per pattern.
        noiseless : bool
            Whether the patterns are free of noise.

        Returns
        -------
        Dataset4D

        Raises
        ------
        DataError
            If the array does not have four axes, has an empty axis, or is not real.
        """
        return cls(
            data=as_lazy(array, name),
            calibration=calibration or Calibration(),
            name=name,
            expectation=None if expectation is None else as_lazy(expectation, name),
            atoms=atoms,
            image=None if image is None else np.asarray(image, dtype=np.float32),
            metadata=dict(metadata or {}),
            electrons_per_pattern=electrons_per_pattern,
            noiseless=noiseless,
        )

    @classmethod
    def from_hyperspy(cls, signal: Any) -> Dataset4D:
        """Wrap a HyperSpy or pyxem signal with two navigation and two signal axes.

        Parameters
        ----------
        signal : hyperspy.signals.Signal2D
            Lazy or in memory. Scan axes are lengths; detector axes are angles, or reciprocal lengths, which the beam
            energy converts into angles: the one in the metadata, in keV as HyperSpy stores it, or one that is given
            later. Steps in other units are left unknown. Along axes with a negative step the data are flipped.

        Returns
        -------
        Dataset4D
            The same as `open_dataset` makes of the signal's file.

        Raises
        ------
        DataError
            If the signal does not have two navigation and two signal axes, is a spectrum image, or is not real.
        """
        manager = signal.axes_manager
        # HyperSpy names axes x first, and they may lie in the array in any order
        axes = [*manager.navigation_axes[::-1], *manager.signal_axes[::-1]]
        steps = [{"scale": getattr(a, "scale", None), "units": getattr(a, "units", None)} for a in axes]
        title = str(signal.metadata.General.title) if signal.metadata.has_item("General.title") else ""
        require_no_spectra(steps, title or "the signal")
        if manager.navigation_dimension != 2 or manager.signal_dimension != 2:
            raise DataError(
                f"the signal has {manager.navigation_dimension} navigation and {manager.signal_dimension} signal axes; "
                "give one with two of each, for example after signal.transpose(signal_axes=2)"
            )
        array = cls.from_array(signal.data.transpose([a.index_in_array for a in axes]), name=title or "hyperspy")
        return array.with_axes(steps, beam_of(signal.metadata.as_dictionary()))

    def with_axes(self, axes: Sequence[Mapping[str, Any]], beam: Mapping[str, Any]) -> Dataset4D:
        """Return the same data with what a file or a signal says of its axes and of the beam.

        Parameters
        ----------
        axes : sequence of mapping
            ``scale`` and ``units`` of the axes ``(scan_y, scan_x, k_y, k_x)``, empty where they are unknown. Along axes
            with a negative step everything is flipped, so that positions grow with the index; `findings` says so.
        beam : mapping
            ``beam_energy`` in keV and ``convergence_angle`` in mrad, where they are known.

        Returns
        -------
        Dataset4D
        """
        calibration, reciprocal = calibration_from_axes(axes, beam), reciprocal_step(axes)
        # a signal in memory says of itself what a file does: nobody has given these numbers
        origins = {} if self.path else dict.fromkeys(calibration.to_dict(), "file")
        described = replace(self, calibration=calibration, reciprocal_pixel=reciprocal, origins=origins)
        backward = backward_axes(axes)
        return described._flip(backward) if backward else described

    def _flip(self, backward: tuple[int, ...]) -> Dataset4D:
        order = tuple(slice(None, None, -1 if i in backward else None) for i in range(4))
        scan, detector = order[:2], order[2:]
        names = " and ".join(AXES[i] for i in backward)
        finding = Finding(
            "axis_flipped",
            "note",
            f"the source gives {names} a negative step; the data are flipped along it, so that positions grow with the "
            "index",
        )
        return replace(
            self,
            data=self.data[order],
            expectation=None if self.expectation is None else self.expectation[order],
            image=None if self.image is None else self.image[scan],
            missing=None if self.missing is None else self.missing[scan],
            bad_pixels=None if self.bad_pixels is None else self.bad_pixels[detector],
            findings=(*self.findings, finding),
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of probe positions and detector pixels ``(scan_y, scan_x, k_y, k_x)``."""
        a, b, c, d = self.data.shape
        return int(a), int(b), int(c), int(d)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Numbers of probe positions ``(scan_y, scan_x)``."""
        return self.shape[0], self.shape[1]

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Numbers of detector pixels ``(k_y, k_x)``."""
        return self.shape[2], self.shape[3]

    @property
    def n_patterns(self) -> int:
        """Number of recorded patterns."""
        return self.shape[0] * self.shape[1]

    def _summary(self) -> tuple[str, Sequence[Row]]:
        calibration = self.calibration
        extras = {
            "noiseless patterns": self.expectation is not None,
            "image": self.image is not None,
            "atoms": self.atoms is not None,
            "the detector's truth": self.truth is not None,
            f"{0 if self.missing is None else int(self.missing.sum())} missing patterns": self.missing is not None,
            f"{0 if self.bad_pixels is None else int(self.bad_pixels.sum())} bad pixels": self.bad_pixels is not None,
        }
        rows = [
            ("scan", f"{format_shape(self.scan_shape)} positions, step {format_quantity(calibration.scan_step, 'Å')}"),
            (
                "detector",
                f"{format_shape(self.detector_shape)} px, each {format_quantity(calibration.pixel_size, 'mrad')}",
            ),
            ("data", f"{self.data.dtype}, {format_size(self.data.nbytes)}, lazy"),
            ("beam", calibration.describe_beam()),
            ("disc", calibration.describe_disc({name: self.origin(name) for name in vars(calibration)})),
            ("preparation", describe_preparation(self.preparation)),
        ]
        if any(extras.values()):
            rows.append(("with", ", ".join(word for word, present in extras.items() if present)))
        return f"Dataset4D '{self.name}'", rows

    def pattern(self, y: int, x: int) -> NDArray[Any]:
        """Return one recorded pattern, shape ``(k_y, k_x)``."""
        with reading_lazily(f"{self.name}: the pattern at scan position ({y}, {x})"):
            return np.asarray(self.data[y, x].compute())

    def view(self) -> Any:
        """Show patterns in a notebook, and maps of them as they are read; returns a widget of anywidget."""
        from stemvane.viewer.notebook_widget import viewer_widget

        return viewer_widget(self)

    def recalibrate(self, *, origin: str = "given", **changes: Any) -> Dataset4D:
        """Return the same data with some calibration values replaced.

        Parameters
        ----------
        origin : str
            Where the new values come from, for `origins`.
        **changes
            Values as `Calibration` takes them. A new energy also converts a detector step in 1/Å into a pixel size.

        Returns
        -------
        Dataset4D

        Raises
        ------
        CalibrationError
            If a value is impossible, or is given and cannot be meant, such as an energy of 60 eV.
        """
        if origin == "given":
            require_plausible(**changes)
        recalibrated = self.calibration.replace(**changes)
        renewed = changes.get("energy") not in (None, self.calibration.energy)
        if renewed and changes.get("pixel_size") in (None, self.calibration.pixel_size):
            recalibrated = recalibrated.replace(pixel_size=self._pixel_size(recalibrated) or recalibrated.pixel_size)
        changed = {name for name, value in vars(recalibrated).items() if value != getattr(self.calibration, name)}
        return replace(self, calibration=recalibrated, origins={**self.origins, **dict.fromkeys(changed, origin)})

    def _pixel_size(self, calibration: Calibration) -> tuple[float, float] | None:
        if self.reciprocal_pixel is None or calibration.wavelength is None or self.origin("pixel_size") == "given":
            return None
        step_y, step_x = self.reciprocal_pixel
        return 1e3 * calibration.wavelength * step_y, 1e3 * calibration.wavelength * step_x

    def origin(self, name: str) -> str:
        """Say where a number of the calibration came from, as `origins`, or ``"file"`` or ``"unknown"``."""
        if getattr(self.calibration, name) is None:
            return "unknown"
        return self.origins.get(name, "given" if self.path is None else "file")


def as_lazy(array: ArrayLike | da.Array, name: str) -> da.Array:
    """Convert an array into a dask array whose blocks hold whole patterns and some megabytes each.

    Raises
    ------
    DataError
        If the array is not a real, non-empty array with four axes.
    """
    if not isinstance(array, da.Array):
        try:
            plain: NDArray[Any] = np.asanyarray(array)
        except ValueError:
            raise DataError(f"{name}: the patterns differ in shape; stack them to one array of four axes") from None
        _require_4d(plain, name)
        return _in_views(plain)
    _require_4d(array, name)
    return array if array.chunksize[2:] == array.shape[2:] else array.rechunk(pattern_chunks(array.shape, array.dtype))


def _in_views(array: NDArray[Any]) -> da.Array:
    """A dask array whose blocks are views; `dask.array.from_array` copies, and so reads the whole file of a memmap."""
    plain = array.view(np.ndarray)
    chunks = da.core.normalize_chunks(pattern_chunks(array.shape, array.dtype), array.shape)
    name = f"patterns-{uuid.uuid4().hex}"
    keys = itertools.product([name], *(range(len(sizes)) for sizes in chunks))
    blocks = {key: plain[part] for key, part in zip(keys, slices_from_chunks(chunks), strict=True)}
    return da.Array(blocks, name, chunks, dtype=plain.dtype)


@contextmanager
def reading_lazily(what: str) -> Iterator[None]:
    """Say in one line what cannot be read, whatever a lazy array that the user has made raises.

    Raises
    ------
    DataError
        If anything but an error of ours, or a lack of memory, is raised.
    """
    try:
        yield
    except (StemvaneError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{what} cannot be computed ({reason}); check the lazy array that they come from") from error


def pattern_chunks(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int, int]:
    """Block of whole patterns, some megabytes large, for data of this shape ``(scan_y, scan_x, k_y, k_x)`` and type."""
    n = max(1, _BLOCK_BYTES // (shape[2] * shape[3] * dtype.itemsize))
    columns = min(shape[1], n)
    return min(shape[0], max(1, n // columns)), columns, shape[2], shape[3]


def _require_4d(array: Any, name: str) -> None:
    if array.ndim != 4:
        raise DataError(
            f"{name}: the data have {array.ndim} axes {tuple(array.shape)}; "
            "stemvane needs four, (scan_y, scan_x, k_y, k_x): reshape a stack of frames to its scan first"
        )
    if 0 in array.shape:
        raise DataError(f"{name}: the data have shape {tuple(array.shape)}, so no pattern is there; check the file")
    if array.dtype.kind not in "uifb":
        raise DataError(f"{name}: the data are {array.dtype}; give real intensities (the squared modulus of waves)")
    if array.dtype.itemsize > 8:
        raise DataError(f"{name}: the data are {array.dtype}, which no kernel reads; give float64")
    if isinstance(array, np.ma.MaskedArray) or isinstance(getattr(array, "_meta", None), np.ma.MaskedArray):
        raise DataError(
            f"{name}: the array is masked; fill it with zeros, and name detector pixels that do not count in "
            "Dataset4D.bad_pixels, probe positions in Dataset4D.missing"
        )
