"""Contestants run in turn and are compared by their medians."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from facebatch.bench.contest import Contestant, Lap, Standing, Told, contest, of_facebatch, ratios, run, said
from facebatch.errors import FacebatchError
from tests.conftest import Tool

_TELLS = "import json, sys; print('noise'); print(json.dumps({{'images': 10, 'faces': 3, 'seconds': {seconds}}}))"


def _program(name: str, text: str) -> Contestant:
    return Contestant(name, lambda output: [sys.executable, "-c", text, str(output)], said)


def _lap(seconds: float, faces: int = 3) -> Lap:
    return Lap(Told(10, faces, seconds), seconds + 1, 2 * seconds, 1 << 30, 1 << 20)


def test_each_runs_once_in_every_round_one_after_the_other(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    told = json.dumps({"images": 10, "faces": 3, "seconds": 2.0})
    contestants = [
        _program(name, f"open({str(trace)!r}, 'a').write({name!r}); print({told!r})") for name in ("a", "b", "c")
    ]
    lines: list[str] = []
    standings = contest(contestants, 2, lines.append)
    assert trace.read_text() == "abcabc"
    assert [(one.name, len(one.laps)) for one in standings] == [("a", 2), ("b", 2), ("c", 2)]
    assert lines[3] == "round 2 of 2: a 5.0 images/s, 3 faces"


def test_a_lap_knows_what_its_processes_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facebatch.bench.contest._EVERY", 0.5)
    text = "import time\nkept = bytearray(100_000_000)\nwhile time.process_time() < 1.5: pass\n"
    lap = run(_program("busy", text + _TELLS.format(seconds=0.5)))
    assert lap.rate == 20
    assert lap.whole_rate < 10
    assert 0.3 < lap.cpu_seconds < 5
    assert 100e6 < lap.own_bytes <= 1.2 * lap.peak_bytes < 300e6


def test_and_how_busy_the_gpus_were_where_it_is_to_look(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("facebatch.bench.contest._EVERY", 0.2)
    late = f"[ -e {tmp_path}/late ] && echo '1, GPU-b, B, 1000, 90' || exit 9"
    nvidia_smi(f"echo '0, GPU-a, A, 1000, 10'; {late}")
    text = f"import pathlib, time; time.sleep(0.5); pathlib.Path({str(tmp_path)!r}, 'late').touch(); time.sleep(2)\n"
    contestant = _program("on GPUs", text + _TELLS.format(seconds=1))
    (standing,) = contest([contestant], 1, print, on_gpus=True)
    assert standing.laps[0].gpu_busy == 0.5, "looks that fail are none"
    assert run(contestant).gpu_busy is None


def test_a_driver_that_takes_its_time_takes_none_of_the_measurements(
    nvidia_smi: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facebatch.bench.contest._EVERY", 0.1)
    asked = nvidia_smi("/bin/sleep 10")
    began = time.monotonic()
    lap = run(_program("quick", "import time; time.sleep(1)\n" + _TELLS.format(seconds=1)), on_gpus=True)
    assert time.monotonic() - began < 8, "nor of what follows"
    assert lap.whole_seconds < 8
    assert lap.gpu_busy is None
    assert asked.exists()


def test_the_last_words_of_one_that_fails_are_told() -> None:
    with pytest.raises(FacebatchError, match="loser ended with exit code 3: .*it was too much"):
        run(_program("loser", "import sys; print('it was too much', file=sys.stderr); sys.exit(3)"))


def test_what_it_writes_is_gone_unless_a_place_is_given(tmp_path: Path) -> None:
    text = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(); " + _TELLS.format(seconds=1)
    run(_program("writer", text), tmp_path / "kept")
    assert (tmp_path / "kept").is_dir()


def test_medians_decide() -> None:
    quick = Standing("quick", tuple(map(_lap, (1.0, 2.0, 100.0))))
    slow = Standing("slow", tuple(map(_lap, (4.0, 4.0, 4.0))))
    assert ratios([quick, slow], "slow") == {"quick": 2, "slow": 1}
    assert quick.middle.told.seconds == 2
    assert quick.median(lambda lap: lap.cores) == pytest.approx(4 / 3)


def test_facebatch_is_measured_by_its_own_record(tmp_path: Path) -> None:
    runs = tmp_path / "_facebatch" / "runs"
    runs.mkdir(parents=True)
    record = {"images": 10, "totals": {"faces": 7}, "seconds": 2.5, "spent": {"decode": 1.5}, "moved_bytes": 99}
    (runs / "00001.json").write_text(json.dumps(record | {"images": 3}))
    (runs / "00002.json").write_text(json.dumps(record))
    assert of_facebatch(tmp_path, "a table") == Told(10, 7, 2.5, {"decode": 1.5}, 99)
