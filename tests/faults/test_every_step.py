"""Kill a run at every step it takes, and run the same command again; on a disk, on moto, and on Ceph's gateway."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults import steps
from tests.faults.steps import Crash, Make, crashed, overlapping, overtaken, sampled, undisturbed, whole

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


def test_a_run_takes_these_steps(make: Make) -> None:
    """What is crashed below is the whole protocol, in its order."""
    world, run = undisturbed(make)
    commit = ["put images", "put faces", "create _facebatch/records"]
    assert [_kind(step, world.root) for step in run.steps] == [
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
    again = make()
    again.run(sick=True)
    swept = [step for step in again.run().steps if step.startswith("delete")]
    assert [_kind(step, again.root) for step in swept] == [
        *["delete images"] * 3,
        *["delete faces"] * 3,
        *["delete _facebatch/records"] * 3,
    ]
    whole(again, world)


def test_the_steps_are_those_of_facebatch_index() -> None:
    def calls(file: Path) -> list[str]:
        body = next(
            node
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name == "index"
        )
        made = [n.func for n in ast.walk(body) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        named = sorted((call.lineno, call.attr) for call in made)
        order = ("open", "taken", "note_run", "settle", "state", "write_empty", "sweep")
        return [name for _, name in named if name in order]

    assert calls(Path(steps.__file__)) == calls(ROOT / "facebatch" / "pipeline" / "index.py")


def test_a_kill_at_any_step_costs_nothing(make: Make) -> None:
    reference, run = undisturbed(make)
    crashes = [Crash(step, behind) for step in range(1, len(run.steps) + 1) for behind in (False, True)]
    for crash in sampled(reference, crashes, 16):
        assert crashed(make, reference, crash)


def test_two_kills_in_a_row_cost_nothing(make: Make) -> None:
    """Behind a step is before the next one; so kills before steps are all there are."""
    reference, run = undisturbed(make)
    for first in sampled(reference, range(1, len(run.steps) + 1), 3):
        for second in sampled(reference, range(1, len(run.steps) + 12), 4):
            if not crashed(make, reference, Crash(first), Crash(second)) and second > len(run.steps):
                break


def test_a_kill_where_there_is_nothing_to_index_costs_nothing(make: Make) -> None:
    def empty() -> steps.World:
        world = make()
        world.sources = ()
        return world

    reference, run = undisturbed(empty)
    for step in sampled(reference, range(1, len(run.steps) + 1), 4):
        assert crashed(empty, reference, Crash(step))


def test_images_tried_again_replace_their_rows_wherever_that_is_killed(make: Make) -> None:
    reference, _ = undisturbed(make)
    world, _ = undisturbed(make, sick=True)
    second = world.run()
    crashes = [Crash(step, behind) for step in range(1, len(second.steps) + 1) for behind in (False, True)]
    for crash in sampled(reference, crashes, 16):
        assert crashed(make, reference, crash, retry=True)


@pytest.mark.parametrize("retry", [False, True])
def test_a_run_that_was_overtaken_changes_nothing_that_counts(make: Make, retry: bool) -> None:
    reference, run = undisturbed(make)
    if retry:
        world, _ = undisturbed(make, sick=True)
        run = world.run()
    late = set()
    for step in sampled(reference, range(1, len(run.steps) + 1), 8):
        late |= overtaken(make, reference, step, retry=retry)
    print(f"{len(late)} late files of zombies, until the next run: {sorted(late)}")


def test_a_run_that_was_overtaken_by_one_that_was_killed_changes_nothing_that_counts(make: Make) -> None:
    reference, run = undisturbed(make)
    every = range(1, len(run.steps) + 1)
    for step, crash in sampled(reference, [(step, Crash(crash)) for step in every for crash in every], 8, on_disk=60):
        overtaken(make, reference, step, crash)


def test_two_runs_at_once_make_one_dataset(make: Make) -> None:
    reference, run = undisturbed(make)
    every = range(1, len(run.steps) + 1)
    for step, at in sampled(reference, [(step, at) for step in every for at in every], 8, on_disk=60):
        overlapping(make, reference, step, at)


def _kind(step: str, root: str) -> str:
    """`put images`: the call, and the folder below the dataset."""
    call, _, uri = step.partition(" ")
    path = uri.removeprefix(root + "/").split("/")
    return f"{call} {'/'.join(path[: 1 + path[0].startswith('_')])}"
