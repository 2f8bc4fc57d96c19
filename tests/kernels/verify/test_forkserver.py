"""The process that workers are forked from has loaded what its language names."""

from kernel_support import RELU, model

from mlpapers.kernels.verify import examiner as examiner_module
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.settings import Settings


def test_modules_of_a_language_are_loaded_before_the_fork(monkeypatch):
    monkeypatch.setattr(examiner_module, "static_check", lambda *_, **__: [])
    plain = Examiner._environment.fget
    monkeypatch.setattr(
        Examiner, "_environment", property(lambda self: plain(self) | {"KERNEL_WORKER_MODULES": "colorsys"})
    )
    settings = Settings(n_correct=1, library_ops="any", shape_policy="static", timeout=60)
    with Examiner(RELU, dsl="plain", settings=settings, random_state=0) as examiner:
        code = model("assert 'colorsys' in LOADED\nreturn x.clamp(min=0)", before="LOADED = set(sys.modules)")
        report = examiner.examine("import sys\n" + code, timing=False).report
    assert report.ok, report.error
