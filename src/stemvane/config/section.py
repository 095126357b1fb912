"""What all sections of the settings are: frozen, checked, and shown by what differs from the defaults."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from stemvane.errors import ConfigError

__all__ = ["FileName", "FileNames", "Section", "section_of"]


def _as_text(name: Any) -> Any:
    """The text of a path; what is neither is refused with its cure."""
    if isinstance(name, str | os.PathLike):
        return os.fspath(name)
    raise ValueError("give the name of a file; an array can be saved with numpy.save")


_Name = Annotated[str, BeforeValidator(_as_text)]
_FILES = "names files"
FileName = Annotated[_Name, _FILES]
"""A setting that names a file or a folder which is read; empty for none."""
FileNames = Annotated[dict[str, _Name], _FILES]
"""A setting whose values name such files."""


class Section(BaseModel):
    """A frozen section of settings: unknown keys and impossible values are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    choices: ClassVar[dict[str, type[Section]]] = {}
    """Sections among which the setting ``model`` of the section ``model`` chooses, by its values."""

    @classmethod
    def from_dict(cls, values: dict[str, Any], origin: str = "settings") -> Self:
        """Check nested settings.

        Raises
        ------
        ConfigError
            If a key is unknown or a value out of range; the message names the first one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{origin}: {_first_trouble(error, cls)}") from None

    def files(self) -> tuple[Path, ...]:
        """Files and folders that the settings name, those of all sections included."""
        paths: list[Path] = []
        for name, part in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                paths += value.files()
            elif _FILES in part.metadata:
                paths += [Path(text) for text in (value.values() if isinstance(value, dict) else (value,)) if text]
        return tuple(paths)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What differs from the defaults."""
        for name, part in type(self).model_fields.items():
            value = getattr(self, name)
            if value != part.get_default(call_default_factory=True):
                yield name, value

    def __repr__(self) -> str:
        lines = textwrap.wrap(super().__repr__(), 120, subsequent_indent="  ", max_lines=8, placeholder=" …)")
        return "\n".join(lines)

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        values = tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))
        return f"<details><summary>{escape(repr(self))}</summary><pre>{escape(values)}</pre></details>"


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field of this type holds, or may hold; None where it is a plain value."""
    members = (annotation, *get_args(annotation))
    return next((member for member in members if isinstance(member, type) and issubclass(member, Section)), None)


def _first_trouble(error: ValidationError, section: type[Section]) -> str:
    """Name the first setting in question and what is wrong with it."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    choices = section.choices
    # pydantic names the chosen member of a union after the section
    place = [str(part) for part in first["loc"]]
    if choices and place[:1] == ["model"] and len(place) > 1:
        del place[1]
    where = ".".join(place)
    if not where:
        return message
    if first["type"] == "extra_forbidden":
        for part in first["loc"][:-1]:
            section = choices.get(str(part)) or section_of(section.model_fields[str(part)].annotation) or section
        return f"unknown setting '{where}'; known here are {', '.join(section.model_fields)}"
    if first["type"] == "union_tag_invalid":
        return f"'model.model' is {first['input'].get('model')!r}; choose one of {', '.join(choices)}"
    if first["type"] == "finite_number":
        return f"'{where}' is {first['input']!r}; give a finite number"
    if isinstance(first.get("input"), dict) and first["type"] == "value_error":
        return f"[{where}] {message}"  # about several settings of a section at once
    return f"'{where}' is {_shorten(first.get('input'))}; {_cure(first)}"


_CURES = {
    "greater_than": "give a number above {gt}",
    "greater_than_equal": "give a number of at least {ge}",
    "less_than": "give a number below {lt}",
    "less_than_equal": "give a number of at most {le}",
    "multiple_of": "give a multiple of {multiple_of}",
    "literal_error": "choose one of {expected}",
    "tuple_type": "give a list of numbers",
    "missing": "give it",
    "dict_type": "give names with their values, such as {{left = 'left.npy'}}",
    "model_type": "give a table of settings",
    "model_attributes_type": "give a table of settings",
    "string_pattern_mismatch": "leave out commas, quotes, $, backslashes and line breaks",
    "string_too_short": "give at least {min_length} letter, or leave it out",
    "too_long": "give {max_length} of them",
    "too_short": "give {min_length} of them",
    "int_from_float": "give a whole number",
}
_WORDS = {
    "int": "give a whole number",
    "float": "give a number",
    "bool": "give true or false",
    "string": "give a word in quotes",
}


def _cure(error: Any) -> str:
    """What to give instead of a value that pydantic has refused."""
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind in _CURES:
        return _CURES[kind].format(**context)
    if kind.partition("_")[0] in _WORDS:
        return _WORDS[kind.partition("_")[0]]
    return str(error["msg"]).removeprefix("Value error, ")


def _shorten(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
