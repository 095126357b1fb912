"""Damaged files: a data set or one clear line, never another exception, a hang or a crash."""

import sys

import fuzzing
import pytest
import reader_files as made

N_VARIANTS = 50


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and forks are those of POSIX systems")
@pytest.mark.parametrize("write", made.WRITERS, ids=lambda write: write.__name__)
def test_damaged_variants(tmp_path, write):
    messages, ends = fuzzing.faults(tmp_path / "fuzz", write.__name__, N_VARIANTS)
    assert messages == []
    assert sum(ends.values()) == N_VARIANTS
    assert ends["refused"] > 0
