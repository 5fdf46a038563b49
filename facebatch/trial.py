"""Trial: suspects are decoded in a process of their own, which may crash, hang or run out of memory alone.

When a worker dies, nobody can say which image of its batch did it, and most often none did: a node went away, the
kernel wanted memory. So each image of that batch is decoded here first. What the child survives, the worker may decode;
what it does not survive gets its reason, and costs its own row only.

A child is limited to the processor time that any sound image of that size needs many times over, whatever else the
machine does, and to the memory that its pixels need; the kernel, if it runs out, takes the child first.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import psutil

import facebatch
from facebatch.config import Decode
from facebatch.decode import decoded_pixels
from facebatch.detect import Settings, views
from facebatch.reasons import Reason
from facebatch.stages import open_picture
from facebatch.watchdog import image_seconds
from facebatch.work import Work

_BYTES = 512 << 20
"""Memory that a decoder may take whatever the picture's size."""
_PIXEL_BYTES = 24
"""And for each pixel: twice the most that a sound file was seen to take."""
_STARTED = 60.0
"""Seconds for a child to be ready."""
_BLOCKED = 6
"""A child that neither ends nor computes is killed after so many times the processor time that it may use."""
_DONE, _NO_MEMORY = b"done", b"memory"
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
"""What a decoder can bring upon its process. Other signals come from outside."""
_OURS = 70
"""A child's exit code for a mistake of ours, or for want of memory outside a decoder."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an image may not be decoded in a worker."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a child has to know: how images are decoded and looked at, and the seconds that a small one may take."""

    limits: Decode
    settings: Settings
    seconds: float


class Trial:
    """A child process for suspects, started when the first one comes, and anew after each one that it died of."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def of(self, work: Work) -> Verdict | None:
        """None for an image that a worker may decode, which says nothing yet about whether it is a sound one."""
        child = self._child or self._start()
        if child is None:  # of whoever is guilty then, the next attempts tell
            return None
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead: its exit code tells why
            _send(child.stdin, pickle.dumps(work))
        seconds = image_seconds(0, self._rules.seconds)
        said = _answer(child, seconds * _BLOCKED)
        if said and said.isdigit():
            pixels = int(said)
            seconds = image_seconds(pixels, self._rules.seconds)
            said = _answer(child, seconds * _BLOCKED)
            if said == _NO_MEMORY:
                return Verdict(Reason.OUT_OF_MEMORY, f"its {pixels} pixels took more than {_allowed(pixels) >> 20} MiB")
        if said == _DONE:
            return None
        if said == _NO_MEMORY:
            return Verdict(Reason.OUT_OF_MEMORY, f"reading its header took more than {_allowed(0) >> 20} MiB")
        self._end()
        return _verdict(child.returncode, seconds, said is None)

    def _start(self) -> subprocess.Popen[bytes] | None:
        """A child that is ready; None where the machine has no room for one now."""
        paths = [str(Path(facebatch.__file__).parents[1]), *filter(None, sys.path)]
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "facebatch.trial"],  # -P: nothing is imported from where the user stands
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
        )
        assert child.stdin is not None
        self._child = child
        with contextlib.suppress(BrokenPipeError):
            _send(child.stdin, pickle.dumps(self._rules))
        if _answer(child, _STARTED) != _DONE:
            self._end()
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _verdict(code: int, seconds: float, silent: bool) -> Verdict:
    """What the end of a child says about the image that it had. Final is only what a decoder alone can have done."""
    if silent:  # or the machine did, swapping
        return Verdict(Reason.INTERNAL_ERROR, f"decoding stood still for {seconds * _BLOCKED:.0f} s")
    if code == -signal.SIGXCPU:
        return Verdict(Reason.TIMEOUT, f"decoding took more than {seconds:.0f} s of a processor (run.image_seconds)")
    if code == -signal.SIGKILL:
        return Verdict(Reason.OUT_OF_MEMORY, "the process that decoded it was killed: the machine ran out of memory")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if code == _OURS or (code < 0 and how not in _CRASHES):
        return Verdict(Reason.INTERNAL_ERROR, f"the process that decoded it was ended ({how})")
    return Verdict(Reason.WORKER_CRASH, f"the decoder crashed the process it ran in ({how})")


def _answer(child: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The line that the child says; b"" when it has died, None when it says nothing for so long."""
    assert child.stdout is not None
    said = b""
    while not said.endswith(b"\n"):
        if not select.select([child.stdout], [], [], seconds)[0]:
            return None
        byte = os.read(child.stdout.fileno(), 1)  # not through a buffer, of which select knows nothing
        if not byte:
            child.wait()
            return b""
        said += byte
    return said.strip()


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """The next message; b"" when there is none any more."""
    head = pipe.read(8)
    return pipe.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else b""


def _allowed(pixels: int) -> int:
    return _BYTES + _PIXEL_BYTES * pixels


def _child() -> None:
    """Decode what the parent sends, and say of each image that this process has survived it."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a decoder prints is no answer
    rules: Rules = pickle.loads(_receive(inbox))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not on every system
        Path("/proc/self/oom_score_adj").write_text("1000")
    outbox.write(_DONE + b"\n")
    while message := _receive(inbox):
        work: Work = pickle.loads(message)
        del message
        outbox.write(_tried(work, rules, outbox) + b"\n")
        _limit(None, None)  # the next image may be larger, and is received before its limits are known


def _tried(work: Work, rules: Rules, outbox: IO[bytes] | io.FileIO) -> bytes:
    size = 4 * len(work.data or b"")
    try:
        _limit(size + _allowed(0), image_seconds(0, rules.seconds))
        pixels = decoded_pixels(work.data or b"", rules.limits)
        _limit(size + _allowed(pixels), image_seconds(pixels, rules.seconds))
        outbox.write(b"%d\n" % pixels)
        picture = open_picture(work, rules.limits)
        if picture:
            views(picture, rules.settings)
    except MemoryError:
        return _NO_MEMORY
    except Exception:  # noqa: BLE001 - the worker meets the same, and gives it its row
        return _DONE
    return _DONE


def _limit(memory: int | None, seconds: float | None) -> None:
    """So much beyond what this process has now, and so many seconds of a processor beyond what it has used. Never more
    than whoever started us allows; None: as much as that."""
    if sys.platform == "linux":  # elsewhere the limit is not kept, or counts what libraries only reserve
        _soften(resource.RLIMIT_DATA, None if memory is None else psutil.Process().memory_info().data + memory)
    _soften(resource.RLIMIT_CPU, None if seconds is None else int(time.process_time() + seconds) + 1)


def _soften(kind: int, limit: int | None) -> None:
    _, hard = resource.getrlimit(kind)
    free = hard == resource.RLIM_INFINITY
    resource.setrlimit(kind, (hard if limit is None else limit if free else min(limit, hard), hard))


if __name__ == "__main__":
    try:
        _child()
    except Exception:  # noqa: BLE001 - whatever it is, it was not the decoder
        traceback.print_exc()
        os._exit(_OURS)
