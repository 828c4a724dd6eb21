"""Finished trainings on disk: each in a file of its own, named by a hash of everything that decides its numbers.

A run that was killed, at whatever moment, finds its finished trainings here and repeats only the others. A file that is
damaged, or belongs to other data or another version, counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import CompareError

# What is left behind by a killed process is removed once no living one can be at work on it.
STALE_SECONDS = 3600
# What `command` writes into the output folder after the last training.
PAGE, RESULTS = "index.html", "results.json"

Key = Mapping[str, Any]


def digest(value: object) -> str:
    """The SHA-256 of a value that JSON can hold, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment, and after a crash, it is either the old one or the new one."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other comparisons out of an output folder; a process that dies, however it dies, lets go of it.

    Raises:
        CompareError: where another one is at work in it.
    """
    lock = FileLock(out / "runs" / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CompareError(
            f"another comparison is writing to the output folder {out}: wait for it, or name another with --out"
        ) from error
    except OSError as error:
        raise CompareError(f"cannot write to the output folder {out}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


class Store:
    """The finished trainings in one folder.

    Attributes:
        folder: where they are kept.
        out: the output folder around it, which is the one that the person named.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder.parent

    def open(self) -> None:
        """Create the folder, and make sure now rather than after the first training that all can be written."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CompareError(f"cannot create the output folder {self.out}: {error.strerror}") from error
        for name in (PAGE, RESULTS):
            if (self.out / name).is_dir():
                raise CompareError(f"cannot write to the output folder {self.out}: {name}: Is a directory")
        try:
            self.folder.mkdir(exist_ok=True)
            write_atomically(self.folder / "README.txt", "Finished trainings: equipoise compare goes on from here.\n")
            for unfinished in self.folder.glob(".*.unfinished"):
                with suppress(FileNotFoundError):  # its owner may finish it right now
                    if time.time() - unfinished.stat().st_mtime > STALE_SECONDS:
                        unfinished.unlink()
        except OSError as error:
            raise CompareError(f"cannot write to the output folder {self.out}: {error.strerror}") from error

    def _path(self, key: Key) -> Path:
        return self.folder / f"{key['candidate']}-seed{key['seed']}-{digest(key)[:16]}.json"

    def write(self, key: Key, result: Mapping[str, Any]) -> None:
        """Keep the result of a finished training."""
        record = {"key": key, "result": result, "sha256": digest([key, result])}
        try:
            write_atomically(self._path(key), json.dumps(record, indent=1))
        except OSError as error:
            raise CompareError(f"cannot write to the output folder {self.out}: {error.strerror}") from error

    def read(self, key: Key) -> dict[str, Any] | None:
        """The result of a training if it is there and undamaged, else None."""
        try:
            record = json.loads(self._path(key).read_bytes())
            result = record["result"]
            return result if record["sha256"] == digest([key, result]) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
