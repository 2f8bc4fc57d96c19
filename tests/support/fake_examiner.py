"""An examiner that judges at once by comments in the code, and answers that carry such comments."""

import functools
import re

from mlpapers.kernels.verify.report import CorrectnessReport, Verdict

RULES_SPEED = 2.0


class FakeExaminer:
    """Believes ``# fails: compile`` and ``# speed: 3.0``; what says nothing is right and twice as fast."""

    examined = 0

    def __init__(self, task, *, dsl, backend, settings, random_state, devices=None):
        self.task, self.settings = task, settings

    @staticmethod
    def speed(code):
        found = re.search(r"# speed: ([\d.]+)", code)
        return float(found[1]) if found else RULES_SPEED

    def examine(self, code, *, timing=True):
        type(self).examined += 1
        failed = re.search(r"# fails: (\w+)", code)
        if failed is not None:
            kind = failed[1]
            hacks = ("output_reused",) if kind == "hack" else ()
            text = f"{kind} in /tmp/folder/kernel.cpp:3"
            report = CorrectnessReport(error=text, error_class=kind, hacks=hacks, stage="correct")
            return Verdict(False, "hack" if hacks else "correct", report)
        report = CorrectnessReport(ok=True, stage="time")
        if not timing:
            return Verdict(True, "hack", report)
        speed = self.speed(code)
        return Verdict(True, "time", report, 3.0, 3.0 / speed, speed, (speed, speed), timing_mode="measured")

    def race(self, codes, runs):
        return [[1.0 / self.speed(code)] * runs for code in codes]

    def close(self):
        pass


def install():
    """Put the fake in the place of the real one, and keep what a task needs; returns what undoes it."""
    from mlpapers.kernels import _session
    from mlpapers.kernels.agents import author

    real, built, run, gather = (
        _session.Examiner,
        _session.Session.built,
        _session.Designer.run,
        author.gather,
    )

    @functools.cache
    def design(spec):
        return run(_session.Designer(), spec)

    _session.Examiner = FakeExaminer
    _session.Session.built = lambda _, codes: [True] * len(codes)
    _session.Designer.run = lambda _, spec: design(spec)
    author.gather = functools.cache(gather)
    FakeExaminer.examined = 0

    def undo():
        _session.Examiner, _session.Session.built = real, built
        _session.Designer.run, author.gather = run, gather

    return undo


def kernel(comment="", body="return x"):
    """Return an answer with a kernel that carries a comment."""
    return (
        f"Here it is.\n```python\nimport torch\n\n# {comment}\n\n\nclass ModelNew(torch.nn.Module):\n"
        f"    def forward(self, x):\n        {body}\n```\n"
    )


HINTS = "```hints\n- one pass\n- two rows at once\n```\n"
