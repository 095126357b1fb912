"""Whether the words of a figure can be read: large enough, on the page, and none over another."""

from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from stemvane.figures.style import SMALL


def drawn_words(figure: Figure) -> list[Text]:
    """Words that are seen when the figure is drawn, as in a notebook: outside of any style of ours."""
    FigureCanvasAgg(figure).draw()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += axes.texts
        if axes.axison:
            texts += [
                axes.title,
                axes.xaxis.label,
                axes.yaxis.label,
                *tick_labels(axes.xaxis),
                *tick_labels(axes.yaxis),
            ]
        if axes.get_legend() is not None:
            texts += axes.get_legend().get_texts()
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


def tick_labels(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    margin = 1e-6 * (high - low)
    shown = [tick for tick in ticks if low - margin <= tick.get_loc() <= high + margin]
    return [label for tick in shown for label in (tick.label1, tick.label2) if label.get_visible()]


def assert_readable(figure: Figure, *, smallest: float = SMALL) -> None:
    texts = drawn_words(figure)
    assert texts
    page = figure.bbox
    boxes = []
    for text in texts:
        assert text.get_fontsize() >= smallest, text.get_text()
        box = text.get_window_extent().padded(-0.06 * text.get_fontsize() * figure.dpi / 72)
        inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert inside, f"{text.get_text()!r} is cut off"
        boxes.append(box)
    for (one, a), (other, b) in combinations(zip(texts, boxes, strict=True), 2):
        assert not a.overlaps(b), f"{one.get_text()!r} overlaps {other.get_text()!r}"
