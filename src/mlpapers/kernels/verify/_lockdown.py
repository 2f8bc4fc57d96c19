"""What a worker gives up before candidate code runs: resources, network, processes, other people's files.

Four layers, each used where the system permits it: resource limits, a network namespace of its own, a seccomp
filter (no new process, no program, no socket, no signal to others), and an audit hook on what Python does.
The first three bind native code too. It guards against accidents and reward hacks, not against a native
exploit.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import struct
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_THREAD = 0x10000000, 0x40000000, 0x00010000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9
_EPERM, _ENOSYS = 1, 38
_M_PERTURB = -6

# machine -> (audit architecture, clone, clone3, numbers of the calls that are refused)
_SYSCALLS: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    # fork vfork execve execveat socket connect ptrace kill process_vm_readv/writev unshare setns
    # io_uring_setup pidfd_send_signal bpf
    "x86_64": (
        0xC000003E, 56, 435,
        (57, 58, 59, 322, 41, 42, 101, 62, 310, 311, 272, 308, 425, 424, 321),
    ),
    "aarch64": (
        0xC00000B7, 220, 435,
        (221, 281, 198, 203, 117, 129, 270, 271, 97, 268, 425, 424, 280),
    ),
}  # fmt: skip


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def set_limits(limits: dict[str, int]) -> None:
    """Set soft and hard limits; a limit above the hard one of the machine becomes that one.

    Parameters
    ----------
    limits : dict of str to int
        ``memory`` (bytes of address space beyond what is used now), ``cpu`` (seconds), ``file_size`` (bytes),
        ``open_files``, ``processes`` (of this user, beyond those that exist).
    """
    bounds = {
        resource.RLIMIT_CPU: limits["cpu"],
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_NPROC: limits["processes"] + _own_processes(),
        resource.RLIMIT_CORE: 0,
    }
    if limits["memory"] > 0:
        bounds[resource.RLIMIT_AS] = limits["memory"] + _address_space()
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        value = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (value, value))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _own_processes() -> int:
    """Count the threads of this user's processes: that is what the limit on processes counts."""
    count, user = 0, os.getuid()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid == user:
                count += len(os.listdir(entry / "task"))  # noqa: PTH208 - names are enough
        except OSError:
            continue
    return count


def leave_network() -> bool:
    """Enter a network namespace without interfaces; return whether that was permitted."""
    user, group = os.getuid(), os.getgid()
    if _libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    except OSError:
        # The namespace is entered; only the names of user and group are lost.
        return True
    return True


def refuse_syscalls() -> bool:
    """Install the seccomp filter; return whether the kernel took it."""
    machine = os.uname().machine
    if machine not in _SYSCALLS:
        return False
    architecture, clone, clone3, refused = _SYSCALLS[machine]
    load, jump_equal, jump_any_bit, answer = 0x20, 0x15, 0x45, 0x06
    allow, deny, absent = 0x7FFF0000, 0x00050000 | _EPERM, 0x00050000 | _ENOSYS
    program = [
        (load, 0, 0, 4),  # architecture
        (jump_equal, 1, 0, architecture),
        (answer, 0, 0, deny),
        (load, 0, 0, 0),  # number of the call
        (jump_equal, 0, 3, clone),
        (load, 0, 0, 16),  # lower half of the flags
        (jump_any_bit, 0, 1, _CLONE_THREAD),
        (answer, 0, 0, allow),
        (load, 0, 0, 0),
        (jump_equal, 0, 1, clone),
        (answer, 0, 0, deny),
        # Without clone3 the C library starts threads with clone, whose flags can be examined.
        (jump_equal, 0, 1, clone3),
        (answer, 0, 0, absent),
    ]
    for number in refused:
        program += [(jump_equal, 0, 1, number), (answer, 0, 0, deny)]
    if machine == "x86_64":
        program += [(0x35, 0, 1, 0x40000000), (answer, 0, 0, deny)]  # calls of the x32 interface
    program.append((answer, 0, 0, allow))
    text = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(text, len(text))
    wanted = _Filter(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0) == 0


def perturb_memory(on: bool) -> bool:
    """Let malloc fill fresh memory with 0x7f bytes (3.4e38 as float32); return whether the C library can."""
    mallopt = getattr(_libc(), "mallopt", None)
    return mallopt is not None and mallopt(_M_PERTURB, 0x80 if on else 0) == 1


def compilers() -> frozenset[str]:
    """Return the programs that languages for devices start when a kernel is launched for the first time.

    Triton writes the launch in C and assembles by ptxas; TileLang calls nvcc. Compilers of the system, those
    that lie beside Triton or below ``CUDA_HOME``, and what they learn the machine's kind and the driver's
    place from.
    """
    names = ["cc", "gcc", "clang", "c++", "g++", "clang++", "nvcc", "ptxas", "cuobjdump", "file"]
    found = [shutil.which(name) for name in [*names, *filter(None, [os.environ.get("CC")])]]
    found += ["/sbin/ldconfig", "/usr/sbin/ldconfig", os.environ.get("TRITON_PTXAS_PATH")]
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders = [Path(root) / "triton" / "backends" / "nvidia" / "bin" for root in packages]
    folders.append(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin")
    found += [str(program) for folder in folders if folder.is_dir() for program in folder.iterdir()]
    return frozenset(os.path.realpath(program) for program in found if program)


class Watch:
    """An audit hook that records, and refuses, what a kernel has no business to do.

    Parameters
    ----------
    readable : sequence of path
        Folders below which files may be opened for reading; those in `writable` also for writing.
    writable : sequence of path
    loadable : sequence of path
        Folders from which shared libraries may be loaded.

    Attributes
    ----------
    found : list of str
        What was refused, since the watch was armed.
    strict : bool
        Whether programs may be started no more.
    programs : frozenset of str or None
        The programs that may be started until then; None for all.
    """

    _NEVER = (
        "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "telnetlib.", "os.fork", "os.forkpty",
        "os.kill",
        "os.killpg", "pty.spawn", "signal.pthread_kill", "gc.get_objects", "gc.get_referrers",
        "gc.get_referents",
        "sys.settrace", "sys.setprofile", "sys._current_frames", "mmap.__new__",
    )  # fmt: skip
    _PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
    _LOOKS = ("os.listdir", "os.scandir", "shutil.")
    _CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink",
                "os.truncate", "os.utime")  # fmt: skip

    def __init__(self, readable: Sequence[Any], writable: Sequence[Any], loadable: Sequence[Any]) -> None:
        self.found: list[str] = []
        self.strict = False
        self.programs: frozenset[str] | None = None
        self._readable = tuple(self._real(path) for path in (*readable, *writable))
        self._writable = tuple(self._real(path) for path in writable)
        self._loadable = tuple(self._real(path) for path in loadable)
        self._armed = False

    @staticmethod
    def _real(path: Any) -> str:
        return os.path.realpath(os.fspath(path))

    def arm(self) -> None:
        """Install the hook; it stays until the process ends."""
        self._armed = True
        sys.addaudithook(self._hook())

    def _hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        # Bound here, so that replacing them later changes nothing.
        realpath, fspath, fsdecode, which = os.path.realpath, os.fspath, os.fsdecode, shutil.which
        found = self.found
        write_flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        readable, writable, loadable = self._readable, self._writable, self._loadable
        busy = [False]

        def below(path: Any, folders: tuple[str, ...]) -> bool:
            try:
                real = realpath(fsdecode(fspath(path)))
            except (TypeError, ValueError, OSError):
                return False
            return any(real == folder or real.startswith(folder + "/") for folder in folders)

        def permitted(event: str, arguments: tuple[Any, ...]) -> bool:
            if self.strict or self.programs is None:
                return not self.strict
            if event not in ("subprocess.Popen", "os.posix_spawn"):
                return False
            program, environment = fsdecode(fspath(arguments[0])), arguments[-1]
            if "/" not in program:
                program = which(program, path=None if environment is None else environment.get("PATH")) or ""
            # A name that nothing bears starts nothing.
            return not program or realpath(program) in self.programs

        def refuse(text: str) -> None:
            found.append(text)
            raise PermissionError(f"a kernel must not do this: {text}")

        def check(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                path, _, flags = arguments
                if isinstance(path, int):
                    return
                writes = isinstance(flags, int) and bool(flags & write_flags)
                if not below(path, writable if writes else readable):
                    refuse(f"open {path!r}")
            elif event == "ctypes.dlopen":
                path = arguments[0]
                if path is not None and not below(path, loadable) and "/" in str(path):
                    refuse(f"load {path!r}")
            elif event.startswith(self._NEVER):
                refuse(event)
            elif event.startswith(self._PROGRAMS):
                if not permitted(event, arguments):
                    refuse(f"{event} {arguments[0]!r}" if arguments else event)
            elif event.startswith((*self._LOOKS, *self._CHANGES)):
                folders = readable if event.startswith(self._LOOKS) else writable
                # The names of two files, where there are two; what a link points to may be anywhere.
                places = {"os.rename": (0, 1), "os.link": (0, 1), "os.symlink": (1,)}.get(event, (0,))
                for path in (arguments[place] if place < len(arguments) else None for place in places):
                    if not isinstance(path, int) and not below("." if path is None else path, folders):
                        refuse(f"{event} {path!r}")

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if busy[0]:  # what the check itself does
                return
            busy[0] = True
            try:
                check(event, arguments)
            finally:
                busy[0] = False

        return hook
