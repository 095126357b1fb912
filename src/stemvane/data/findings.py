"""Finding: one sentence about data or a result that its reader should know of, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

__all__ = ["SEVERITIES", "Finding", "Severity", "sort_findings"]

Severity = Literal["note", "warning", "failure"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """What was noticed about data or a result.

    Attributes
    ----------
    id : str
        Short name of the kind of finding, such as ``"disc_cut"``; the same in every version.
    severity : {"note", "warning", "failure"}
        A note tells what was done, a warning what may be wrong, a failure that the result is not to be trusted.
    message : str
        One sentence with the numbers.
    cure : str
        What to do about it; empty for a note.
    """

    id: str
    severity: Severity
    message: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.cure}" if self.cure else self.message

    def to_dict(self) -> dict[str, str]:
        """Return plain words, for a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, str]) -> Finding:
        """Read what `to_dict` has written.

        Parameters
        ----------
        record : mapping
            Plain words.

        Returns
        -------
        Finding

        Raises
        ------
        KeyError
            If a word is missing.
        """
        severity: Severity = next((name for name in SEVERITIES if name == record["severity"]), "warning")
        return cls(record["id"], severity, record["message"], record.get("cure", ""))


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Order findings by severity, the worst first, each kind once.

    Parameters
    ----------
    findings : iterable of Finding
        Findings in the order in which they were made; of two equal ones the first stays.

    Returns
    -------
    tuple of Finding
    """
    distinct = dict.fromkeys(findings)
    return tuple(sorted(distinct, key=lambda finding: -SEVERITIES.index(finding.severity)))
