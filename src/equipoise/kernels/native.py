"""The compiled library: loaded when this module is first imported, or the reason why it is not.

Whatever keeps the library from being used (not built, not readable, built for another machine or version) is no error:
the losses then compute in plain torch, and `status()` says why.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

# The version of csrc/interface.h that this module speaks.
ABI = 2

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_FILE = Path(__file__).with_name(f"libequipoise_kernels{_SUFFIX}")
_TORCH = Path(torch.__file__).with_name("lib") / f"{'' if sys.platform == 'win32' else 'lib'}torch_cpu{_SUFFIX}"


@dataclass(frozen=True)
class Status:
    """Which path the losses take on the CPU.

    Attributes:
        active: `native` or `eager`.
        reason: why, in one sentence.
        level: the instruction level of the compiled code: `avx512`, `avx2` or `baseline`; None where it is not loaded.
        path: the file that is loaded, or was found or named but is of no use; None where there is none.
        threads: `torch's pool`, or `one` and why.
    """

    active: str
    reason: str
    level: str | None = None
    path: str | None = None
    threads: str = "torch's pool"


class TargetError(ValueError):
    """A target leaves its range; the caller, who knows the range, says so in the user's words."""


class _UnusableError(Exception):
    """Why a file is not loaded."""


def _declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the types of the library's functions; one that the file lacks is an AttributeError."""
    types: dict[str, tuple[list[type], type | None]] = {
        "equipoise_level": ([], ctypes.c_char_p),
        "equipoise_set_level": ([ctypes.c_int32], ctypes.c_int32),
        "equipoise_set_parallel_for": ([ctypes.c_void_p], None),
        # a packed call, see calls.py
        "equipoise_sigmoid": ([ctypes.c_char_p], ctypes.c_int32),
        "equipoise_softmax": ([ctypes.c_char_p], ctypes.c_int32),
        "equipoise_ghm": ([ctypes.c_char_p], ctypes.c_int32),
        "equipoise_pairs": ([ctypes.c_char_p], ctypes.c_int32),
        "equipoise_distances": ([ctypes.c_char_p], ctypes.c_int32),
    }
    for name, (arguments, result) in types.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result


def _open(path: Path) -> ctypes.CDLL:
    """Load the file and make sure that it is this version's library."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _UnusableError(f"the compiled library cannot be loaded: {' '.join(str(error).split())}") from error
    try:
        library.equipoise_abi.restype = ctypes.c_int32
        found = library.equipoise_abi()
        if found != ABI:
            raise _UnusableError(f"the compiled library has interface {found}, this version needs {ABI}: install again")
        _declare(library)
    except AttributeError as error:
        raise _UnusableError(f"the file is not this version's library: {' '.join(str(error).split())}") from error
    return library


def _pool() -> int | None:
    """The address of torch's parallel loop, or None where this torch has none."""
    try:
        return ctypes.cast(ctypes.CDLL(str(_TORCH)).torch_parallel_for, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None


# Whether the whole process is to compute in plain torch.
_forced = os.environ.get("EQUIPOISE_EAGER", "0") not in ("", "0")


def _load() -> tuple[ctypes.CDLL | None, Status]:
    """Find and load the library, as the environment says."""
    if _forced:
        return None, Status("eager", "EQUIPOISE_EAGER is set")
    named = os.environ.get("EQUIPOISE_LIBRARY")
    path = Path(named) if named else _FILE
    if not path.is_file():
        if named:
            return None, Status("eager", "EQUIPOISE_LIBRARY names no file", path=named)
        return None, Status("eager", "no compiled library is installed: there was no C++ compiler, or it failed")
    try:
        library = _open(path)
    except _UnusableError as error:
        return None, Status("eager", str(error), path=str(path))
    level = library.equipoise_level().decode()
    pool = _pool()
    library.equipoise_set_parallel_for(pool)
    threads = "torch's pool" if pool else "one: this torch lends no threads (2.10 and later do)"
    return library, Status("native", f"the compiled library is loaded ({level})", level, str(path), threads)


library, _status = _load()
_loaded = library is not None


def _after_fork() -> None:
    """A forked process has none of its parent's threads: torch's pool would wait for them for ever."""
    global _status
    if library is not None:
        library.equipoise_set_parallel_for(None)
        _status = replace(_status, threads="one: a forked process has no threads of its parent's pool")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Thread(threading.local):
    """How many `eager()` blocks this thread is in."""

    depth = 0


_thread = _Thread()
# How many blocks all threads are in. `is_active` reads `_any_eager` first: it is quicker than what belongs to a thread,
# and torch.compile compiles again when it changes, which it does not for a thread's own values.
_blocks = 0
_any_eager = False
_change = threading.Lock()


def _count(step: int) -> None:
    global _blocks, _any_eager
    _thread.depth += step
    with _change:
        _blocks += step
        _any_eager = _blocks > 0


@contextmanager
def eager() -> Iterator[None]:
    """Within the block, and in its thread alone, every loss computes in plain torch.

    The environment variable `EQUIPOISE_EAGER=1` does the same for a whole process.

    Example:
        >>> from equipoise import kernels
        >>> with kernels.eager():
        ...     kernels.status().active
        'eager'
    """
    _count(+1)
    try:
        yield
    finally:
        _count(-1)


def is_active() -> bool:
    """Whether a loss may call the library, here and now."""
    return _loaded and not (_any_eager and _thread.depth > 0)


def is_eager() -> bool:
    """Whether plain torch is asked for, here and now, on the CPU and on a GPU."""
    return _forced or (_any_eager and _thread.depth > 0)


def status() -> Status:
    """Which path the losses take on the CPU, here and now, and why.

    Example:
        >>> from equipoise import kernels
        >>> kernels.status().active in ("native", "eager")
        True
    """
    if _loaded and not is_active():
        return replace(_status, active="eager", reason="this is inside equipoise.kernels.eager()")
    return _status
