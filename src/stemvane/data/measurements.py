"""Measurements: maps, polar and Cartesian patterns of one scan, with units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from stemvane.data.calibration import Calibration
from stemvane.data.findings import Finding
from stemvane.data.preparation_record import Preparation, describe_preparation
from stemvane.data.representation import Representable, Row, format_quantity, format_shape
from stemvane.data.specimen import ScanAtoms
from stemvane.data.specimen_zarr import read_atoms, write_atoms
from stemvane.errors import DataError
from stemvane.geometry.pixels import PixelGrid
from stemvane.geometry.polar import PolarGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stemvane.data.embedding import Embedding
    from stemvane.features.filtered_com import FilteredCom

__all__ = ["LEAST_ANALOGUE", "Measurements"]

LEAST_ANALOGUE = 1.4
"""Counts per electron beyond which a detector is analogue: the survey finds 0.9 to 1.2 for detectors that count."""

# words that older files have among the metadata
_ROTATION = {f"scan_rotation_{word}" for word in ("deg", "uncertainty_deg", "source", "ambiguous")} | {"scan_flipped"}


@dataclass(frozen=True, eq=False, repr=False)
class Measurements(Representable):
    """What one pass over the raw data has measured at every probe position.

    Attributes
    ----------
    maps : mapping of str to ndarray of float, shape (scan_y, scan_x)
        ``total``, ``com_y``, ``com_x``, ``bright_field``, ``annular_dark_field`` and whatever else was asked for.
    units : mapping of str to str
        Unit of each map.
    polar : zarr.Array or ndarray of float32, shape (scan_y, scan_x, n_radial, n_azimuthal)
        Polar patterns, mean intensity per pixel area; None where they were not asked for.
    grid : PolarGrid
        Where the polar samples lie on the detector.
    mean_pattern : ndarray of float, shape (k_y, k_x)
        Mean of the recorded patterns, on the detector's pixels; NaN where it was not asked for.
    calibration : Calibration
        Calibration of the data set, completed by what the survey found.
    name : str
        Name of the data set.
    atoms : ScanAtoms, optional
        The specimen, where the source knows it.
    image : ndarray of float, shape (scan_y, scan_x), optional
        A simultaneously recorded image.
    metadata : mapping
        Plain numbers and words about the origin.
    bad_pixels : ndarray of bool, shape (k_y, k_x), optional
        True where a detector pixel was left out.
    expectation : Measurements, optional
        Maps of the noiseless patterns, where the source knows them.
    pixels : zarr.Array or ndarray of float32, shape (scan_y, scan_x, n, n), optional
        Cartesian patterns, mean intensity per pixel area; None where they were not asked for.
    pixel_grid : PixelGrid, optional
        Where the Cartesian samples lie on the detector.
    electrons_per_pattern : float, optional
        Incident electrons per pattern, where the source knows them.
    noiseless : bool
        Whether the source says that the patterns are free of noise.
    is_scan : bool
        Whether positions next to each other were next to each other on the specimen.
    origins : mapping
        Where each number of the calibration came from: ``"file"``, or as in `Dataset4D`.
    preparation : Preparation, optional
        What was found in the scan and done to it before it was measured; None where nothing was.
    field_rotation : mapping
        Rotation from the detector to the scan that the maps of the field are made with, its error and its source, by
        their names in ``metrics.json``; empty before `add_field`.
    findings : tuple of Finding
        What reader, preparation and pass have noticed that the user should know of.
    """

    maps: Mapping[str, NDArray[np.floating[Any]]]
    units: Mapping[str, str]
    polar: Any
    grid: PolarGrid
    mean_pattern: NDArray[np.floating[Any]]
    calibration: Calibration
    name: str = "dataset"
    atoms: ScanAtoms | None = None
    image: NDArray[np.floating[Any]] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    bad_pixels: NDArray[np.bool_] | None = None
    expectation: Measurements | None = None
    pixels: Any = None
    pixel_grid: PixelGrid | None = None
    electrons_per_pattern: float | None = None
    noiseless: bool = False
    is_scan: bool = True
    origins: Mapping[str, str] = field(default_factory=dict)
    preparation: Preparation | None = None
    field_rotation: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Numbers of probe positions ``(scan_y, scan_x)``."""
        rows, columns = self.maps["total"].shape
        return rows, columns

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Numbers of detector pixels ``(k_y, k_x)``."""
        rows, columns = self.mean_pattern.shape
        return rows, columns

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return self.scan_shape[0] * self.scan_shape[1]

    @property
    def counts_per_electron(self) -> float:
        """Counts that an electron leaves, all pixels together, as the noise tells; 1 for counting detectors."""
        record = {} if self.preparation is None else self.preparation.record
        counts = float(record.get("counts_per_electron", 1.0))
        return counts if counts > LEAST_ANALOGUE else 1.0

    @property
    def readout_counts(self) -> float:
        """Counts per pixel whose counting noise would be as large as the readout noise; 0 where it was not found."""
        record = {} if self.preparation is None else self.preparation.record
        return max(0.0, float(record.get("readout_counts", 0.0)))

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """True where a pattern was recorded, shape ``(scan_y, scan_x)``; the maps are NaN elsewhere."""
        return np.asarray(np.isfinite(self.maps["total"]))

    @property
    def com(self) -> NDArray[np.floating[Any]]:
        """Centre of mass minus optical axis, shape ``(scan_y, scan_x, 2)``, ``(y, x)``, in `com_unit`."""
        return np.stack([self.maps["com_y"], self.maps["com_x"]], axis=-1)

    @property
    def com_unit(self) -> str:
        """``mrad``, or ``px`` where the pixel size is unknown."""
        return self.units["com_x"]

    @property
    def deflection(self) -> NDArray[np.floating[Any]]:
        """COM minus its mean over the scan, shape ``(scan_y, scan_x, 2)``, ``(y, x)``, in `com_unit`.

        Where the beam would fall without a specimen is rarely known better than this mean.
        """
        com = self.com
        return np.asarray(com - np.nanmean(com, axis=(0, 1)))

    @property
    def filtered_deflection(self) -> NDArray[np.floating[Any]] | None:
        """Deflection as all patterns of the scan tell it, shape ``(scan_y, scan_x, 2)``, ``(y, x)``, in `com_unit`.

        None where it has not been added, as in scans without noise.
        """
        if "com_filtered_y" not in self.maps:
            return None
        return np.stack([self.maps["com_filtered_y"], self.maps["com_filtered_x"]], axis=-1)

    def com_noise(self, counts_per_electron: float | None = None) -> float:
        """Standard deviation of a coordinate of the COM by its counts: that of the places of single electrons.

        Parameters
        ----------
        counts_per_electron : float, optional
            As the survey has found where it is left out; 1 where it has not.

        Returns
        -------
        float
            In `com_unit`; 0 without noise, NaN where the mean pattern is not known.
        """
        counts = np.nan_to_num(np.asarray(self.mean_pattern, np.float64))
        if self.noiseless:
            return 0.0
        if self.bad_pixels is not None:
            counts = np.where(self.bad_pixels, 0, counts)
        total = float(counts.sum())
        if not total > 0:
            return float("nan")
        if counts_per_electron is None:
            record = {} if self.preparation is None else self.preparation.record
            counts_per_electron = float(record.get("counts_per_electron", 1.0))
        size = 1.0 if self.com_unit == "px" else float((self.calibration.pixel_size or (1.0, 1.0))[1])
        squares = (self.grid.places(self.detector_shape) ** 2).sum(axis=0) * size**2
        noisy = counts_per_electron * counts + self.readout_counts * (counts > 0)
        # the mean pattern is wider than any by what the COM moves
        moved = float(np.nanmean((self.com**2).sum(axis=-1))) * float(noisy.sum()) / total
        return float(np.sqrt(max(float((noisy * squares).sum()) / total - moved, 0.0) / (2 * total)))

    @property
    def com_magnitude(self) -> NDArray[np.floating[Any]]:
        """Length of the deflection, shape ``(scan_y, scan_x)``, in `com_unit`."""
        return np.asarray(np.linalg.norm(self.deflection, axis=-1))

    @property
    def com_angle(self) -> NDArray[np.floating[Any]]:
        """Direction of the deflection in rad, counter-clockwise on the screen, 0 to the right."""
        deflection = self.deflection
        return np.asarray(np.arctan2(-deflection[..., 0], deflection[..., 1]))

    def plot(self, what: str = "com", ax: Axes | None = None) -> Axes:
        """Draw one of the measurements, with units, scale bar, colour bar and frame.

        Parameters
        ----------
        what : str
            ``com``, direction as hue and magnitude as brightness; ``com_magnitude``; the name of a map, such as
            ``annular_dark_field``; ``image``; or ``mean_pattern``, with optical axis and disc.
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; those of a new figure where left out.

        Returns
        -------
        matplotlib.axes.Axes
            The panel.

        Raises
        ------
        DataError
            If there is nothing of that name.
        """
        from stemvane.figures.measurement_panels import draw_measurement

        return draw_measurement(self, what, ax)

    def filtered_com(self) -> FilteredCom:
        """Estimate the deflection at every position from all patterns of the scan; see `stemvane.filter_com`.

        Returns
        -------
        FilteredCom

        Raises
        ------
        DataError
            If there are no polar patterns, or fewer than two patterns were recorded.
        """
        from stemvane.features.filtered_com import filter_com

        return filter_com(self)

    def view(self, embedding: Embedding | None = None, model: Any = None) -> Any:
        """Show maps and polar patterns in a notebook, linked.

        Parameters
        ----------
        embedding : Embedding, optional
            Latents and angles of these measurements, to be shown beside them.
        model : PatternModel, optional
            The model that made them, to decode patterns.

        Returns
        -------
        anywidget.AnyWidget
            A widget; the last expression of a cell shows it.

        Raises
        ------
        MissingPackageError
            If anywidget is not installed.
        """
        from stemvane.viewer.notebook_widget import viewer_widget

        return viewer_widget(self, embedding, model)

    def polar_patterns(self) -> NDArray[np.float32]:
        """All polar patterns in memory, shape ``(n_patterns, n_radial, n_azimuthal)``.

        Raises
        ------
        DataError
            If they were not asked for.
        """
        self._require_polar()
        return np.asarray(self.polar[:], dtype=np.float32).reshape(-1, self.grid.n_radial, self.grid.n_azimuthal)

    def polar_blocks(self, mask: NDArray[np.bool_] | None = None, n: int = 1024) -> Iterator[NDArray[np.float32]]:
        """Polar patterns of the positions in a mask, in the order of the scan, some at a time.

        Parameters
        ----------
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        n : int
            Patterns to hold in memory, about; at least a row of the scan.

        Yields
        ------
        ndarray of float32, shape (n_block, n_radial, n_azimuthal)

        Raises
        ------
        DataError
            If they were not asked for.
        """
        self._require_polar()
        yield from self._blocks(self.polar, mask, n)

    def pixel_blocks(self, mask: NDArray[np.bool_] | None = None, n: int = 1024) -> Iterator[NDArray[np.float32]]:
        """Cartesian patterns of the positions in a mask, in the order of the scan, some at a time.

        Parameters
        ----------
        mask : ndarray of bool, shape (scan_y, scan_x), optional
            True at the probe positions to use.
        n : int
            Patterns to hold in memory, about; at least a row of the scan.

        Yields
        ------
        ndarray of float32, shape (n_block, n, n)

        Raises
        ------
        DataError
            If they were not asked for.
        """
        if self.pixels is None:
            raise DataError(f"{self.name}: measured without Cartesian patterns; set measure.n_pixels, such as to 32")
        yield from self._blocks(self.pixels, mask, n)

    def _blocks(self, patterns: Any, mask: NDArray[np.bool_] | None, n: int) -> Iterator[NDArray[np.float32]]:
        rows, columns = self.scan_shape
        # a store is read in whole chunks
        stride = getattr(patterns, "chunks", (1,))[0]
        stride *= max(1, n // (stride * columns))
        for top in range(0, rows, stride):
            part = slice(top, min(top + stride, rows))
            if mask is not None and not mask[part].any():
                continue
            block = np.asarray(patterns[part], np.float32).reshape(-1, *patterns.shape[2:])
            yield block if mask is None else block[mask[part].ravel()]

    def _require_polar(self) -> None:
        if self.polar is None:
            raise DataError(
                f"{self.name}: measured without polar patterns; call measure(..., polar=True), or set "
                "measure.keep_polar to true"
            )

    def _summary(self) -> tuple[str, Sequence[Row]]:
        calibration, n_missing = self.calibration, self.n_patterns - int(self.recorded.sum())
        missing = f", {n_missing} without a pattern" if n_missing else ""
        step = format_quantity(calibration.scan_step, "Å")
        patterns = [] if self.polar is None else [f"polar {self.grid.n_radial} rings × {self.grid.n_azimuthal} sectors"]
        if self.pixels is not None and self.pixel_grid is not None:
            patterns.append(f"Cartesian {format_shape(self.pixel_grid.shape)}")
        rows = [
            ("scan", f"{format_shape(self.scan_shape)} positions, step {step}{missing}"),
            (
                "detector",
                f"{format_shape(self.detector_shape)} px, each {format_quantity(calibration.pixel_size, 'mrad')}",
            ),
            ("maps", ", ".join(f"{name} ({self.units[name]})" for name in self.maps)),
            ("patterns", ", ".join(patterns) or "none"),
            ("beam", calibration.describe_beam()),
            ("disc", calibration.describe_disc(self.origins)),
            ("preparation", describe_preparation(self.preparation)),
        ]
        return f"Measurements '{self.name}'", rows

    def write(self, group: zarr.Group) -> None:
        """Write everything into a Zarr group but polar and Cartesian patterns that `measure` has streamed there."""
        for name, values in self.maps.items():
            array = np.asarray(values, np.float32)
            group.create_array(f"maps/{name}", data=array, overwrite=True, attributes={"unit": self.units[name]})
        group.create_array("mean_pattern", data=np.asarray(self.mean_pattern, np.float64), overwrite=True)
        if self.image is not None:
            group.create_array("image", data=np.asarray(self.image, np.float32), overwrite=True)
        if self.bad_pixels is not None:
            group.create_array("bad_pixels", data=np.asarray(self.bad_pixels, bool), overwrite=True)
        if self.atoms is not None:
            write_atoms(group, self.atoms)
        for name, patterns in (("polar", self.polar), ("pixels", self.pixels)):
            if patterns is not None and name not in group:
                group.create_array(name, data=np.asarray(patterns[:], np.float32))
        if self.expectation is not None:
            self.expectation.write(group.require_group("expectation"))
        group.attrs.update(
            {
                "name": self.name,
                "calibration": self.calibration.to_dict(),
                "polar_grid": self.grid.to_dict(),
                "metadata": dict(self.metadata),
                "electrons_per_pattern": self.electrons_per_pattern,
                "noiseless": self.noiseless,
                "is_scan": self.is_scan,
                "origins": dict(self.origins),
                "preparation": None if self.preparation is None else self.preparation.to_dict(),
                "field_rotation": dict(self.field_rotation),
                "findings": [finding.to_dict() for finding in self.findings],
            }
            | ({} if self.pixel_grid is None else {"pixel_grid": self.pixel_grid.to_dict()})
        )

    @classmethod
    def read(cls, group: zarr.Group) -> Measurements:
        """Read what `write` wrote; polar patterns stay on disk."""
        attrs: dict[str, Any] = dict(group.attrs)
        # older files have these words among the metadata
        attributes = {**attrs["metadata"], **attrs}
        arrays = dict(group["maps"].arrays())  # type: ignore[union-attr]
        return cls(
            maps={name: np.asarray(array[:]) for name, array in arrays.items()},
            units={name: str(array.attrs["unit"]) for name, array in arrays.items()},
            polar=group.get("polar"),
            grid=PolarGrid.from_dict(attrs["polar_grid"]),
            mean_pattern=np.asarray(group["mean_pattern"][:]),  # type: ignore[index]
            calibration=Calibration.from_dict(attrs["calibration"]),
            name=attrs["name"],
            atoms=read_atoms(group),
            image=np.asarray(group["image"][:]) if "image" in group else None,  # type: ignore[index]
            metadata=attrs["metadata"],
            bad_pixels=np.asarray(group["bad_pixels"][:]) if "bad_pixels" in group else None,  # type: ignore[index]
            expectation=cls.read(group["expectation"]) if "expectation" in group else None,  # type: ignore[arg-type]
            pixels=group.get("pixels"),
            pixel_grid=PixelGrid.from_dict(attrs["pixel_grid"]) if "pixel_grid" in attrs else None,
            electrons_per_pattern=attributes.get("electrons_per_pattern"),
            noiseless=bool(attributes.get("noiseless", False)),
            is_scan=bool(attributes.get("is_scan", True)),
            origins=attrs.get("origins", {}),
            preparation=Preparation.from_dict(done) if (done := attrs.get("preparation")) else None,
            field_rotation=attrs.get("field_rotation")
            or {k: v for k, v in attrs["metadata"].items() if k in _ROTATION},
            findings=tuple(Finding.from_dict(record) for record in attrs.get("findings", ())),
        )
