"""Recording: from expected patterns to what a detector writes of a scan, with the truth beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stemvane.config import DetectorConfig, ScanConfig, SimulationConfig
from stemvane.data.dataset import Dataset4D, as_lazy
from stemvane.data.truth import DetectorTruth
from stemvane.simulation.beam_shift import centre_of_mass, fine_optics, shift_at, shift_patterns
from stemvane.simulation.detector import Detector
from stemvane.simulation.optics import Optics
from stemvane.simulation.scan_distortions import GridAxis, ScanPath, interpolate_patterns

__all__ = ["Recording"]

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recording:
    """How one scan is recorded: by which detector, along which path, and with which shift of the beam.

    Attributes
    ----------
    settings : SimulationConfig
        All settings of the simulation.
    detector : DetectorConfig
        The detector.
    path : ScanPath
        Every frame that is recorded.
    shift : ndarray of float, shape (n, 2)
        Shift ``(y, x)`` of the beam in pixels in every frame.
    """

    settings: SimulationConfig
    detector: DetectorConfig
    path: ScanPath
    shift: Reals

    @classmethod
    def of(cls, settings: SimulationConfig) -> Recording | None:
        """Plan the recording that the settings ask for, None where they ask for none."""
        detector = settings.recorder
        if detector is None:
            return None
        path = ScanPath.of(settings.scan or ScanConfig(), settings.scan_shape, settings.scan_step, settings.seed)
        return cls(settings, detector, path, shift_at(detector, path.places, settings.scan_shape))

    @property
    def scan_shape(self) -> tuple[int, int]:
        """Shape that the frames are folded into."""
        scan = self.settings.scan
        return self.settings.scan_shape if scan is None or not scan.stacked else (1, len(self.path.places))

    def grid(self, optics: Optics) -> tuple[GridAxis, GridAxis] | None:
        """Positions that patterns along the path can be interpolated from; None where those of the scan will do."""
        if self.settings.scan is None:
            return None
        # the intensity holds spatial frequencies up to 2 α / λ: four samples for the finest of its periods
        return self.path.grid(self.settings.scan_step, 1e3 * optics.wavelength / (8 * optics.semiangle))

    def optics(self, optics: Optics, steps: tuple[float, float]) -> Optics:
        """Pixels to compute patterns on: the detector's, or finer ones where the beam shifts by fractions of these."""
        return fine_optics(optics, self.shift, steps) if self.detector.shifts_beam else optics

    def expect(
        self, patterns: Floats, grid: tuple[GridAxis, GridAxis], sampled: Optics, optics: Optics
    ) -> tuple[Floats, Reals]:
        """Noiseless patterns of every frame that is kept, folded into the scan.

        Parameters
        ----------
        patterns : ndarray of float, shape (grid_y, grid_x, n_y, n_x)
            Patterns at the positions of the grid, on the pixels of `sampled`.
        grid : tuple of GridAxis
            Axes ``(y, x)`` of the grid.
        sampled, optics : Optics
            The pixels that they were computed on, and those of the detector.

        Returns
        -------
        patterns : ndarray of float, shape (scan_y, scan_x, k_y, k_x)
            0 where there is no frame.
        com : ndarray of float, shape (scan_y, scan_x, 2)
            Their centre of mass ``(y, x)`` without the beam's shift, pixels from the detector's middle.
        """
        if self.settings.scan is None:
            frames = patterns.reshape(-1, *patterns.shape[2:])
        else:
            frames = interpolate_patterns(patterns, grid, self.path.positions)
        if self.detector.shifts_beam:
            frames, com = shift_patterns(frames, sampled, optics, self.shift)
        else:
            com = centre_of_mass(frames)
        return self.path.fold(frames, self.scan_shape), self.path.fold(com, self.scan_shape)

    def record(self, dataset: Dataset4D, com: Reals, report: Callable[[int], None]) -> Dataset4D:
        """What the detector writes of noiseless patterns.

        Parameters
        ----------
        dataset : Dataset4D
            Data set whose expectation is in electrons, with what is known of a simulation.
        com : ndarray of float, shape (scan_y, scan_x, 2)
            Centre of mass as `expect` gives it.
        report : callable
            Called with numbers of patterns as they are recorded.

        Returns
        -------
        Dataset4D
            It says no more of itself than a recorded one; all else is in its truth.
        """
        calibration, dose = dataset.calibration, self.settings.dose
        assert dose is not None
        assert dataset.expectation is not None
        assert calibration.pixel_size is not None
        assert calibration.optical_axis is not None
        detector = Detector.make(self.detector, dataset.detector_shape, self.settings.seed)
        shift, places, positions = (
            self.path.fold(values, self.scan_shape) for values in (self.shift, self.path.places, self.path.positions)
        )
        truth = DetectorTruth(
            bad_pixels=detector.bad_pixels,
            gain=detector.response(),
            dark=detector.dark,
            dark_frame=detector.dark_frame(),
            axis=shift + calibration.optical_axis,
            com=calibration.pixel_size[0] * com,
            places=places,
            positions=positions,
            electrons_per_pattern=dose,
            counts_per_electron=detector.counts_per_electron,
            variance_per_count=detector.variance_per_count,
            readout_noise=self.detector.readout_noise,
        )
        missing = np.isnan(com[..., 0])
        data = detector.record(dataset.expectation.compute(), report)
        data[missing] = 0
        stacked = self.settings.scan is not None and self.settings.scan.stacked
        return replace(
            dataset,
            data=as_lazy(data, dataset.name),
            calibration=calibration.replace(
                optical_axis=None, disc_radius=None, **({"scan_step": None} if stacked else {})
            ),
            electrons_per_pattern=None,
            noiseless=False,
            missing=missing if missing.any() else None,
            is_scan=not stacked,
            metadata={**dataset.metadata, "detector": self.detector.preset},
            truth=truth,
        )
