"""Dask clusters that `measure` and `embed` can work on: one that runs somewhere, or processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stemvane.config import MeasureConfig
from stemvane.errors import ConfigError
from stemvane.extras import require_package

__all__ = ["connect"]

_PATIENCE = "10s"


@contextmanager
def connect(config: MeasureConfig) -> Iterator[Any]:
    """Connect to the cluster that the settings name; None where they name none.

    Parameters
    ----------
    config : MeasureConfig
        ``cluster`` is the address of a Dask scheduler, ``n_workers`` a number of processes to start here.

    Yields
    ------
    distributed.Client or None
        Closed, and processes started here ended, on leaving.

    Raises
    ------
    MissingPackageError
        If Dask's ``distributed`` is not installed.
    ConfigError
        If nobody answers at the address.
    """
    if config.cluster is None and config.n_workers is None:
        yield None
        return
    with require_package("measuring on a cluster", "stemvane[cluster]"):
        from distributed import Client, LocalCluster
    if config.cluster is None:
        # a thread each, for a block is worked on by one; any free port for the status page, which nobody here looks at
        with (
            LocalCluster(
                n_workers=config.n_workers, threads_per_worker=1, processes=True, dashboard_address=":0"
            ) as here,
            Client(here) as client,
        ):
            yield client
        return
    try:
        client = Client(config.cluster, timeout=_PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"measure.cluster: nobody answers at {config.cluster} ({reason}); start a Dask scheduler there"
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise ConfigError(f"measure.cluster: the scheduler at {config.cluster} has no workers; start some")
        yield client
