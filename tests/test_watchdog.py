"""The watchdog ends a process that does not come back, and no other."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from facebatch.watchdog import image_seconds

_HANGS = "while True: pass"
_HOLDS_THE_GIL = "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')"


def _child(*code: str) -> subprocess.CompletedProcess[str]:
    program = "\n".join(["from facebatch.watchdog import Watchdog", "dog = Watchdog(0.2)", *code])
    root = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=root, timeout=120
    )


def test_a_process_that_hangs_is_ended_and_says_where_it_hung() -> None:
    ended = _child("dog.image()", _HANGS)
    assert ended.returncode == -signal.SIGALRM
    assert 'File "<string>", line 4' in ended.stderr


def test_a_thread_that_hangs_beside_the_main_one_is_found() -> None:
    """Ray calls stages in a thread of theirs, while the main one waits in a library."""
    hang = f"def hang():\n    dog.image()\n    {_HANGS}"
    ended = _child(hang, "import threading", "thread = threading.Thread(target=hang)", "thread.start(); thread.join()")
    assert ended.returncode == -signal.SIGALRM
    assert "in hang" in ended.stderr


def test_one_that_never_gives_the_gil_back_is_ended_as_well() -> None:
    assert _child("dog.image()", _HOLDS_THE_GIL).returncode == -signal.SIGALRM


def test_a_process_at_rest_lives_on() -> None:
    assert _child("dog.image()", "dog.rest()", "import time; time.sleep(2)").returncode == 0


def test_each_image_has_time_of_its_own() -> None:
    """Twelve images of 0.2 s each are more than the watchdog waits for one."""
    assert _child("import time", "for _ in range(12): dog.image(); time.sleep(0.2)", "dog.rest()").returncode == 0


def test_a_stage_that_rests_calls_off_no_other_watchdog() -> None:
    other = ("other = Watchdog(60)", "dog.image()", "other.batch(1)", "other.rest()")
    assert _child(*other, _HANGS).returncode == -signal.SIGALRM


def test_a_stage_that_may_take_long_lends_its_time_to_no_other() -> None:
    assert _child("other = Watchdog(60)", "other.batch(1)", "dog.image()", _HANGS).returncode == -signal.SIGALRM
    assert _child("other = Watchdog(60)", "other.batch(1)", "dog.image()", "dog.rest()").returncode == 0


def test_a_network_that_fails_leaves_no_deadline_behind() -> None:
    fails = "try:\n    with dog.over(0): raise MemoryError\nexcept MemoryError: pass"
    short = "import facebatch.watchdog as module; module._BATCH_SECONDS = 0.1"
    assert _child(short, fails, "import time; time.sleep(2)").returncode == 0
    assert _child(short, "with dog.over(0): import time; time.sleep(4)").returncode == -signal.SIGALRM


def test_large_images_have_more_time() -> None:
    assert image_seconds(0, 5) == 5
    assert image_seconds(100_000_000, 5) == 405


def test_a_sleeping_watchdog_ends_nothing() -> None:
    """The other ends a process that does the same."""
    work = ("dog.image()", "dog.batch(1)", "dog._expect(0.2)", "import time; time.sleep(2.5)")
    assert _child("from facebatch.watchdog import Asleep", "dog = Asleep()", *work).returncode == 0
    assert _child("dog.image()", "import time; time.sleep(2.5)").returncode == -signal.SIGALRM
