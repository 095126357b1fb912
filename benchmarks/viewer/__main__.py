"""How fast the viewer answers: first picture, patterns of cold files, dragged detectors, a million points, memory.

Run as ``python -m benchmarks.viewer``; writes ``benchmarks/results/viewer.json`` and prints a table. It needs Debian's
chromium and playwright, which the browser's rows are measured with, and 22 GB in the temporary folder for the cold
file, which is written for it and removed again (``--gigabytes`` makes it smaller). Files are made cold with
``posix_fadvise(POSIX_FADV_DONTNEED)`` after ``fsync``. Server and browser share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import httpx2
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

import stemvane as sv
from benchmarks.harness.cells import machine
from stemvane.viewer.scene import Scene

RESULTS = Path(__file__).parents[1] / "results" / "viewer.json"
TOKEN = "a-token-of-the-benchmark"
AIMS = {
    "first picture of a run, browser": "1000 ms",
    "pattern, cold raw file": "30 ms",
    "pattern, cold compressed file": "100 ms",
    "dragged detector, 256 × 256": "20 frames/s",
    "server's memory, run with model": "500 MB",
}
N_PATTERNS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server of its own process, as ``stemvane view`` starts it; gives its address without the token."""
    port = free_port()
    code = "from stemvane.cli.app import main; main()"
    command = [sys.executable, "-c", code, "view", str(path), "--no-browser", "--port", str(port), "--token", TOKEN]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                httpx2.get(address)
                break
            except httpx2.TransportError:
                if process.poll() is not None:
                    raise RuntimeError(f"the server of {path} has ended") from None
                time.sleep(0.05)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def asked(client: httpx2.Client, question: str, **values: Any) -> float:
    """Seconds that an answer takes."""
    began = time.perf_counter()
    answer = client.post(f"/api/0/{question}", json=values)
    took = time.perf_counter() - began
    if b'"error"' in answer.content[:200]:
        raise RuntimeError(answer.content[:300])
    return took


def make_cold(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def milliseconds(values: list[float]) -> dict[str, float]:
    ordered = sorted(1e3 * v for v in values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
        "largest": round(ordered[-1], 2),
    }


def raw_file(folder: Path, gigabytes: float) -> Path:
    """A file of 16-bit counts, 256 × 256 pixels each, written once and not read again."""
    side = max(8, int((gigabytes * 1e9 / (2 * 256 * 256)) ** 0.5))
    path = folder / "cold.npy"
    rng = np.random.default_rng(0)
    line = rng.poisson(3.0, (side, 256, 256)).astype(np.uint16)
    with path.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (side, side, 256, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        for y in range(side):
            line[0] = y
            file.write(line.tobytes())
        os.fsync(file.fileno())
    return path


def compressed_file(folder: Path) -> Path:
    """Counts in chunks of 8 × 8 patterns of 128 × 128 pixels, compressed with gzip."""
    path = folder / "compressed.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("scan", (64, 64, 128, 128), "<u2", chunks=(8, 8, 128, 128), compression="gzip")
        for y in range(0, 64, 8):
            data[y : y + 8] = rng.poisson(3.0, (8, 64, 128, 128))
    return path


def cold_patterns(path: Path) -> dict[str, float]:
    """Time of patterns at random positions, the file made cold before each."""
    rng = np.random.default_rng(1)
    times = []
    with serving(path) as (address, _), httpx2.Client(base_url=address, timeout=600) as client:
        client.get(f"/?token={TOKEN}")
        # while the pass that bins all patterns is still running, as when a file has just been opened
        rows, columns = sv.open_dataset(path).scan_shape
        for _ in range(N_PATTERNS):
            make_cold(path)
            times.append(asked(client, "pattern", y=int(rng.integers(rows)), x=int(rng.integers(columns))))
    return milliseconds(times)


def cold_patterns_alone(path: Path) -> dict[str, float]:
    """The same without server and pass, as when all patterns have been binned."""
    scene = Scene.of_dataset(sv.open_dataset(path))
    rng = np.random.default_rng(2)
    times = []
    for _ in range(N_PATTERNS):
        make_cold(path)
        y, x = (int(rng.integers(n)) for n in scene.scan_shape)
        began = time.perf_counter()
        scene.pattern(y, x)
        times.append(time.perf_counter() - began)
    return milliseconds(times[1:])  # the first is read twice, to learn whether the file is compressed


def wait_for(page: Page, condition: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(f"Boolean({condition})"):
        if time.monotonic() > end:
            raise RuntimeError(f"never on the page: {condition}")
        page.wait_for_timeout(20)


def in_browser(address: str, chromium: str) -> dict[str, Any]:
    """What a person with the page open sees."""
    measured: dict[str, Any] = {}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{address}/?token={TOKEN}")
        wait_for(page, "window.viewer?.timings?.firstPicture")
        # from the first byte of the page to the map on the screen
        measured["first picture of a run, browser"] = {
            "median": round(page.evaluate("performance.timeOrigin && viewer.started + viewer.timings.firstPicture"), 1)
        }
        wait_for(page, "viewer.session.info.model === 'ready' && !viewer.busy && viewer.page.decodedHere.drawn")
        page.get_by_role("button", name="ADF", exact=True).click()
        wait_for(page, "viewer.detectorSignal?.exact")
        box = page.locator(".panel.pattern .stage canvas").bounding_box()
        assert box is not None
        page.evaluate("viewer.timings.detectors.length = 0; window.before = viewer.page.map.panel.drawn")
        edge = page.evaluate(
            "(() => { const d = viewer.store.state.detector;"
            "return viewer.page.patternPanel.panel.toScreen(d.y, d.x + d.inner + 1) })()"
        )
        x, y = box["x"] + edge[1] + 6, box["y"] + edge[0]
        page.mouse.move(x, y)
        page.mouse.down()
        began = time.perf_counter()
        step = 0
        while time.perf_counter() - began < 4:
            step += 1
            page.mouse.move(x + 20 * np.sin(step / 9), y + 15 * np.cos(step / 9))
        took = time.perf_counter() - began
        answers, drawn = page.evaluate("[viewer.timings.detectors.length, viewer.page.map.panel.drawn - window.before]")
        page.mouse.up()
        measured["dragged detector, 256 × 256"] = {"per second": round(min(answers, drawn) / took, 1)}
        wait_for(page, "viewer.detectorSignal?.exact")
        page.get_by_role("button", name="Off", exact=True).click()
        points = """(n) => { const { latents } = viewer.page;
            const random = () => Float32Array.from({ length: n }, () => Math.random() + Math.random());
            latents.values = [random(), random()]; latents.colors = null; latents.range = [0, 2, 0, 2];
            const times = []; for (let i = 0; i < 5; i++) { const began = performance.now();
            latents.stale = true; latents.paint(); times.push(performance.now() - began); } return times }"""
        times = page.evaluate(points, 1_000_000)
        measured["a million points drawn, browser"] = milliseconds([t / 1e3 for t in times])
        browser.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20.0, help="size of the cold file")
    parser.add_argument("--folder", type=Path, default=None, help="where files are written; a temporary folder")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        tile, _ = sv.synthetic((64, 64), (64, 64), dose=2e4)
        patterns = np.tile(np.asarray(tile.data), (4, 4, 1, 1))
        dataset = sv.Dataset4D.from_array(patterns, calibration=tile.calibration, name="tiles")
        sv.save_dataset(dataset, folder / "scan.zarr", progress=False)
        config = sv.Config().replace(source={"path": str(folder / "scan.zarr")}, training={"n_epochs": 5})
        run = sv.run_pipeline(config, folder / "run", progress=lambda *_: None)
        with serving(run.path) as (address, process):
            rows |= in_browser(address, chromium)
            with httpx2.Client(base_url=address, timeout=600) as client:
                client.get(f"/?token={TOKEN}")
                radii = np.linspace(5, 30, N_PATTERNS)
                rows["answer to a dragged detector, server"] = milliseconds(
                    [asked(client, "detector", shape="disc", y=31, x=32, outer=float(r)) for r in radii]
                )
                rows["decoded pattern, server"] = milliseconds(
                    [asked(client, "decode", latents=[0.1, float(r) / 100], angle=0.1) for r in radii]
                )
                rows["pattern of a warm run, server"] = milliseconds(
                    [asked(client, "pattern", y=int(4 * r), x=int(8 * r)) for r in radii]
                )
                selection = {"kind": "rectangle", "space": "scan", "points": [[20, 20], [120, 140]]}
                rows["mean of 12,000 patterns while drawing, server"] = milliseconds(
                    [asked(client, "select", selection=selection, quick=True) for _ in range(10)]
                )
                rows["the same, all of them, server"] = milliseconds(
                    [asked(client, "select", selection=selection) for _ in range(3)]
                )
                rows["exact detector over 65,536 patterns, server"] = milliseconds(
                    [asked(client, "exact", shape="disc", y=31, x=32, outer=12) for _ in range(3)]
                )
            memory = process.memory_info()
            rows["server's memory, run with model"] = {
                "MB": round((memory.rss - memory.shared) / 1e6),
                "MB of libraries and mapped files besides": round(memory.shared / 1e6),
            }
        compressed = compressed_file(folder)
        rows["pattern, cold compressed file"] = cold_patterns_alone(compressed)
        rows["the same while the pass over all patterns runs, server"] = cold_patterns(compressed)
        cold = raw_file(folder, options.gigabytes)
        rows["pattern, cold raw file"] = cold_patterns_alone(cold)
        rows["the same while that pass runs, server"] = cold_patterns(cold) | {
            "GB": round(cold.stat().st_size / 1e9, 1)
        }
    RESULTS.write_text(
        json.dumps({"machine": machine(), "load": os.getloadavg()[0], "rows": rows}, indent=1, ensure_ascii=False)
    )
    print("| | measured | aim |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {', '.join(f'{key} {value}' for key, value in values.items())} | {AIMS.get(name, '')} |")


if __name__ == "__main__":
    main()
