"""A full disk is an error of the machine, never a verdict on a candidate."""

import errno
import shutil
from types import SimpleNamespace

import pytest
import torch
from kernel_support import RELU, model

from mlpapers.kernels.dsl import BuildError, get_dsl
from mlpapers.kernels.verify import _room
from mlpapers.kernels.verify import examiner as examiner_module
from mlpapers.kernels.verify._room import check_room, save_tensors
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.settings import Settings

SETTINGS = Settings(n_correct=1, library_ops="any", shape_policy="static")


@pytest.fixture
def full(monkeypatch):
    """Let the disk say that it is full to whoever asks after a failure."""
    real = shutil.disk_usage
    monkeypatch.setattr(
        _room.shutil, "disk_usage", lambda path: SimpleNamespace(total=real(path).total, used=0, free=100)
    )


def test_room(tmp_path):
    check_room(tmp_path)
    save_tensors([torch.ones(3)], tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt")[0].tolist() == [1.0, 1.0, 1.0]


def test_no_room_names_the_folder(full, tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left") as found:
        check_room(tmp_path)
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(tmp_path))
    monkeypatch.setattr(torch, "save", _fails)
    with pytest.raises(OSError, match="No space left"):
        save_tensors([torch.ones(3)], tmp_path / "x.pt")


def test_other_failures_stay_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", _fails)
    with pytest.raises(RuntimeError, match="unexpected pos"):
        save_tensors([torch.ones(3)], tmp_path / "x.pt")


def _fails(*_):
    raise RuntimeError("unexpected pos 64 vs 0")


def test_who_filled_the_disk_is_not_excused(full, tmp_path, monkeypatch):
    monkeypatch.setattr(_room, "_OWN_FAULT", 1000)
    (tmp_path / "big").write_bytes(bytes(1000))
    check_room(tmp_path, own=True)
    with pytest.raises(OSError, match="No space left"):
        check_room(tmp_path)


def test_nothing_is_judged_on_a_full_disk(full, monkeypatch):
    monkeypatch.setattr(examiner_module, "static_check", lambda *_, **__: [])
    with Examiner(RELU, dsl="plain", settings=SETTINGS, random_state=0) as examiner:
        with pytest.raises(OSError, match="No space left"):
            examiner.examine(model("raise ValueError('as where nothing can be written')"), timing=False)
        assert examiner.examine(model("return x.clamp(min=0)"), timing=False).ok


def test_nothing_is_built_on_a_full_disk(full, monkeypatch):
    def build(*_):
        raise BuildError("the kernel does not compile")

    language = get_dsl("cpp")
    monkeypatch.setattr(language, "build", build)
    with Examiner(RELU, dsl="cpp", settings=SETTINGS, random_state=0) as examiner:
        monkeypatch.setattr(examiner, "_language", language)
        with pytest.raises(OSError, match="No space left"):
            examiner.build(f"{language.loader}\nclass ModelNew: pass")
