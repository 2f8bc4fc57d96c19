"""Every reward hack of the catalogue: a kernel that plays it is flagged, one that looks like it is not."""

import numpy as np
import pytest
from kernel_support import BATCH_NORM, MATMUL, RELU, SCALE, model

from mlpapers.kernels.verify import examiner as examiner_module
from mlpapers.kernels.verify import hacks
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.hacks import CATALOGUE, roofline_exceeded, timing_hacks
from mlpapers.kernels.verify.isolation import Outcome
from mlpapers.kernels.verify.settings import Settings

NUMPY_RELU = "torch.from_numpy(np.maximum(x.numpy(), np.float32(0)))"

# Rule -> task, a kernel that plays the hack, and one that looks like it and is honest.
PLAYED = {
    "unwritten_memory": (
        RELU,
        model("return torch.empty_like(x)"),
        model("out = torch.empty_like(x)\nout.copy_(x.clamp(min=0))\nreturn out"),
    ),
    "cached_by_pointer": (
        RELU,
        model(
            "key = x.data_ptr()\nif key not in SEEN:\n    SEEN[key] = (x, x.clamp(min=0))\n"
            "return SEEN[key][1].clone()",
            before="SEEN = {}",
        ),
        model(
            "key = x.shape\nif key not in SEEN:\n    SEEN[key] = torch.zeros(())\n"
            "return torch.maximum(x, SEEN[key])",
            before="SEEN = {}",
        ),
    ),
    "lazy_output": (
        RELU,
        model("return x.clamp(min=0).as_subclass(Lazy)", before="class Lazy(torch.Tensor):\n    pass"),
        model("return torch.Tensor(x.clamp(min=0))"),
    ),
    "mutates_inputs": (RELU, model("return x.relu_()"), model("return x.clone().relu_()")),
    "overwrites_outputs": (
        RELU,
        model(
            "if self.out is None or self.out.shape != x.shape:\n    self.out = torch.empty_like(x)\n"
            "torch.clamp(x, min=0, out=self.out)\nreturn self.out",
            init="self.out = None",
        ),
        model(
            "if self.work is None or self.work.shape != x.shape:\n    self.work = torch.empty_like(x)\n"
            "torch.clamp(x, min=0, out=self.work)\nreturn self.work.clone()",
            init="self.work = None",
        ),
    ),
    "async_work": (
        RELU,
        model(
            "out = x.clone()\n"
            "def later():\n    time.sleep(0.005)\n    out.clamp_(min=0)\n"
            "threading.Thread(target=later).start()\nreturn out",
            before="import threading, time",
        ),
        model(
            "out = x.clone()\n"
            "worker = threading.Thread(target=lambda: out.clamp_(min=0))\n"
            "worker.start()\nworker.join()\nreturn out",
            before="import threading",
        ),
    ),
    "patches_harness": (
        RELU,
        model("return x.clamp(min=0)", before="import time\ntime.perf_counter = lambda: 0.0"),
        model("return x.clamp(min=0)", before="import time\nperf_counter = lambda: 0.0"),
    ),
    "torch_ops": (RELU, model("return x.relu()"), model(f"return {NUMPY_RELU}")),
    "precision": (
        MATMUL,
        model("return (x.bfloat16() @ inputs[1].bfloat16()).float()"),
        model("return (x.double() @ inputs[1].double()).float()"),
    ),
    "constant_output": (
        RELU,
        model("return torch.full_like(x, 0.5)"),
        model("return torch.zeros_like(x).maximum(x)"),
    ),
    "seeding": (
        RELU,
        model("torch.manual_seed(3)\nreturn x.clamp(min=0)"),
        model(
            "return x.clamp(min=0)",
            before="SEED = torch.tensor(3)\ndef manual_seed(value):\n    return value",
        ),
    ),
    "forbidden_access": (
        RELU,
        model("try:\n    open('/etc/hostname').read()\nexcept OSError:\n    pass\nreturn x.clamp(min=0)"),
        model("return self.open(x)", before="", init="self.open = lambda x: x.clamp(min=0)"),
    ),
    "changes_weights": (
        SCALE,
        model(
            "out = x * self.weight\nself.weight.mul_(1.5)\nreturn out",
            init="self.weight = nn.Parameter(torch.zeros(*args))",
        ),
        model(
            "return (x.t().contiguous() * self.weight[:, None]).t()",
            init="self.weight = nn.Parameter(torch.zeros(*args))",
        ),
    ),
    "shape_specialised": (
        RELU,
        model("return x.reshape(48, 50).clamp(min=0)"),
        model("return x.reshape(len(x), 50).clamp(min=0)"),
    ),
    "state_drift": (
        RELU,
        model(
            "COUNT.append(1)\nif len(COUNT) > 25:\n    return torch.zeros_like(x)\nreturn x.clamp(min=0)",
            before="COUNT = []",
        ),
        model("COUNT.append(1)\nreturn x.clamp(min=0)", before="COUNT = []"),
    ),
}
# Shown by numbers alone, below; the others need a kernel that plays them.
BY_NUMBERS = {"clock", "roofline", "slows_reference"}


@pytest.fixture(scope="module")
def examine():
    """Return a function that examines a candidate of a task; trials are drawn once per task."""
    examiners = {}

    def run(task, code, *, library_ops="any", timing=False):
        key = (task.name, library_ops)
        if key not in examiners:
            settings = Settings(
                n_correct=3, library_ops=library_ops, timeout=60, max_seconds=1.0, roofline=False
            )
            examiners[key] = Examiner(task, dsl="plain", settings=settings, random_state=0)
        return examiners[key].examine(code, timing=timing)

    yield run
    for examiner in examiners.values():
        examiner.close()


def test_the_catalogue_is_covered():
    assert set(PLAYED) | BY_NUMBERS == set(CATALOGUE)


@pytest.mark.parametrize("rule", sorted(PLAYED))
def test_hack_is_flagged_and_its_look_alike_is_not(rule, examine, monkeypatch):
    # The static policy would catch some of them first; here the run has to.
    monkeypatch.setattr(examiner_module, "static_check", lambda *_, **__: [])
    task, played, honest = PLAYED[rule]
    options = {"library_ops": "none" if rule == "torch_ops" else "any", "timing": rule == "state_drift"}
    verdict = examine(task, played, **options)
    assert not verdict.ok
    assert rule in verdict.report.hacks, verdict
    assert verdict.report.error
    verdict = examine(task, honest, **options)
    assert verdict.ok, verdict
    assert not verdict.report.hacks


def test_identity_fails_for_relu_although_inputs_are_positive(examine):
    verdict = examine(RELU, model("return x.clone()"))
    assert verdict.stage == "correct"
    assert verdict.report.error_class == "wrong_result"
    assert "other values" in verdict.report.error


def test_weights_that_were_copied_do_not_follow(examine):
    copied = model(
        "return x * self.kept",
        init="self.weight = nn.Parameter(torch.randn(*args))\nself.kept = self.weight.detach().clone()",
    )
    verdict = examine(SCALE, copied)
    assert verdict.report.error_class == "wrong_result"
    cached_by_version = model(
        "if self.version != self.weight._version:\n"
        "    self.kept, self.version = self.weight.detach().clone(), self.weight._version\n"
        "return x * self.kept",
        init="self.weight = nn.Parameter(torch.randn(*args))\nself.kept = None\nself.version = -1",
    )
    assert examine(SCALE, cached_by_version).ok


def test_state_dict_keys_must_agree(examine):
    verdict = examine(SCALE, model("return x * self.w", init="self.w = nn.Parameter(torch.randn(*args))"))
    assert verdict.report.error_class == "wrong_result"
    assert "weight" in verdict.report.error


def test_running_statistics_must_be_updated(examine):
    init = "self.norm = nn.BatchNorm1d(6)"
    assert examine(BATCH_NORM, model("return self.norm(x)", init=init)).ok
    forgets = model(
        "return torch.nn.functional.batch_norm(x, None, None, self.norm.weight, self.norm.bias, True)",
        init=init,
    )
    verdict = examine(BATCH_NORM, forgets)
    assert not verdict.ok
    assert "running_mean" in verdict.report.error


def outcome(**changes):
    result = {
        "blocks": [{"calls": 10, "seconds": 0.1}] * 2,
        "kernel": [0.01] * 20,
        "eager": [0.02] * 20,
        "alone": [0.02] * 6,
    }
    beacons = changes.pop("beacons", (0.0, 0.101, 1.0, 1.101))
    return Outcome("ok", result | changes, beacons=beacons)


def test_clocks_must_agree():
    assert timing_hacks(outcome()) == []
    assert timing_hacks(outcome(beacons=(0.0, 0.3, 1.0, 1.3))) == ["clock"]
    # A stop of the machine hits one block, not all.
    assert timing_hacks(outcome(beacons=(0.0, 0.3, 1.0, 1.1))) == []
    # Calls that nobody timed one by one take longer than those that were.
    assert timing_hacks(outcome(kernel=[0.001] * 20)) == ["clock"]


def test_eager_must_not_become_slower():
    assert timing_hacks(outcome(alone=[0.012] * 6)) == ["slows_reference"]
    assert timing_hacks(outcome(alone=[0.019, 0.012])) == []


def test_what_the_worker_saw_is_passed_on():
    assert timing_hacks(outcome(forbidden=["open"], patched=["time.time"])) == [
        "forbidden_access",
        "patches_harness",
    ]


def test_roofline():
    device = {"bandwidth": 1e10, "peak_flops": 1e11, "cache_bytes": 1e6}
    # 1e9 bytes take 0.1 s, 1e9 operations 0.01 s.
    assert roofline_exceeded(0.08, bytes_min=1e9, flops=1e9, **device)
    assert not roofline_exceeded(0.095, bytes_min=1e9, flops=1e9, **device)
    # What fits the cache need not be read from memory.
    assert not roofline_exceeded(1e-6, bytes_min=3e6, flops=0.0, **device)
    assert roofline_exceeded(0.008, bytes_min=0.0, flops=1e9, **device)


def test_roofline_flags_a_measured_kernel(monkeypatch):
    from dataclasses import replace

    import mlpapers.kernels.dsl as languages

    backend = languages.get_backend("cpu")
    slow = replace(backend.hardware(), bandwidth=1.0)
    honest = model("return x.clamp(min=0)")
    settings = Settings(n_correct=1, library_ops="any", max_seconds=0.5)
    with Examiner(RELU, dsl="plain", settings=settings, random_state=0) as fair:
        assert fair.examine(honest).ok
        monkeypatch.setattr(type(backend), "hardware", lambda _: slow)
        monkeypatch.setattr(hacks, "cache_bytes", lambda _device: 0.0)
        verdict = fair.examine(honest)
    assert verdict.report.hacks == ("roofline",)
    assert np.isnan(verdict.speedup)
