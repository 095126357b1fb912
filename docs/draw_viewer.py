"""Pictures of the viewer, as the documentation shows them, and its recording in the README.

``python docs/draw_viewer.py DEMO RECORDED DEFECTS`` takes three runs: that of ``stemvane demo``, one of a recorded
scan, and one that ``stemvane symmetry`` has searched. It needs chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import stemvane as sv
from stemvane.viewer.answers import Answers
from stemvane.viewer.scene import Scene
from stemvane.viewer.serving import ViewServer

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1280, "height": 800}
# what a mouse looks like to a page without one
POINTER = """() => { const spot = document.createElement("div"); document.body.append(spot);
Object.assign(spot.style, { position: "fixed", width: "16px", height: "16px", borderRadius: "50%", zIndex: 9,
  background: "rgb(255 80 40 / 70%)", border: "2px solid white", pointerEvents: "none", left: "-30px" });
document.addEventListener("pointermove", (event) => Object.assign(spot.style,
  { left: `${event.clientX - 9}px`, top: `${event.clientY - 9}px` }), true); }"""


@contextmanager
def opened(browser: Browser, path: Path, **settings: Any) -> Iterator[Page]:
    """The page of a run, when everything is drawn."""
    scene = Scene.of_run(sv.Run.open(path))
    server = ViewServer(Answers([scene]))
    server.start()
    scene.start()
    context = browser.new_context(viewport=SIZE, **settings)
    page = context.new_page()
    page.goto(server.address)
    until(page, "window.viewer?.session?.info?.model === 'ready' && viewer.page.decodedHere.drawn && !viewer.busy")
    page.wait_for_timeout(500)
    yield page
    context.close()
    server.stop()


def until(page: Page, condition: str) -> None:
    """Wait for a condition on the page."""
    for _ in range(600):
        if page.evaluate(f"Boolean({condition})"):
            return
        page.wait_for_timeout(50)
    raise SystemExit(f"never on the page: {condition}")


def middle(page: Page, panel: str) -> tuple[float, float]:
    """Middle of a panel, in pixels of the page."""
    box = page.locator(f".panel.{panel} .stage canvas").first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw_demo(page: Page) -> None:
    """The COM of the demo, and the grid of decoded patterns."""
    page.evaluate(
        "viewer.store.set({ map: 'com', patternContrast: 'disc', patternScale: 'linear', lowerRight: 'grid' })"
    )
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "viewer.png")


def draw_recorded(page: Page) -> None:
    """A lasso in the learned space of a recorded scan."""
    page.evaluate(
        "viewer.store.set({ map: 'latent_1', patternContrast: 'disc', patternScale: 'linear', tool: 'lasso' })"
    )
    x, y = middle(page, "latents")
    page.locator(".panel.latents").get_by_role("button", name="Lasso").click()
    page.mouse.move(x - 110, y - 70)
    page.mouse.down()
    for dx, dy in ((-20, -60), (10, 40), (-60, 90), (-120, 40)):
        page.mouse.move(x + dx, y + dy, steps=6)
    page.mouse.up()
    until(page, "viewer.chosen?.settled")
    page.evaluate("viewer.store.set({ pattern: 'rotated', lowerRight: 'findings', lowerLeft: 'spectrum' })")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "viewer_recorded.png")


def draw_defects(page: Page) -> None:
    """A defect from the list, under a virtual detector."""
    page.evaluate("viewer.store.set({ lowerRight: 'defects', patternContrast: 'disc', patternScale: 'linear' })")
    page.get_by_role("button", name="1", exact=True).click()
    page.get_by_role("button", name="ADF", exact=True).click()
    until(page, "viewer.detectorSignal?.exact")
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / "viewer_defects.png")


def record(page: Page) -> None:
    """Ten seconds: the cursor over the map, a lasso in the learned space, a virtual detector that is dragged."""
    frames: list[Image.Image] = []

    def keep(n: int = 1) -> None:
        for _ in range(n):
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            frames.append(picture.resize((960, 600), Image.Resampling.LANCZOS))

    page.evaluate(POINTER)
    page.evaluate("viewer.store.set({ map: 'com', patternContrast: 'disc', patternScale: 'linear' })")
    page.wait_for_timeout(1200)
    x, y = middle(page, "map")
    page.mouse.move(x - 90, y - 60)
    page.mouse.down()
    for t in np.linspace(0, 1, 24):
        page.mouse.move(x - 90 + 170 * t, y - 60 + 40 * np.sin(6 * t))
        page.wait_for_timeout(60)
        keep()
    page.mouse.up()
    page.locator(".panel.latents").get_by_role("button", name="Lasso").click()
    x, y = middle(page, "latents")
    page.mouse.move(x - 150, y - 20)
    page.mouse.down()
    for t in np.linspace(0, 2 * np.pi, 26):
        page.mouse.move(x - 90 - 70 * np.cos(t), y - 20 - 60 * np.sin(t))
        page.wait_for_timeout(60)
        keep()
    page.mouse.up()
    until(page, "viewer.chosen?.settled")
    page.evaluate("viewer.store.set({ pattern: 'rotated' })")
    page.wait_for_timeout(400)
    keep(8)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="ADF", exact=True).click()
    until(page, "viewer.detectorSignal?.exact")
    keep(4)
    x, y = middle(page, "pattern")
    radius = page.evaluate("viewer.store.state.detector.inner * viewer.page.patternPanel.panel.frame.scaleX")
    page.mouse.move(x + radius, y)
    page.mouse.down()
    for t in np.linspace(0, 1, 30):
        page.mouse.move(x + radius * (1 - 0.6 * np.sin(np.pi * t)), y)
        page.wait_for_timeout(60)
        keep()
    page.mouse.up()
    page.wait_for_timeout(500)
    keep(8)
    # one palette for all frames, so that what stays the same costs nothing
    colors = frames[len(frames) // 2].quantize(96, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=colors, dither=Image.Dither.NONE) for frame in frames]
    small[0].save(IMAGES / "viewer.gif", save_all=True, append_images=small[1:], duration=100, loop=0, optimize=True)


def main() -> None:
    """Draw all of them."""
    if len(sys.argv) != 4 or (chromium := shutil.which("chromium")) is None:
        raise SystemExit(__doc__)
    demo, recorded, defects = map(Path, sys.argv[1:])
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for path, draw, settings in (
            (demo, draw_demo, {}),
            (recorded, draw_recorded, {"color_scheme": "dark"}),
            (defects, draw_defects, {}),
            (demo, record, {}),
        ):
            with opened(browser, path, **settings) as page:
                draw(page)
        browser.close()
    for path in sorted(IMAGES.glob("viewer*")):
        sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
