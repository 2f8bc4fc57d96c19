"""Workers in a container: a stand-in for docker shows what it is asked, and runs the worker without it."""

import itertools
import json
import os
import sys

import pytest
from kernel_support import RELU, model

from mlpapers.kernels.verify import examiner as examiner_module
from mlpapers.kernels.verify._container import container_name, docker_command
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.isolation import job_folder, run_job
from mlpapers.kernels.verify.settings import Settings, kernel_cache

# Takes the words of `docker run` apart as docker does: flags, options with a value, image, command.
DOCKER = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if words.pop(0) == "run":
    options = []
    while words[0].startswith("-"):
        options.append(words.pop(0))
        if options[-1] not in ("--rm", "--init"):
            options.append(words.pop(0))
    image, python, *rest = words
    assert (image, python) == ("an-image", "python"), words
    os.execv({python!r}, [{python!r}, *rest])
"""


@pytest.fixture
def docker(monkeypatch, tmp_path):
    """Put the stand-in on the PATH and return what it was called with."""
    log = tmp_path / "log"
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MLPAPERS_DOCKER_IMAGE", "an-image")
    monkeypatch.setattr(examiner_module, "static_check", lambda *_, **__: [])
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def examine(code):
    chosen = Settings(n_correct=1, library_ops="any", shape_policy="static", sandbox="docker")
    with Examiner(RELU, dsl="plain", settings=chosen, random_state=0) as examiner:
        return examiner.examine(code, timing=False)


def test_a_worker_in_a_container(docker):
    verdict = examine(model("return x.clamp(min=0)"))
    assert verdict.ok, verdict
    assert "isolation: left to the sandbox" in verdict.report.disclosures
    run, removed = docker()
    name = run[run.index("--name") + 1]
    assert removed == ["rm", "--force", name]
    assert run[run.index("--network") + 1] == "none"
    assert run[run.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    mounts = [value for option, value in itertools.pairwise(run) if option == "-v"]
    # One folder to write to, the job's; inputs, weights and compiled kernels can only be read.
    (job,) = [mount for mount in mounts if not mount.endswith(":ro")]
    assert name == f"worker-{job.split(':')[0].rpartition('/')[2]}"
    assert f"{kernel_cache()}:{kernel_cache()}:ro" in mounts
    assert len(mounts) == 3


def test_what_docker_needs_is_named(monkeypatch, docker):
    with job_folder() as folder:
        monkeypatch.delenv("MLPAPERS_DOCKER_IMAGE")
        with pytest.raises(RuntimeError, match="MLPAPERS_DOCKER_IMAGE"):
            run_job(folder, {"procedure": "correct"}, sandbox="docker")
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(RuntimeError, match="command docker"):
            docker_command(["python"], folder)
        assert container_name(folder) == f"worker-{folder.name}"
