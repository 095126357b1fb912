"""A run as one HTML file that needs neither a server nor the network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemvane.errors import RunError
from stemvane.io.atomic import write_text
from stemvane.runs.run import Run
from stemvane.viewer.answers import Answers, framed
from stemvane.viewer.bundle import bundled, static_files
from stemvane.viewer.report_metrics import explain_metrics
from stemvane.viewer.scene import Scene
from stemvane.viewer.wire import Coded, code_array, decode_message, encode_message

__all__ = ["report_html", "write_report"]

_MOST_BYTES = 8 * 10**6
_MOST_PATTERNS = 400
_MOST_PIXELS = 32
# what a report shows of large scans: every second position, and so on
_MOST_POSITIONS = 200_000
_STYLE = """
body { margin: 0; background: light-dark(#fff, #16181c); color: light-dark(#1d2025, #e8eaee); color-scheme: light dark;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
body > main { max-width: 1180px; margin: 0 auto; padding: 20px; }
main > table { border-collapse: collapse; width: 100%; }
main > table th, main > table td { text-align: left; padding: 4px 10px 4px 0; vertical-align: top;
  border-bottom: 1px solid light-dark(#d8dce3, #3b404a); font-weight: normal; }
main > table td:nth-child(2) { white-space: nowrap; font-variant-numeric: tabular-nums; }
main > img { max-width: 100%; background: #fff; }
main pre { overflow: auto; padding: 10px; background: light-dark(#f4f5f7, #1f2228); font-size: 12px; }
.finding { border-left: 4px solid light-dark(#c9ced6, #3b404a); padding-left: 10px; margin: 8px 0; }
.finding.warning { border-color: #c98a00; } .finding.failure { border-color: #b3261e; }
@media print { #viewer, .interactive { display: none; } }
"""


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write a report of a run.

    Parameters
    ----------
    run : Run
        A finished run.
    path : Path, optional
        The HTML file; ``<run>_report.html`` beside the run where left out.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    place = run.path.with_name(f"{run.path.name}_report.html") if path is None else path
    if place.is_dir():
        raise RunError(f"{place}: a folder; give the name of a file for the report")
    try:
        write_text(place, report_html(run))
    except OSError as error:
        raise RunError(f"{place}: cannot be written ({error.strerror or error}); give another name") from None
    return place


def report_html(run: Run) -> str:
    """Write a report of a run as HTML.

    Parameters
    ----------
    run : Run
        A finished run.

    Returns
    -------
    str
        Findings, the overview figure, metrics with their meaning, maps and patterns to look at, settings and versions.
        Without the figure where the page would be larger than 8 MB with it.
    """
    scene = Scene.of_run(run)
    carried = base64.b64encode(
        gzip.compress(b"".join(framed(message) for message in _answers(scene)), mtime=0)
    ).decode()
    script = f"{bundled('report')}\nmodule_report.showReport();\n"
    style = _STYLE + static_files()["viewer.css"].decode()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    rest = _MOST_BYTES - len(carried) - len(script) - len(style)
    body = "\n".join(
        [*_head(run), *_findings(scene), *_figure(run, rest), *_metrics(run), *_interactive(scene), *_settings(run)]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(run.path.name)} – stemvane report</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script id="answers" type="text/plain">{carried}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _answers(scene: Scene) -> Iterator[bytes]:
    """Everything that the page within the report can show."""
    answers = Answers([scene])
    stride = max(1, math.ceil(math.sqrt(math.prod(scene.scan_shape) / _MOST_POSITIONS)))
    thin = (slice(None, None, stride), slice(None, None, stride))
    bins = max(1, math.ceil(max(scene.detector_shape) / _MOST_PIXELS))
    header, _ = decode_message(next(answers.answer(0, "scene", {})))
    shape = scene.maps["total"].values[thin].shape
    calibration = _coarser(header["calibration"], stride, bins)
    detector_shape = [n // bins for n in scene.detector_shape]
    words = {k: v for k, v in header.items() if k != "arrays"}
    for row in words["defects"]:
        row["y"], row["x"] = row["y"] / stride, row["x"] / stride
    words |= {
        "answer": "scene",
        "offline": True,
        "writable": False,
        "scan_shape": list(shape),
        "detector_shape": detector_shape,
        "calibration": calibration,
        "model": "ready" if header["has_manifold"] else "none",
        "presets": {},
        "binned": False,
        "annotations": {"labels": [], "detectors": []},
    }
    yield encode_message(**words)
    for name, shown in scene.maps.items():
        arrays = [code_array("values", shown.values[thin], "rad" if shown.strength is not None else shown.unit)]
        if shown.strength is not None:
            arrays.append(code_array("strength", shown.strength[thin], shown.unit))
        yield encode_message(_light(arrays), answer=f"map:{name}", **shown.to_dict())
    if scene.embedding is not None:
        latents = scene.embedding.latents[thin]
        unit = scene.embedding.latent_unit
        coded = [code_array(f"latent_{k + 1}", latents[..., k], unit) for k in range(latents.shape[-1])]
        yield encode_message(coded, answer="latents")
    if scene.run is not None:
        grid = _binned(scene.run.manifold, bins)
        latents = np.asarray(scene.run.manifold_latents, float).tolist()
        yield encode_message([code_array("manifold", grid, "relative")], answer="manifold", latents=latents)
    if scene.pattern_source:
        rows, columns = shape
        apart = max(1, math.ceil(math.sqrt(rows * columns / _MOST_PATTERNS)))
        positions = [(y, x) for y in range(apart // 2, rows, apart) for x in range(apart // 2, columns, apart)]
        patterns = _binned(scene.patterns([(y * stride, x * stride) for y, x in positions]), bins)
        unit = header["pattern_unit"]
        yield encode_message([code_array("patterns", patterns, unit)], answer="patterns", positions=positions)


def _light(arrays: list[Coded]) -> list[Coded]:
    """In 8 bits where 16 would make the report too heavy: maps of more than 100,000 positions."""
    if arrays[0].codes.size <= 100_000:
        return arrays
    light = []
    for array in arrays:
        codes = array.codes.astype(np.float64)
        missing = codes == np.iinfo(array.codes.dtype).max
        largest = float(codes.max(where=~missing, initial=0)) or 1.0
        coarse = np.where(missing, 255, np.rint(codes / largest * 254)).astype(np.uint8)
        light.append(Coded(array.name, coarse, array.low, array.step * largest / 254, array.unit))
    return light


def _coarser(calibration: dict[str, Any], stride: int, bins: int) -> dict[str, Any]:
    """Steps of a scan that was thinned out, and of patterns that were binned; a bin's centre moves by (b - 1)/2."""
    changed = dict(calibration)
    if "scan_step" in changed:
        changed["scan_step"] = [step * stride for step in changed["scan_step"]]
    if "pixel_size" in changed:
        changed["pixel_size"] = [size * bins for size in changed["pixel_size"]]
    if "optical_axis" in changed:
        changed["optical_axis"] = [(v - (bins - 1) / 2) / bins for v in changed["optical_axis"]]
    if "disc_radius" in changed:
        changed["disc_radius"] /= bins
    return changed


def _binned(patterns: NDArray[Any], bins: int) -> NDArray[np.float64]:
    """Means over squares of pixels; those that are left over at the far edges are cut off."""
    height, width = (n // bins for n in patterns.shape[-2:])
    cut = np.asarray(patterns, np.float64)[..., : height * bins, : width * bins]
    blocks = cut.reshape(*cut.shape[:-2], height, bins, width, bins)
    known = np.isfinite(blocks)
    sums = np.where(known, blocks, 0).sum(axis=(-3, -1))
    counts = known.sum(axis=(-3, -1))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _head(run: Run) -> Iterator[str]:
    data = run.manifest.get("data", {})
    shape = " × ".join(map(str, data.get("shape", [])))
    yield f"<h1>{escape(run.path.name)}</h1>"
    yield f"<p>{escape(str(data.get('name')))}, {escape(shape)}, {escape(str(data.get('dtype')))}. "
    yield f"Analysed {escape(str(run.manifest.get('finished'))[:10])} with stemvane "
    yield f"{escape(str(run.manifest.get('versions', {}).get('stemvane')))}.</p>"


def _findings(scene: Scene) -> Iterator[str]:
    yield "<h2>Findings</h2>"
    if not scene.notes:
        yield "<p>Nothing was found that makes the result doubtful.</p>"
    for finding in scene.notes:
        severity = escape(finding.severity)
        yield f'<p class="finding {severity}"><strong>{severity}</strong> {escape(str(finding))}</p>'


def _figure(run: Run, most: int) -> Iterator[str]:
    for name, words in (
        ("figure1", "Decoded patterns over the latents, the structure, the COM, the learned rotation and the latents"),
        ("figure2", "Decoded patterns over the latents, the COM, the learned rotation and the latents"),
    ):
        file = run.figures_path / f"{name}.png"
        if file.is_file() and file.stat().st_size * 4 / 3 < most:
            yield "<h2>Overview</h2>"
            yield f'<img alt="{words}" src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}">'
            return


def _metrics(run: Run) -> Iterator[str]:
    yield "<h2>Metrics</h2>"
    yield "<table><tbody>"
    for label, value, meaning in explain_metrics(run.metrics):
        yield f"<tr><th scope=row>{escape(label)}</th><td>{escape(value)}</td><td>{escape(meaning)}</td></tr>"
    yield "</tbody></table>"


def _interactive(scene: Scene) -> Iterator[str]:
    yield '<h2 class="interactive">Maps and patterns</h2>'
    source = "as recorded" if scene.pattern_source == "recorded" else "drawn from polar samples"
    words = f"Patterns of some hundred positions, {source}, in coarse pixels; the nearest is shown."
    yield f'<p class="interactive">{words}</p>'
    yield '<div id="viewer"><p>The maps need a browser of 2023 or newer, with JavaScript.</p></div>'


def _settings(run: Run) -> Iterator[str]:
    yield "<h2>How it was made</h2>"
    if run.manifest.get("command"):
        yield f"<pre>{escape(str(run.manifest['command']))}</pre>"
    yield f"<details><summary>Settings</summary><pre>{escape(run.config.to_toml())}</pre></details>"
    versions = {"python": run.manifest.get("python"), **run.manifest.get("versions", {})}
    yield f"<p>{escape(', '.join(f'{name} {version}' for name, version in versions.items()))}</p>"


def _hash(text: str) -> str:
    """What a content security policy knows an inline script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
