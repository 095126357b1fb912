"""The viewer's page in a real browser: every panel, what links them, keys, exports, and what may go wrong."""

import base64
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from fake_run import make_run
from viewed_run import make_viewed_run

import stemvane as sv
from stemvane.runs.annotations import read_annotations
from stemvane.viewer.answers import Answers
from stemvane.viewer.bundle import bundled, static_files
from stemvane.viewer.notebook_widget import Conversation
from stemvane.viewer.report_page import write_report
from stemvane.viewer.scene import Scene
from stemvane.viewer.serving import ViewServer

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed to show the page in")
AXE = Path(__file__).parent.parent / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
EVIL = "<img src=x onerror=alert(1)>"
DESK = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def serve(run):
    scene = Scene.of_run(run)
    server = ViewServer(Answers([scene]))
    server.start()
    scene.start()
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = serve(make_viewed_run(tmp_path_factory.mktemp("viewed")))
    yield started
    started.stop()


@pytest.fixture
def open_page(browser, server):
    """Open the page; gives it when everything is drawn, and fails where the page has reported an error."""
    contexts, troubles = [], []

    def opened(address=None, *, state=None, ready="ready", **settings):
        context = browser.new_context(**({"viewport": DESK, "accept_downloads": True} | settings))
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console", lambda said: said.type == "error" and "net::ERR" not in said.text and troubles.append(said.text)
        )
        page.on("dialog", lambda dialog: troubles.append(f"dialog {dialog.message}") or dialog.dismiss())
        hash_ = "" if state is None else "#" + json.dumps(state)
        page.goto((address or server.address) + hash_)
        until(
            page, f"window.viewer?.session?.info?.model === '{ready}' && viewer.pattern && viewer.page.map.panel.drawn"
        )
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def until(page, condition, seconds=15):
    """Wait for a condition on the page; its policy forbids what playwright's own waiting needs."""
    for _ in range(int(seconds / 0.05)):
        if page.evaluate(f"Boolean({condition})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never on the page: {condition}; status {page.evaluate('viewer?.page.status.textContent')}")


def middle(page, panel):
    box = page.locator(f".panel.{panel} .stage canvas").first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, points):
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=3)
    page.mouse.up()


def n_colors(page, canvas):
    """Number of different colours of a canvas."""
    return page.evaluate(
        """(selector) => { const c = document.querySelector(selector);
        const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
        return new Set(d).size; }""",
        canvas,
    )


def test_every_panel_shows_something_and_follows_the_cursor(open_page, server):
    page = open_page()
    assert server.token not in page.url
    until(page, "viewer.page.residual.drawn && viewer.page.decoded.drawn && viewer.page.latents.drawn > 1")
    for panel in ("map", "pattern", "latents", "lower-left", "model", "lower-right"):
        assert n_colors(page, f".panel.{panel} .stage canvas") > 10, panel
    for tab in ("Profile", "Spectrum", "Grid", "Defects", "Labels", "Findings"):
        page.get_by_role("button", name=re.compile(f"^{tab}")).click()
    until(page, "viewer.page.spectrum.drawn && viewer.gridLatents")
    x, y = middle(page, "map")
    before = page.evaluate("viewer.store.state.cursor.join()")
    page.mouse.click(x + 60, y - 40)
    until(page, f"viewer.store.state.cursor.join() !== '{before}'")
    page.mouse.move(x + 10, y)
    assert re.search(r"\(\d+, \d+\), .* Å: .*\d", page.locator(".readout").text_content())
    page.mouse.move(*middle(page, "pattern"))
    assert "mrad at" in page.locator(".readout").text_content()
    assert page.locator(".alert").is_hidden()
    # the profile of a map of directions is one in degrees
    profile = """(() => { viewer.store.set({map: "angle", lowerLeft: "profile", lineWidth: 3, line: [[5, 1], [5, 8]]});
        return viewer.page.widthBox.value })()"""
    assert page.evaluate(profile) == "3"
    until(page, "viewer.page.profile.unit === '°' && viewer.page.profile.profile.mean.every((v) => Math.abs(v) <= 180)")
    # every map of the list can be shown
    for name in page.evaluate("viewer.session.info.maps.map((each) => each.name)"):
        page.select_option('select[aria-label="Map"]', name)
        until(page, f"viewer.shown.entry.name === '{name}'")


def test_selections_go_all_ways(open_page):
    page = open_page()
    x, y = middle(page, "map")
    page.keyboard.press("o")
    drag(page, [(x - 80, y - 80), (x + 60, y - 90), (x + 70, y + 60), (x - 60, y + 50)])
    until(page, "viewer.chosen?.n > 4 && viewer.chosen.settled && viewer.store.state.pattern === 'mean'")
    assert page.evaluate("viewer.chosen.nUsed === viewer.chosen.n")
    assert page.evaluate("viewer.page.latents.chosen === viewer.chosen")
    in_scan = page.evaluate("viewer.chosen.n")
    page.get_by_role("button", name="Rotated mean").click()
    until(page, "viewer.page.patternPanel.panel.array === viewer.chosen.rotated")
    with page.expect_download() as download:
        page.get_by_role("button", name="Selection as HDF5").click()
    with h5py.File(download.value.path()) as file:
        assert file["mask"][...].sum() == in_scan
    x, y = middle(page, "latents")
    page.locator(".panel.latents").get_by_role("button", name="Lasso").click()
    drag(page, [(x - 150, y - 150), (x + 20, y - 150), (x + 20, y + 150), (x - 150, y + 150)])
    until(page, "viewer.store.state.selection.space === 'latents' && viewer.chosen?.n > 0")
    until(page, "viewer.page.map.shade")
    page.keyboard.press("Escape")
    until(page, "viewer.chosen === null && viewer.store.state.pattern === 'cursor'")
    page.keyboard.press("Control+z")
    until(page, "viewer.store.state.selection?.space === 'latents'")
    # a range of values, with Shift on the histogram
    x, y = middle(page, "lower-left")
    page.keyboard.down("Shift")
    drag(page, [(x - 50, y), (x + 40, y)])
    page.keyboard.up("Shift")
    until(page, "viewer.store.state.selection?.kind === 'range' && viewer.chosen?.n > 0")
    drag(page, [(x + 175, y), (x + 100, y)])
    until(page, "Object.keys(viewer.store.state.contrast).length === 1")


def test_a_detector_is_dragged(open_page):
    page = open_page()
    page.get_by_role("button", name="BF", exact=True).click()
    until(page, "viewer.detectorSignal?.exact && viewer.shown.entry.title === 'Virtual detector'")
    x, y = middle(page, "pattern")
    before = page.evaluate("viewer.store.state.detector")
    drawn = page.evaluate("viewer.page.map.panel.drawn")
    drag(page, [(x, y), (x + 15, y + 5), (x + 40, y + 10)])
    moved = page.evaluate("viewer.store.state.detector")
    assert moved["x"] > before["x"] + 1
    assert moved["outer"] == before["outer"]
    until(page, "viewer.detectorSignal?.exact && viewer.exactFor === JSON.stringify(viewer.store.state.detector)")
    assert page.evaluate("viewer.page.map.panel.drawn") > drawn + 1
    edge = page.evaluate(f"viewer.page.patternPanel.panel.toScreen({moved['y']}, {moved['x'] + moved['outer']})")
    box = page.locator(".panel.pattern .stage").bounding_box()
    drag(page, [(box["x"] + edge[1], box["y"] + edge[0]), (box["x"] + edge[1] + 30, box["y"] + edge[0])])
    assert page.evaluate("viewer.store.state.detector.outer") > before["outer"] + 1
    for shape in ("point", "annulus", "rectangle", "wedge"):
        page.select_option('select[aria-label="Shape of the virtual detector"]', shape)
        until(page, f"viewer.store.state.detector.shape === '{shape}' && viewer.detectorSignal.exact")
    page.get_by_role("button", name="COM", exact=True).click()
    until(page, "viewer.detectorSignal?.kind === 'vector' && viewer.shown.entry.kind === 'vector'")
    page.locator(".panel.pattern").get_by_role("button", name="Off").click()
    until(page, "viewer.store.state.detector === null && !viewer.store.state.map.startsWith('@')")
    for _ in range(5):
        page.keyboard.press("Control+z")
    until(page, "viewer.store.state.detector?.signal === 'sum'")
    until(page, "viewer.exactFor === JSON.stringify(viewer.store.state.detector) && viewer.detectorSignal.exact")


def test_a_detector_in_a_link_is_exact_and_says_its_angles(open_page, server):
    size = {"y": 11.5, "x": 15.5, "inner": 4, "outer": 8, "start": 0, "stop": 60}
    detector = {"shape": "annulus", **size, "signal": "sum"}
    page = open_page(state={"map": "@detector", "detector": detector})
    until(page, "viewer.detectorSignal?.exact && viewer.exactFor === JSON.stringify(viewer.store.state.detector)")
    written = page.evaluate(
        """async () => { const texts = [], brush = CanvasRenderingContext2D.prototype, write = brush.fillText;
        brush.fillText = function (text, ...at) { texts.push(text); write.call(this, text, ...at); };
        viewer.page.patternPanel.panel.draw();
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        brush.fillText = write;
        return texts.join("|"); }"""
    )
    calibration = server.answers.scenes[0].calibration
    low, high = (radius * calibration.pixel_size[1] for radius in (4, 8))
    away = np.hypot(*((np.array([11.5, 15.5]) - calibration.optical_axis) * calibration.pixel_size))
    angles = re.search(r"([\d.]+) to ([\d.]+) mrad, ([\d.]+) mrad off axis", written)
    assert np.allclose([float(text) for text in angles.groups()], [low, high, away], rtol=5e-3)
    # nothing was shown before the detector
    page.locator(".panel.pattern").get_by_role("button", name="Off").click()
    until(page, "viewer.store.state.map === 'annular_dark_field'")
    assert page.locator(".alert").is_hidden()
    broken = open_page(state={"map": "@detector", "detector": {"shape": "annulus", "radii": [1, 2]}})
    until(broken, "viewer.shown?.entry.name === 'annular_dark_field'")


def test_keys_and_the_address(open_page):
    page = open_page(state={"cursor": [4, 5], "map": "latent_1", "patternScale": "log"})
    state = "viewer.store.state"
    assert page.evaluate(f"[{state}.map, {state}.patternScale, ...{state}.cursor]") == ["latent_1", "log", 4, 5]
    for keys, cursor in (("d", [4, 6]), ("s", [5, 6]), ("Shift+W", [0, 6]), ("Shift+A", [0, 1])):
        page.keyboard.press(keys)
        assert page.evaluate(f"{state}.cursor") == cursor, keys
    for keys, cursor in (
        ("ArrowDown", [1, 1]),
        ("ArrowRight", [1, 2]),
        ("Shift+ArrowUp", [0, 2]),
        ("ArrowLeft", [0, 1]),
    ):
        page.keyboard.press(keys)
        assert page.evaluate(f"{state}.cursor") == cursor, keys
    page.keyboard.press("Shift+Digit3")
    page.keyboard.press("n")
    until(page, f"{state}.map !== 'latent_1'")
    page.keyboard.press("Digit3")
    until(page, f"{state}.map === 'latent_1'")
    page.keyboard.press("g")
    assert page.evaluate(f"{state}.mapScale") == "sqrt"
    page.keyboard.press("Control+z")
    assert page.evaluate(f"{state}.mapScale") == "linear"
    page.keyboard.press("l")
    assert page.evaluate(f"{state}.decodeAt.length") == 2
    until(page, "location.hash.includes('%5B0%2C1%5D')")
    page.reload()
    until(page, f"window.viewer?.session?.info?.name && {state}.map === 'latent_1' && {state}.cursor[1] === 1")
    wide = page.locator(".panel.map").bounding_box()["width"]
    page.get_by_role("separator", name="Width of the left column").focus()
    cursor = page.evaluate(f"{state}.cursor")
    page.keyboard.press("ArrowRight")
    assert page.locator(".panel.map").bounding_box()["width"] > wide
    assert page.evaluate(f"{state}.cursor") == cursor
    bar = page.locator(".splitter.row").bounding_box()
    drag(page, [(bar["x"] + 300, bar["y"] + 3), (bar["x"] + 300, bar["y"] - 80)])
    assert abs(page.locator(".splitter.row").bounding_box()["y"] - bar["y"] + 83) < 8
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_pictures_scripts_and_labels(open_page, server):
    page = open_page()
    for held, kind in (([], "svg"), (["Shift"], "png")):
        with page.expect_download() as download:
            page.locator(".panel.map button.sign").first.click(modifiers=held)
        content = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename.endswith(kind)
        assert content.startswith(b"<svg" if kind == "svg" else b"\x89PNG")
        assert kind == "png" or b'width="88mm"' in content
    with page.expect_download() as download:
        page.get_by_role("button", name="Notebook").click()
    assert json.loads(Path(download.value.path()).read_text())["nbformat"] == 4
    # without the permission to copy, the script is shown
    page.get_by_role("button", name="Copy as Python").click()
    until(page, "document.querySelector('dialog textarea') || viewer.page.status.textContent === 'script copied'")
    if page.locator("dialog textarea").count():
        assert "import stemvane as sv" in page.locator("dialog textarea").input_value()
        page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Labels").click()
    page.get_by_role("button", name="Label the selection").click()
    page.get_by_label("Name of the position under the cursor").last.fill(EVIL)
    page.get_by_role("button", name="Store").click()
    until(page, "viewer.session.info.annotations.labels.length === 1")
    assert page.get_by_role("cell", name=EVIL, exact=True).is_visible()
    run = server.answers.scenes[0].run
    assert [label["name"] for label in read_annotations(run)["labels"]] == [EVIL]
    assert page.locator("img").count() == 0


def test_a_map_that_is_the_same_everywhere_is_not_shown_first(open_page, tmp_path):
    counts = np.random.default_rng(0).poisson(5, (6, 7, 24, 24)).astype(np.uint16)
    y, x = np.indices((24, 24)) - 11.5
    started = ViewServer(Answers([Scene.of_dataset(sv.Dataset4D(np.where(np.hypot(y, x) < 6, counts, 0)))]))
    started.start()
    try:
        scene = started.answers.scenes[0]
        scene.start()
        page = open_page(started.address, ready="none")
        until(page, "viewer.session.info.maps.some((each) => each.name === 'annular_dark_field')")
        assert page.evaluate("viewer.usualMap()") == "com"
    finally:
        started.stop()


def test_a_kept_detector_is_offered_as_a_map(open_page, server):
    page = open_page()
    disc = {"shape": "disc", "y": 11, "x": 12, "inner": 0, "outer": 4, "start": 0, "stop": 90, "signal": "sum"}
    page.evaluate("(detector) => viewer.store.set({ detector })", disc)
    page.get_by_role("button", name="Keep").click()
    page.get_by_label("Name of the detector").last.fill("inner part")
    page.get_by_role("button", name="Store").click()
    until(page, "viewer.session.info.maps.some((each) => each.name === 'inner_part')")
    assert page.locator("option[value=inner_part]").count() == 1
    assert "inner_part" in sv.Run.open(server.answers.scenes[0].run.path).measurements.maps


def test_names_of_others_are_no_markup_and_a_lost_run_is_said(open_page, tmp_path):
    started = serve(make_run(tmp_path / EVIL))
    try:
        page = open_page(started.address, ready="none")
        assert page.locator("h1").text_content() == EVIL
        assert page.locator("img").count() == 0
        (tmp_path / EVIL).rename(tmp_path / "gone")
        page.keyboard.press("d")
        until(page, "!viewer.page.alert.hidden && viewer.page.alert.textContent.includes('removed or replaced')")
    finally:
        started.stop()


def test_units_beside_narrow_colour_bars_are_whole(open_page):
    page = open_page()
    assert page.evaluate(
        """(() => { const { barLow, barHigh, barUnit, barRow } = viewer.page.residual;
        barLow.textContent = "−3.2 × 10⁻⁵";
        barHigh.textContent = "3.2 × 10⁻⁵";
        barUnit.textContent = "counts / pixel";
        const inside = barUnit.getBoundingClientRect().right <= barRow.getBoundingClientRect().right;
        return inside && barUnit.scrollWidth <= barUnit.clientWidth; })()"""
    )


def test_small_screens_and_darkness(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark", device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert n_colors(page, ".panel.map .stage canvas") > 10
    x, y = middle(page, "map")
    page.touchscreen.tap(x + 40, y + 40)
    until(page, "viewer.store.state.cursor.join() !== '6,5'")
    ground = page.evaluate("getComputedStyle(viewer.root).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150


def test_a_report_opens_from_a_file(open_page, server, tmp_path):
    path = write_report(server.answers.scenes[0].run, tmp_path / "report.html")
    page = open_page(path.as_uri())
    assert page.locator("h2").first.text_content() == "Findings"
    page.evaluate("viewer.root.scrollIntoView()")
    page.evaluate("viewer.store.set({cursor: [1, 1], lowerRight: 'grid'})")
    until(page, "viewer.page.grid.drawn && viewer.page.patternPanel.panel.drawn")
    x, y = middle(page, "map")
    page.locator(".panel.map").get_by_role("button", name="Rectangle").click()
    drag(page, [(x - 70, y - 70), (x + 60, y + 60)])
    until(page, "viewer.chosen?.n > 4 && viewer.page.patternPanel.panel.array === viewer.chosen.plain")
    page.evaluate("viewer.store.set({lowerRight: 'decoded', decodeAt: [0.1, 0], angle: 90})")
    until(page, "viewer.page.decoded.drawn > 1")
    for name in ("Copy as Python", "Labels", "Run again"):
        assert page.get_by_role("button", name=name, exact=True).is_hidden(), name
    assert page.get_by_role("button", name="Defects", exact=True).is_visible()


def test_the_page_works_below_a_cell(open_page, browser, server):
    """With the messages of a notebook's kernel, which this test stands in for."""
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    conversation = Conversation(server.answers, lambda content, buffers: sent.append((content, buffers)))
    sent = []

    def ask(content):
        conversation.take(json.loads(content))

    page.expose_function("ask", ask)
    page.set_content(f"<style>{static_files()['viewer.css'].decode()}</style><div id='cell'></div>")
    page.add_script_tag(
        type="module",
        content=bundled("widget")
        + """
        const listeners = new Set();
        window.hear = (content, text) => {
          const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
          for (const each of listeners) each(content, [new DataView(bytes.buffer)]);
        };
        const [on, off] = [(_, f) => listeners.add(f), (_, f) => listeners.delete(f)];
        const model = { send: (content) => window.ask(JSON.stringify(content)), on, off };
        window.end = module_widget.render({ model, el: document.getElementById("cell") });
        """,
    )
    for _ in range(200):
        while sent:
            content, buffers = sent.pop(0)
            page.evaluate("([content, text]) => hear(content, text)", [content, base64.b64encode(buffers[0]).decode()])
        if page.locator(".panel.map .bar-row").is_visible() and page.locator(".panel.model .note").text_content():
            break
        page.wait_for_timeout(50)
    for panel in ("map", "pattern", "latents"):
        assert n_colors(page, f".panel.{panel} .stage canvas") > 10, panel
    assert "z1" in page.locator(".panel.model .note").text_content()
    page.evaluate("end()")
    context.close()
    assert troubles == []


def test_two_runs_are_compared(open_page, server, tmp_path):
    other = make_run(tmp_path / "other", shape=(24, 20))
    started = ViewServer(Answers([server.answers.scenes[0], Scene.of_run(other)]))
    started.start()
    try:
        page = open_page(started.address)
        page.select_option('select[aria-label="Compare with another run"]', label="beside other")
        until(page, "viewer.companion.map.drawn && viewer.companion.pattern.drawn")
        page.evaluate("viewer.store.set({cursor: [6, 5], map: 'com'})")
        assert page.evaluate("viewer.companion.cursor") == [13, 11]
        until(page, "viewer.companion.map.coloring.kind === 'vector'")
        page.evaluate("viewer.store.set({map: 'log_evidence'})")
        box = page.locator(".companion .stage canvas").first.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2 + 50, box["y"] + box["height"] / 2)
        until(page, "viewer.store.state.cursor.join() !== '6,5'")
        page.evaluate("viewer.compare('')")
        assert page.locator(".companion").count() == 0
    finally:
        started.stop()


def test_changes_for_another_run_are_marked(open_page):
    page = open_page()
    page.get_by_role("button", name="BF", exact=True).click()
    page.get_by_role("button", name="Run again", exact=True).click()
    page.get_by_role("button", name="Take the detector").click()
    for panel, what, painted in (
        ("pattern", "pixels of the pattern", "pixels"),
        ("map", "positions of the map", "painted"),
    ):
        page.get_by_role("button", name=f"Paint {what} that are left out").click()
        x, y = middle(page, panel)
        drag(page, [(x - 60, y), (x + 60, y)])
        assert page.evaluate(f"viewer.store.state.changes.{painted}.length") > 2
    n_painted = page.evaluate("viewer.store.state.changes.painted.length")
    page.get_by_role("button", name="Take painted positions of the map back").click()
    page.mouse.click(x + 60, y)
    assert page.evaluate("viewer.store.state.changes.painted.length") == n_painted - 1
    page.get_by_role("button", name="Run again with these").click()
    dialog = page.get_by_role("dialog", name="Run again")
    dialog.wait_for()
    assert "disc_radius" in dialog.locator("textarea").input_value()
    with page.expect_download() as download:
        dialog.get_by_role("button", name="bad_pixels.npy").click()
    assert np.load(download.value.path()).sum() == page.evaluate("viewer.store.state.changes.pixels.length")
    with page.expect_download() as download:
        dialog.get_by_role("button", name="missing.npy").click()
    assert np.load(download.value.path()).sum() == n_painted - 1


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm install --prefix build/npm axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_out(open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.evaluate(AXE.read_text())
    page.keyboard.press("?")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Labels").click()
    found += page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [(v["id"], [n["html"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_a_server_that_ends_is_said(open_page, tmp_path):
    started = serve(make_run(tmp_path / "run"))
    page = open_page(started.address, ready="none")
    assert page.evaluate("viewer.session.info.pattern_source") == "polar"
    page.route("**/api/**", lambda route: route.abort())
    page.evaluate("viewer.session.maps.clear()")
    page.keyboard.press("d")
    until(page, "viewer.page.alert.textContent.includes('does not answer')")
    page.unroute("**/api/**")
    started.stop()
