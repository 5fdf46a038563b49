"""Failpoints: named places where a test makes a process die, wait or misbehave. Inert unless FACEBATCH_FAILPOINTS names
a folder.

A test arms a point by a file of its name in that folder. The process that comes by first takes the file away and does
what stands in it, so that a point fires once however many processes and attempts pass it:

    kill      SIGKILL to itself
    crash     a segmentation fault
    hold      NAME.held appears; go on when it is gone
    spin      compute for ever
    eat       take memory until it is refused; at 2 GiB be killed, as the kernel does when there is no more
    always X  do X, and leave the file for whoever comes next
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

VARIABLE = "FACEBATCH_FAILPOINTS"
POINTS = {
    "takeover": "the run has its number, and has decided nothing yet",
    "settled": "what counts of earlier runs is written down, and nothing is swept yet",
    "sweep": "a part of what does not count is deleted",
    "resume": "the state and the plans are read, and new sources are being listed",
    "planned": "a plan file is written, and nothing of it is computed",
    "data": "a commit has its rows encoded, and nothing is written",
    "torn images": "half of the images object is on its way (on local disks: lies aside)",
    "images": "the images object is written, the faces object is not",
    "faces": "both objects are written, and the right to write has not been checked again",
    "record": "the right to write was checked for the last time, and the record is not written",
    "committed": "the record is written, and nobody has been told",
    "end": "everything is committed and swept, and the run has not said that it ended",
}
"""The points of the commit protocol (`facebatch.commit`). Others: `decode NAME` for the image of that file name,
`detect`, `embed`."""
_STEP, _STEPS = 64 << 20, 32


def failpoint(name: str) -> None:
    """Do here what a test has armed this point with; nothing in any other case."""
    folder = os.environ.get(VARIABLE)
    if folder:
        _fire(Path(folder), name)


def _fire(folder: Path, name: str) -> None:
    armed = folder / name
    try:
        words = armed.read_text().split()
        if words[0] == "always":
            words = words[1:]
        else:
            armed.rename(folder / f"{name}.fired")
    except FileNotFoundError:
        return  # not armed, or another process was faster
    match words:
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["crash"]:
            ctypes.string_at(0)
        case ["hold"]:
            held = folder / f"{name}.held"
            held.write_text(str(os.getpid()))
            while held.exists():
                time.sleep(0.01)
        case ["spin"]:
            while True:
                pass
        case ["eat"]:
            _eat()
        case _:
            raise ValueError(f"{armed} says {' '.join(words)}, which is no action of a failpoint")


def _eat() -> None:
    taken = [b"\1" * _STEP for _ in range(_STEPS)]
    os.kill(os.getpid(), signal.SIGKILL)
    del taken
