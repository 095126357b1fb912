"""The viewer below a notebook's cell: the same page, whose questions are messages to the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from stemvane.data.dataset import Dataset4D
from stemvane.data.embedding import Embedding
from stemvane.data.measurements import Measurements
from stemvane.errors import DataError
from stemvane.extras import require_package
from stemvane.runs.run import Run
from stemvane.viewer.answers import Answers
from stemvane.viewer.bundle import bundled, static_files
from stemvane.viewer.scene import Scene

if TYPE_CHECKING:
    from stemvane.models.base import PatternModel

__all__ = ["Conversation", "viewer_widget"]


class Conversation:
    """Answers to a widget's messages, each in a thread, so that the kernel stays free.

    Parameters
    ----------
    answers : Answers
        What answers.
    send : callable
        Takes the content of a message and its buffers.
    """

    def __init__(self, answers: Answers, send: Any) -> None:
        self._answers = answers
        self._send = send
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="stemvane-view")
        self._stopped: set[int] = set()

    def take(self, content: Any) -> None:
        """Answer a message of the page, or stop an answer that it waits for no longer."""
        if not isinstance(content, Mapping) or not isinstance(content.get("id"), int):
            return
        if content.get("stop"):
            self._stopped.add(content["id"])
            return
        self._pool.submit(self._answer, content)

    def _answer(self, content: Mapping[str, Any]) -> None:
        number, values = content.get("scene"), content.get("values")
        messages = self._answers.answer(
            number if isinstance(number, int) else -1,
            str(content.get("question")),
            values if isinstance(values, Mapping) else {},
        )
        last: bytes | None = None
        for message in messages:
            if content["id"] in self._stopped:
                self._stopped.discard(content["id"])
                return
            if last is not None:
                self._send({"id": content["id"], "last": False}, [last])
            last = message
        if last is not None:
            self._send({"id": content["id"], "last": True}, [last])


def viewer_widget(
    shown: Run | Measurements | Dataset4D, embedding: Embedding | None = None, model: PatternModel | None = None
) -> Any:
    """Show a run, measurements or a scan below a notebook's cell.

    Parameters
    ----------
    shown : Run, Measurements or Dataset4D
        What to show.
    embedding : Embedding, optional
        Latents and angles of measurements; a run has its own.
    model : PatternModel, optional
        The model that made them.

    Returns
    -------
    anywidget.AnyWidget
        A widget; the last expression of a cell shows it.

    Raises
    ------
    DataError
        If it is none of these.
    MissingPackageError
        If anywidget is not installed.
    """
    with require_package("the viewer in a notebook", "stemvane[notebook]"):
        import anywidget  # noqa: F401
    if isinstance(shown, Run):
        scene = Scene.of_run(shown)
    elif isinstance(shown, Measurements):
        scene = Scene.of_measurements(shown, embedding, model)
    elif isinstance(shown, Dataset4D):
        scene = Scene.of_dataset(shown)
    else:
        raise DataError(f"a {type(shown).__name__} cannot be viewed; give a run, measurements or a data set")
    widget = _widget_class()()
    conversation = Conversation(Answers([scene]), widget.send)
    widget.on_msg(lambda _, content, buffers: conversation.take(content))
    scene.start()
    return widget


@cache
def _widget_class() -> Any:
    import anywidget

    script = f"{bundled('widget')}\nexport default {{ render: module_widget.render }};\n"
    return type("ViewerWidget", (anywidget.AnyWidget,), {"_esm": script, "_css": static_files()["viewer.css"].decode()})
