"""The process that workers are forked from: it has torch loaded, and never runs candidate code itself.

Importing torch takes seconds, forking a process that has it milliseconds; so every candidate gets a process
of its own. Requests come over a socket, each with the files that become the worker's output and its beacon.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from typing import Any

from mlpapers.kernels.verify import _guard, _harness, _lockdown

_MESSAGE = 1 << 16
# The environment variable with the modules of a language, which its workers would else import one by one.
PRELOADED = "KERNEL_WORKER_MODULES"


def serve(descriptor: int) -> None:
    """Answer requests on the socket `descriptor` until the other end closes it."""
    _guard.preload()
    importlib.import_module("mlpapers.kernels.verify._harness_time")
    for name in filter(None, os.environ.get(PRELOADED, "").split(",")):
        importlib.import_module(name)
    # What is loaded stays: a worker's collector need not look through it again.
    gc.collect()
    gc.freeze()
    connection = socket.socket(fileno=descriptor)
    connection.sendall(b"ready\n")
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 2)
        if not message:
            return
        output, beacon = descriptors
        pid = os.fork()
        if pid == 0:
            connection.close()
            _work(json.loads(message), output, beacon)
        os.close(output)
        os.close(beacon)
        connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        status = _wait(pid, connection)
        if status is None:
            return
        connection.sendall(json.dumps({"status": status}).encode() + b"\n")


def _wait(pid: int, connection: socket.socket) -> int | None:
    """Return the exit status of `pid` (minus the signal that ended it); None where the parent went away."""
    handle = os.pidfd_open(pid)
    try:
        watched: list[Any] = [handle, connection]
        ready, _, _ = select.select(watched, [], [])
        if handle not in ready:
            # Nothing is sent while a worker runs: the other end was closed.
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(handle)


def _work(request: dict[str, Any], output: int, beacon: int) -> None:
    """Run one job in the forked process and end it."""
    code = 1
    try:
        os.setsid()
        _lockdown.die_with_parent()
        enter(request, output)
        _harness.run(request, beacon)
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here, whatever was raised
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def enter(request: dict[str, Any], output: int | None = None) -> None:
    """Make this process the worker of `request`: output, folder, environment, limits."""
    if output is not None:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(null)
        os.close(output)
    folder = request["folder"]
    os.chdir(folder)
    for name in ("HOME", "TMPDIR", "TMP", "TEMP"):
        os.environ[name] = folder
    os.environ.update(request.get("environment", {}))
    # What torch imports late must not look like a candidate that writes next to the library.
    sys.dont_write_bytecode = True
    # What the server found as the folder for temporary files is not this worker's.
    tempfile.tempdir = None
    _lockdown.set_limits(request["limits"])


def main() -> None:
    """Serve on the socket named on the command line, or run one job from a folder.

    ``python -m mlpapers.kernels.verify._forkserver --job FOLDER`` is what a sandbox of another kind starts.
    """
    if sys.argv[1:2] == ["--job"]:
        with open(os.path.join(sys.argv[2], "request.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            request = json.load(file)
        enter(request)
        _guard.preload()
        _harness.run(request, None)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
