"""numba's compiled code where neither the installation nor a home can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlpapers.core import _numba_cache

PROGRAM = """
import os, stat
os.access = lambda *arguments, **options: False
import mlpapers
folder = os.environ["NUMBA_CACHE_DIR"]
assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
import numba
assert numba.config.CACHE_DIR == folder
if os.fork() == 0:
    raise SystemExit  # a child's end does not take the folder away
os.wait()
assert os.path.isdir(folder)
print(folder)
"""


def test_private_folder_for_the_life_of_the_process(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    folder = Path(process.stdout.strip())
    assert folder.parent == tmp_path
    assert not folder.exists()


@pytest.mark.parametrize("chosen", ["/somewhere", None], ids=["chosen", "writable"])
def test_nothing_is_done_where_numba_has_a_place(monkeypatch, tmp_path, chosen):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    if chosen:
        monkeypatch.setenv("NUMBA_CACHE_DIR", chosen)
    _numba_cache.ensure_numba_cache()
    assert os.environ.get("NUMBA_CACHE_DIR") == chosen


def test_a_folder_that_can_be_made_counts_as_writable(tmp_path):
    assert _numba_cache._may_create(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert not _numba_cache._may_create(tmp_path / "file" / "b")
