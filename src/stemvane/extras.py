"""Packages that are installed on demand, and the one line that says how to get a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stemvane.errors import MissingPackageError

__all__ = ["require_package"]


@contextmanager
def require_package(purpose: str, requirement: str) -> Iterator[None]:
    """Report a package that cannot be imported within the block as one line that says how to install it.

    Parameters
    ----------
    purpose : str
        What the package is needed for, the subject of the sentence: ``"simulating a scan"``.
    requirement : str
        What pip is to install: an extra of stemvane, such as ``"stemvane[simulate]"``, or another package.

    Raises
    ------
    MissingPackageError
        If an import within the block fails.

    Examples
    --------
    >>> from stemvane.extras import require_package
    >>> with require_package("counting", "stemvane[count]"):
    ...     import abacus_of_nobody
    Traceback (most recent call last):
        ...
    stemvane.errors.MissingPackageError: counting needs abacus_of_nobody; install it: pip install "stemvane[count]"
    """
    try:
        yield
    except ImportError as error:
        missing = (error.name or requirement).partition(".")[0]
        raise MissingPackageError(f'{purpose} needs {missing}; install it: pip install "{requirement}"') from None
