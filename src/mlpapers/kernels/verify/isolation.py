"""Workers: candidate code runs in a process of its own, with limits, and dies with its whole group.

``run_job`` writes nothing but files into a fresh folder and reads nothing but tensors and JSON back, so a
worker can lie about itself but cannot run code here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpapers.core._files import naming
from mlpapers.core.validation import check_real
from mlpapers.kernels.verify._container import docker_command, remove_container
from mlpapers.kernels.verify._room import check_room

# A sandbox rewrites the command line of a worker: (argv, folder) -> argv.
Sandbox = str | Callable[[Sequence[str], Path], Sequence[str]]

_MIB = 1 << 20
_KEPT_OUTPUT = 32 * 1024
# What a worker inherits; no keys, no proxies.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CXX", "CUDA_HOME")
_PREFIXES = ("OMP_", "MKL_", "KMP_", "GOMP_", "CUDA_", "TRITON_", "MLPAPERS_KERNEL")
# Read when a kernel runs, not when modules are imported: workers that differ in them share a server.
_PER_JOB = ("MLPAPERS_", "TRITON_CACHE_DIR")
_START_SECONDS = 120.0
_TICK = 0.5


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes
    ----------
    wall, cpu : float
        Seconds; `cpu` summed over threads, by default wall x cores + 10.
    memory, file_size : int
        MiB of address space beyond what an idle worker has (0: no limit), and of the largest file.
    open_files, processes : int
    """

    wall: float = 60.0
    cpu: float | None = None
    memory: int = 8192
    file_size: int = 4096
    open_files: int = 512
    processes: int = 256

    def __post_init__(self) -> None:
        check_real("wall", self.wall, low=0.0, closed="neither")

    def as_numbers(self) -> dict[str, int]:
        """Return the limits as the worker sets them, in bytes and seconds."""
        cpu = self.cpu if self.cpu is not None else self.wall * (os.cpu_count() or 1) + 10
        return {
            "cpu": max(1, round(cpu)),
            "memory": self.memory * _MIB,
            "file_size": self.file_size * _MIB,
            "open_files": self.open_files,
            "processes": self.processes,
        }


@dataclass(frozen=True)
class Outcome:
    """How a worker ended.

    Attributes
    ----------
    status : {"ok", "error", "timeout", "crash", "oom", "device", "reference"}
    result : dict
        What the harness wrote; empty unless it came to its end or caught an exception.
    stage : str
        What the worker was doing last.
    output : str
        The first and last part of its stdout and stderr.
    seconds : float
    signal : int
        That ended it, or 0.
    beacons : tuple of float
        When marks of the harness arrived, on this process's clock.
    """

    status: str
    result: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    output: str = ""
    seconds: float = 0.0
    signal: int = 0
    beacons: tuple[float, ...] = ()


class _ForkServer:
    """A preloaded process and the socket to it; whoever uses it first waits until it is ready."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "mlpapers.kernels.verify._forkserver", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self._socket = ours
        self._lines = b""
        self._ready = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, request: dict[str, Any], wall: float) -> tuple[int | None, bytes, tuple[float, ...]]:
        """Fork a worker; return its exit status (None: killed by the clock), its output, and its marks."""
        if not self._ready:
            self._ready = self._line(_START_SECONDS) == b"ready"
            if not self._ready:
                raise RuntimeError(f"the worker process did not start:\n{self.close()[-2000:]}")
        output_read, output_write = os.pipe()
        beacon_read, beacon_write = os.pipe()
        message = json.dumps(request).encode()
        socket.send_fds(self._socket, [message], [output_write, beacon_write])
        os.close(output_write)
        os.close(beacon_write)
        try:
            pid = json.loads(self._line(_START_SECONDS))["pid"]
            output, beacons, in_time = _drain(output_read, beacon_read, self._socket, wall)
            if not in_time:
                _kill_group(pid)
            status = json.loads(self._line(_START_SECONDS))["status"]
            # Whatever the worker left behind in its session goes too.
            _kill_group(pid)
        finally:
            os.close(output_read)
            os.close(beacon_read)
        return (status if in_time else None), output, beacons

    def _line(self, timeout: float) -> bytes:
        self._socket.settimeout(timeout)
        while b"\n" not in self._lines:
            try:
                more = self._socket.recv(4096)
            except TimeoutError:
                return b""
            if not more:
                return b""
            self._lines += more
        line, _, self._lines = self._lines.partition(b"\n")
        return line

    def close(self) -> str:
        """End the server; return what it wrote to stderr."""
        self._socket.close()
        if not self._ready:
            # Before it listens it would not notice until all is imported.
            self._process.kill()
        try:
            _, error = self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, error = self._process.communicate()
        return (error or b"").decode(errors="replace")


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _drain(
    output: int, beacon: int, connection: socket.socket, wall: float
) -> tuple[bytes, tuple[float, ...], bool]:
    """Read output and marks until the server reports the end; False where the time was up first.

    Of the output the beginning and the end are kept: a worker may print a gigabyte.
    """
    head, tail = bytearray(), bytearray()
    marks: list[float] = []
    streams: list[Any] = [output, beacon, connection]
    used, now = 0.0, time.monotonic()
    while True:
        if used >= wall:
            return bytes(head + tail), tuple(marks), False
        ready, _, _ = select.select(streams, [], [], min(wall - used, _TICK))
        before, now = now, time.monotonic()
        # A machine that slept, or stopped both of us, is no fault of the worker.
        used += min(now - before, 2 * _TICK)
        for stream in (output, beacon):
            if stream in ready:
                part = os.read(stream, 1 << 16)
                if not part:
                    streams.remove(stream)
                elif stream == beacon:
                    marks += [now] * len(part)
                else:
                    room = _KEPT_OUTPUT - len(head)
                    head += part[: max(room, 0)]
                    tail += part[max(room, 0) :]
                    del tail[:-_KEPT_OUTPUT]
        if connection in ready and not [stream for stream in (output, beacon) if stream in ready]:
            return bytes(head + tail), tuple(marks), True


def _key(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(environment.items()))


class _Pool:
    """Idle fork servers by environment, each used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[tuple[str, str], ...], list[_ForkServer]] = {}
        self._pid = os.getpid()
        atexit.register(self.close)

    @contextlib.contextmanager
    def server(self, environment: Mapping[str, str]) -> Iterator[_ForkServer]:
        key = _key(environment)
        with self._lock:
            waiting = self._waiting(key)
            found = waiting.pop() if waiting else None
        if found is not None and not found.alive:
            found.close()
            found = None
        server = found or _ForkServer(environment)
        try:
            yield server
        except BaseException:
            server.close()
            raise
        with self._lock:
            self._idle.setdefault(key, []).append(server)

    def start(self, environment: Mapping[str, str]) -> None:
        """Start a server for the next job unless one is idle; it loads its modules meanwhile."""
        key = _key(environment)
        with self._lock:
            waiting = self._waiting(key)
            if not waiting:
                waiting.append(_ForkServer(environment))

    def _waiting(self, key: tuple[tuple[str, str], ...]) -> list[_ForkServer]:
        if self._pid != os.getpid():
            # After a fork the servers belong to the other process.
            self._idle, self._pid = {}, os.getpid()
        return self._idle.setdefault(key, [])

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            servers = [server for group in self._idle.values() for server in group]
            self._idle.clear()
        for server in servers:
            server.close()


_POOL = _Pool()


def start_workers(environment: Mapping[str, str] | None = None) -> None:
    """Start the process that workers of this environment are forked from, without waiting for it.

    Parameters
    ----------
    environment : mapping of str to str, optional
        As for :func:`run_job`.
    """
    _POOL.start(_shared_environment(environment))


def close_workers() -> None:
    """End all idle worker processes; the next job starts new ones."""
    _POOL.close()


def worker_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a worker: a short list of variables, never a key or a proxy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_PREFIXES)
    }
    # A second pool of threads, started by numpy's import, would keep the worker from leaving the network.
    kept["OPENBLAS_NUM_THREADS"] = "1"
    kept["PYTHONHASHSEED"] = "0"
    # A look at the GPUs that starts the driver would leave the server's children without it.
    kept["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    # The library itself, wherever it is imported from.
    source = str(Path(__file__).resolve().parents[3])
    paths = [source, *kept.get("PYTHONPATH", "").split(os.pathsep)]
    kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    return kept | dict(extra or {})


def _shared_environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of the server that such workers are forked from."""
    return worker_environment({k: v for k, v in (extra or {}).items() if not k.startswith(_PER_JOB)})


@contextlib.contextmanager
def job_folder() -> Iterator[Path]:
    """Make a folder for one job and remove it afterwards, in shared memory where there is room."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 << 30
    folder = Path(tempfile.mkdtemp(prefix="mlpapers-kernel-", dir=shared if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_job(
    folder: Path,
    job: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    sandbox: Sandbox = "process",
) -> Outcome:
    """Run a job of the harness in a worker and wait for its end.

    Parameters
    ----------
    folder : Path
        Holds the job's files; the worker may write there and nowhere else.
    job : mapping
        JSON; ``job["procedure"]`` names the procedure.
    limits : Limits, optional
    environment : mapping of str to str, optional
        Variables besides the usual ones.
    sandbox : "process", "docker", or callable
        Where the worker runs. A callable gets the worker's command line and the folder and returns the
        command line to start, e.g. that of a container.

    Returns
    -------
    outcome : Outcome

    Raises
    ------
    OSError
        If the worker failed because the disk is full.
    """
    limits = limits or Limits()
    extra = dict(environment or {})
    variables = _shared_environment(environment)
    request = {
        "folder": str(folder),
        "limits": limits.as_numbers(),
        "environment": extra,
        "job": dict(job),
        "isolate": sandbox == "process",
    }
    started = time.monotonic()
    if sandbox == "process":
        with _POOL.server(variables) as server:
            # The socket carries short messages only; the job itself goes by file.
            with naming(folder):
                (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
            status, output, beacons = server.run(
                {key: request[key] for key in ("folder", "limits", "environment", "isolate")}, limits.wall
            )
    else:
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        status, output = _run_wrapped(folder, variables | extra, limits.wall, sandbox)
        beacons = ()
    outcome = _outcome(folder, status, output, beacons, time.monotonic() - started)
    if outcome.status in ("crash", "error"):
        check_room(folder, own=True)
    return outcome


def _run_wrapped(
    folder: Path, environment: Mapping[str, str], wall: float, sandbox: Sandbox
) -> tuple[int | None, bytes]:
    argv = [sys.executable, "-m", "mlpapers.kernels.verify._forkserver", "--job", str(folder)]
    wrap = docker_command if sandbox == "docker" else sandbox
    if not callable(wrap):
        raise ValueError(f"sandbox must be 'process', 'docker' or a callable; got {sandbox!r}")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            list(wrap(argv, folder)),
            env=dict(environment),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status: int | None = process.wait(timeout=wall + _START_SECONDS / 10)
        except subprocess.TimeoutExpired:
            status = None
        _kill_group(process.pid)
        process.wait()
        if sandbox == "docker":
            remove_container(folder)
    with (folder / "output").open("rb") as text:
        return status, text.read(2 * _KEPT_OUTPUT)


def _outcome(
    folder: Path, status: int | None, output: bytes, beacons: tuple[float, ...], seconds: float
) -> Outcome:
    stage = ""
    with contextlib.suppress(OSError):
        # A worker that dies as it starts leaves the file empty.
        stage = "".join((folder / "progress").read_text(encoding="utf-8").splitlines()[-1:])
    text = output.decode(errors="replace")
    result: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if status is None:
        return Outcome("timeout", {}, stage, text, seconds, beacons=beacons)
    if status != 0 or not result:
        number = -status if status < 0 else 0
        kind = "timeout" if number == signal.SIGXCPU else "crash"
        if "MemoryError" in text or "bad_alloc" in text:
            kind = "oom"
        return Outcome(kind, result, stage, text, seconds, number, beacons)
    kind = "ok" if result.get("ok") else result.get("status", "error")
    return Outcome(kind, result, stage, text, seconds, 0, beacons)
