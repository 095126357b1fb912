"""Settings of how a simulated scan is recorded: by which detector, and along which path."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stemvane.config.section import Section

__all__ = ["DETECTOR_PRESETS", "DetectorConfig", "DetectorPreset", "ScanConfig"]

DetectorPreset = Literal["ideal", "counting", "analogue", "scintillator"]

DETECTOR_PRESETS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "counting": {
        "kind": "counting",
        "charge_shares": (0.7, 0.13, 0.13, 0.04),
        "straggling": 0.1,
        "threshold": 0.4,
        "gain_rms": 0.02,
        "saturation": 4095.0,
        "hot_level": 4095.0,
        "dead_share": 0.001,
        "hot_share": 0.0005,
        "data_type": "uint16",
    },
    "analogue": {
        "kind": "analogue",
        "charge_shares": (0.5, 0.2, 0.2, 0.1),
        "straggling": 0.3,
        "adu_per_electron": 30.0,
        "gain_rms": 0.05,
        "dark_level": 100.0,
        "dark_rms": 3.0,
        "readout_noise": 5.0,
        "hot_level": 4000.0,
        "dead_share": 0.01,
        "hot_share": 0.0007,
        "data_type": "int32",
    },
    "scintillator": {
        "kind": "analogue",
        "charge_shares": (0.36, 0.24, 0.24, 0.16),
        "straggling": 0.6,
        "adu_per_electron": 8.0,
        "gain_rms": 0.02,
        "dark_level": 200.0,
        "dark_rms": 2.0,
        "readout_noise": 3.0,
        "saturation": 65535.0,
        "hot_level": 20000.0,
        "dead_share": 0.0005,
        "hot_share": 0.001,
        "data_type": "uint16",
    },
}
"""Typical values of each kind of detector, which hold where no others are given; docs/detector.md has their sources."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Pair = tuple[float, float]


class DetectorConfig(Section):
    """The detector that records a simulated scan; the defaults are those of an ideal one."""

    preset: DetectorPreset = Field("ideal", description="typical values, which hold where no others are given")
    kind: Literal["counting", "analogue"] = Field(
        "counting", description="whether a pixel counts electrons above a threshold or adds up their charge"
    )
    charge_shares: tuple[_Share, _Share, _Share, _Share] = Field(
        (1.0, 0.0, 0.0, 0.0),
        description="shares of an electron's charge in its own pixel, the nearest one along y, that along x and the "
        "one between these; they sum to 1, and each electron chooses up or down, left or right at random",
    )
    straggling: float = Field(0.0, ge=0, description="rms variation of the charge of single electrons, over its mean")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="charge above which a counting pixel counts, over the mean charge of an electron"
    )
    adu_per_electron: float = Field(1.0, gt=0, description="mean reading of an analogue detector per electron, ADU")
    gain_rms: float = Field(0.0, ge=0, lt=0.5, description="rms variation of the gain from pixel to pixel")
    dark_level: float = Field(0.0, description="mean reading of an analogue detector without a beam, ADU")
    dark_rms: float = Field(0.0, ge=0, description="rms variation of the dark level from pixel to pixel, ADU")
    readout_noise: float = Field(0.0, ge=0, description="rms noise of every reading of an analogue detector, ADU")
    saturation: float | None = Field(
        None, gt=0, description="highest reading, ADU or counts; that of the data type if none"
    )
    dead_share: _Share = Field(0.0, description="share of the pixels that read 0, at random places")
    hot_share: _Share = Field(0.0, description="share of the pixels that read hot_level, at random places")
    hot_level: float = Field(1000.0, gt=0, description="reading of a hot pixel, ADU or counts")
    dead_blocks: tuple[tuple[int, int, int, int], ...] = Field(
        (), description="blocks of pixels that read 0: top, bottom, left, right; bottom and right not included"
    )
    gap: int = Field(0, ge=0, description="width of the cross between four chips that reads 0, px")
    beam_shift: tuple[_Pair, _Pair] = Field(
        ((0.0, 0.0), (0.0, 0.0)),
        description="shift of the beam with the scan, px (y, x): from the first row to the last, and from the first "
        "column to the last",
    )
    beam_bow: _Pair = Field(
        (0.0, 0.0),
        description="further shift of the beam, px (y, x), that grows with the square of the distance from the middle "
        "of the scan: by so much from there to the middle of an edge",
    )
    n_dark_frames: int = Field(16, ge=1, description="number of frames without a beam that the dark frame is made of")
    data_type: Literal["uint8", "uint16", "uint32", "int16", "int32", "float32"] = Field(
        "uint16", description="type of the numbers that the detector writes; readings beyond it saturate"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        """A name alone stands for its preset; given values take precedence over those of the preset."""
        if isinstance(values, str):
            values = {"preset": values}
        if not isinstance(values, dict):
            return values
        return {**DETECTOR_PRESETS.get(str(values.get("preset")), {}), **values}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(sum(self.charge_shares) - 1) > 1e-6:
            raise ValueError(f"charge_shares sum to {sum(self.charge_shares):.4g}; give four shares that sum to 1")
        analogue_only = [
            name
            for name in ("dark_level", "dark_rms", "readout_noise")
            if self.kind == "counting" and getattr(self, name)
        ]
        if analogue_only:
            raise ValueError(f"a counting detector has no {analogue_only[0]}; leave it 0, or take kind 'analogue'")
        if self.dead_share + self.hot_share > 1:
            raise ValueError("dead_share and hot_share together are more than 1; give smaller ones")
        return self

    def require_fit(self, detector_shape: tuple[int, int]) -> None:
        """Raise a ValueError where blocks, gap or shift do not fit a detector of this shape ``(k_y, k_x)``."""
        rows, columns = detector_shape
        for top, bottom, left, right in self.dead_blocks:
            if not (0 <= top < bottom <= rows and 0 <= left < right <= columns):
                raise ValueError(
                    f"detector.dead_blocks has [{top}, {bottom}, {left}, {right}], which does not lie on {rows} x "
                    f"{columns} pixels; give [top, bottom, left, right], bottom and right not included"
                )
        if self.gap > min(detector_shape) // 2:
            raise ValueError(f"detector.gap of {self.gap} px is more than half of the {rows} x {columns} pixels")
        for y, x in (*self.beam_shift, self.beam_bow):
            if abs(y) > rows / 2 or abs(x) > columns / 2:
                raise ValueError(
                    f"a shift of the beam of ({y}, {x}) px is more than half the detector of {rows} x {columns} pixels"
                )

    @property
    def shifts_beam(self) -> bool:
        """Whether the beam moves on the detector during the scan."""
        return any(number != 0 for pair in (*self.beam_shift, self.beam_bow) for number in pair)


class ScanConfig(Section):
    """The way of the probe over the specimen in a simulated scan, and the frames that do not follow it."""

    drift: _Pair = Field(
        (0.0, 0.0), description="drift of the specimen from the first frame to the last, Å (y, x), at constant speed"
    )
    flyback_distortion: float = Field(
        0.0, description="distance along x by which the probe lags behind at the first position of each line, Å"
    )
    flyback_decay: float = Field(
        3.0, gt=0, description="number of positions after which that has fallen by a factor of e"
    )
    line_jitter: float = Field(
        0.0, ge=0, description="standard deviation of a random displacement of each line along x, Å"
    )
    n_flyback: int = Field(
        0, ge=0, description="frames that are recorded at the end of each line, while the probe flies back"
    )
    n_lost: int = Field(0, ge=0, description="frames that are lost at random places: those behind move up")
    n_extra: int = Field(0, ge=0, description="frames that are recorded twice at random places: those behind move back")
    stacked: bool = Field(
        False, description="whether all frames are given as a stack, one line, instead of being folded into the scan"
    )

    def require_fit(self, scan_shape: tuple[int, int], scan_extent: tuple[float, float]) -> None:
        """Raise a ValueError where distortions do not fit a scan of so many positions ``(y, x)`` and so many Å."""
        n_frames = scan_shape[0] * (scan_shape[1] + self.n_flyback)
        if self.n_lost >= n_frames or self.n_lost + self.n_extra > n_frames:
            raise ValueError(
                f"scan.n_lost {self.n_lost} and scan.n_extra {self.n_extra} do not fit the {n_frames} frames"
            )
        farthest = max(*map(abs, self.drift), abs(self.flyback_distortion), self.line_jitter)
        if farthest > 2 * max(scan_extent):
            raise ValueError(
                f"scan.drift {list(self.drift)}, scan.flyback_distortion {self.flyback_distortion} or "
                f"scan.line_jitter {self.line_jitter} Å is more than twice the scanned area of {list(scan_extent)} Å"
            )
