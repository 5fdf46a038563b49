"""Kill a run at every step it takes, and run the same command again; on a disk, on moto, and on Ceph's gateway.

On the disk at each step; where one run overtakes another in the middle, at sixty of the pairs of their steps. On the
slower storages at a few of either, which are others in each session.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from facebatch.sources import Kind, Source
from facebatch.storage import Object
from tests.faults import steps
from tests.faults.scenarios import (
    Crash,
    Past,
    crashed,
    litter,
    nothing,
    overlapping,
    overtaken,
    sampled,
    sickness,
    undisturbed,
    whole,
)
from tests.faults.steps import Anew

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


def test_a_run_takes_these_steps(anew: Anew) -> None:
    """What is crashed below is the whole protocol, in its order."""
    history, run = undisturbed(anew)
    commit = ["put images", "put faces", "create _facebatch/records"]
    assert [_kind(step, history.root) for step in run.steps] == [
        "create _facebatch/dataset.json",
        "create _facebatch/epochs",
        "put _facebatch/runs",
        "put _facebatch/epochs",
        *["create _facebatch/plan"] * 2,
        *commit,
        "put _facebatch/ends",
        *commit,
        *commit,
        "put _facebatch/runs",
        "put _facebatch/epochs",
    ]
    again = anew()
    again.run(sick=True)
    swept = [step for step in again.run().steps if step.startswith("delete")]
    assert [_kind(step, again.root) for step in swept] == [
        *["delete images"] * 3,
        *["delete faces"] * 3,
        *["delete _facebatch/records"] * 3,
    ]
    whole(again, history)


def test_the_steps_are_those_of_facebatch_index() -> None:
    def calls(file: Path, function: str) -> list[str]:
        body = next(
            node
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name == function
        )
        made = [n.func for n in ast.walk(body) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        named = sorted((call.lineno, call.attr) for call in made)
        order = ("open", "taken", "note_run", "settle", "state", "write_empty", "sweep")
        return [name for _, name in named if name in order]

    assert calls(Path(steps.__file__), "index") == calls(ROOT / "facebatch" / "pipeline" / "index.py", "_run")


def test_a_kill_at_any_step_costs_nothing(anew: Anew) -> None:
    reference, run = undisturbed(anew)
    crashes = [Crash(step, behind) for step in range(1, len(run.steps) + 1) for behind in (False, True)]
    for crash in sampled(reference, crashes, 8):
        assert crashed(anew, reference, crash)


def test_two_kills_in_a_row_cost_nothing(anew: Anew) -> None:
    """Behind a step is before the next one; so kills before steps are all there are."""
    reference, run = undisturbed(anew)
    for first in sampled(reference, range(1, len(run.steps) + 1), 2):
        for second in sampled(reference, range(1, len(run.steps) + 12), 4):
            if not crashed(anew, reference, Crash(first), Crash(second)) and second > len(run.steps):
                break


def test_a_kill_where_there_is_nothing_to_index_costs_nothing(anew: Anew) -> None:
    def empty() -> steps.History:
        history = anew()
        history.sources = ()
        return history

    reference, run = undisturbed(empty)
    for step in sampled(reference, range(1, len(run.steps) + 1), 4):
        assert crashed(empty, reference, Crash(step))


def test_images_tried_again_replace_their_rows_wherever_that_is_killed(anew: Anew) -> None:
    reference, _ = undisturbed(anew)
    history, _ = undisturbed(anew, sick=True)
    second = history.run()
    crashes = [Crash(step, behind) for step in range(1, len(second.steps) + 1) for behind in (False, True)]
    for crash in sampled(reference, crashes, 8):
        assert crashed(anew, reference, crash, past=sickness)


@pytest.mark.parametrize("past", [nothing, sickness, litter])
def test_a_run_that_was_overtaken_changes_nothing_that_counts(anew: Anew, past: Past) -> None:
    reference, _ = undisturbed(anew)
    history = anew()
    past(history)
    run = history.run()
    late = set()
    for step in sampled(reference, range(1, len(run.steps) + 1), 3):
        late |= overtaken(anew, reference, step, past=past)
    assert late == set(), "it has removed what it wrote too late"


def test_a_run_that_was_overtaken_by_one_that_finds_more_photos_changes_nothing_that_counts(anew: Anew) -> None:
    grown = (Source(Kind.FILES, Object("/photos/-1.jpg", 10, None, 1), bytes=10), *steps.SOURCES)
    reference = anew()
    reference.sources = grown
    reference.run()
    _, run = undisturbed(anew)
    for step in sampled(reference, range(1, len(run.steps) + 1), 3):
        overtaken(anew, reference, step, grown=grown)


def test_a_run_that_was_overtaken_by_one_that_was_killed_changes_nothing_that_counts(anew: Anew) -> None:
    reference, run = undisturbed(anew)
    every = range(1, len(run.steps) + 1)
    for step, crash in sampled(reference, [(step, Crash(crash)) for step in every for crash in every], 4, on_disk=60):
        overtaken(anew, reference, step, crash)


def test_two_runs_at_once_make_one_dataset(anew: Anew) -> None:
    reference, run = undisturbed(anew)
    every = range(1, len(run.steps) + 1)
    for step, at in sampled(reference, [(step, at) for step in every for at in every], 4, on_disk=60):
        overlapping(anew, reference, step, at)


def _kind(step: str, root: str) -> str:
    """`put images`: the call, and the folder below the dataset."""
    call, _, uri = step.partition(" ")
    path = uri.removeprefix(root + "/").split("/")
    return f"{call} {'/'.join(path[: 1 + path[0].startswith('_')])}"
