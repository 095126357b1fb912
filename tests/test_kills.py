"""A few of the moments of `kills`, which kills as many runs as it is asked for."""

import signal

import kills
import pytest


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system knows no SIGKILL")
def test_runs_killed_at_random_moments(tmp_path):
    ends = list(kills.kill_runs(tmp_path, 2, dose=None))
    assert [end.differences for end in ends] == [()] * 2, "\n".join(map(str, ends))
