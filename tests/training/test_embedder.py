"""The task of an embedder: to see faces as its teacher does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from facebatch.embed import Embedder
from facebatch.importers import edgenext
from facebatch.importers.checkpoint import Checkpoint
from facebatch.session import Session
from facebatch.training.embedder import BLOCKS, INPUT, PAIRS, Distillation, alike_blocks
from facebatch.training.faces import Face, Looks, chip
from facebatch.training.loader import batches
from facebatch.training.student import Student
from facebatch.training.teacher import Teacher
from tests import models

pytestmark = pytest.mark.reference

TEACHER = models.embedder()
"""A projection of the colours of 64 fields."""


def _teacher() -> Teacher:
    return Teacher(TEACHER, "cpu", 1)


class _Parrot(nn.Module):
    """Says what it was told to, one vector for each picture."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.from_numpy(vectors))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.vectors[: len(x)]


def _people(names: Sequence[str], each: int = 3) -> list[Face]:
    """Faces of people who each have a pattern of their own, with a little noise."""
    random = np.random.default_rng(0)
    found = []
    for name in names:
        fields = random.integers(40, 200, (10, 10, 3))
        pattern = np.repeat(np.repeat(fields, 16, axis=0), 16, axis=1)
        found += [Face((pattern + random.integers(0, 40, pattern.shape)).astype(np.uint8), name) for _ in range(each)]
    return found


def _taught(chips: Sequence[np.ndarray]) -> np.ndarray:
    return Embedder(Session(TEACHER, "cpu"))(chips).vectors


def test_a_sample_is_a_view_of_a_face() -> None:
    task = Distillation(_teacher(), _people("ab"), _people("cd"))
    made = task.sample(5, np.random.default_rng(0))
    assert {key: (value.shape, value.dtype) for key, value in made.items()} == {"pixels": ((112, 112, 3), np.uint8)}
    assert task.count == 6


def test_who_says_what_the_teacher_says_is_not_punished() -> None:
    faces = _people("ab")
    pixels = np.stack([chip(face) for face in faces])
    own = _taught(list(pixels))
    task = Distillation(_teacher(), faces, faces)
    for vectors in (own, own * 7):  # the length does not count
        found = task.losses(_Parrot(vectors), {"pixels": torch.from_numpy(pixels)})
        assert all(abs(value.item()) < 1e-5 for value in found.values())


def test_others_are_punished_by_cosines_and_by_how_pairs_differ() -> None:
    """It says the opposite of the first two of three vectors: their cosines with the teacher are -1, -1 and 1, and of
    the nine pairs the four between them and the third have the other sign."""
    faces = _people("abc", each=1)
    pixels = np.stack([chip(face) for face in faces])
    own = _taught(list(pixels))
    said = own * np.array([[-1], [-1], [1]], np.float32)
    found = Distillation(_teacher(), faces, faces).losses(_Parrot(said), {"pixels": torch.from_numpy(pixels)})
    cosines = own @ own.T
    pairs = 2 * ((2 * cosines[0, 2]) ** 2 + (2 * cosines[1, 2]) ** 2) / 9
    assert found["away"].item() == pytest.approx((2 + 2 + 0) / 3, abs=1e-5)
    assert found["pairs"].item() == pytest.approx(pairs, rel=1e-4)
    assert found["total"].item() == pytest.approx(4 / 3 + PAIRS * pairs, rel=1e-4)


def test_a_batch_can_be_learned_by_heart() -> None:
    torch.manual_seed(0)
    task = Distillation(_teacher(), _people("abcd"), _people("ef"))
    batch = next(batches(task.sample, task.count, 8, 0, 0, 0))
    net = Student()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    seen = []
    for _ in range(40):
        losses = task.losses(net, batch)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        seen.append({key: value.item() for key, value in losses.items()})
    assert set(seen[0]) == {"total", "away", "pairs"}
    assert seen[-1]["total"] < 0.5 * seen[0]["total"]
    assert seen[-1]["away"] < 0.5 * seen[0]["away"]


def test_it_is_judged_by_its_cosine_with_the_teacher_and_how_it_tells_people_apart() -> None:
    """Through the graph that it leaves: what the module gives for the very same chips."""
    held = _people("abcd")
    net = _untaught(held)
    figures = Distillation(_teacher(), _people("e"), held).judge(net)
    chips = [chip(face) for face in held]
    with torch.no_grad():
        own = nn.functional.normalize(net(_fed(held))).numpy()
    assert figures["score"] == pytest.approx(float((own * _taught(chips)).sum(1).mean()), abs=1e-4)
    assert figures["teacher_auc"] == 1.0
    assert figures["auc"] == pytest.approx(_auc(own, [face.person for face in held]), abs=1e-3)


def _fed(faces: Sequence[Face]) -> torch.Tensor:
    pixels = torch.from_numpy(np.stack([chip(face) for face in faces]))
    return (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5


def _untaught(faces: Sequence[Face]) -> Student:
    """A student that has learned nothing but what pixels look like: its vectors are not all the same."""
    torch.manual_seed(0)
    net = Student()
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(_fed(faces))
    net.eval()
    return net


def _auc(vectors: np.ndarray, people: Sequence[str]) -> float:
    """The share of (pair of one person, pair of two) in which the first is the more alike."""
    cosines = vectors @ vectors.T
    pairs = [(i, j) for i in range(len(people)) for j in range(i)]
    same = [cosines[p] for p in pairs if people[p[0]] == people[p[1]]]
    other = [cosines[p] for p in pairs if people[p[0]] != people[p[1]]]
    return float(np.mean([s > o for s in same for o in other]))


@pytest.mark.parametrize("names", [["", ""], ["a"], ["a", ""]], ids=["nobody", "one", "one and strangers"])
def test_without_people_to_tell_apart_there_is_a_score_all_the_same(names: list[str]) -> None:
    net = Student().eval()
    figures = Distillation(_teacher(), _people("e"), _people(names)).judge(net)
    assert np.isfinite(figures["score"])
    assert np.isnan(figures["auc"])
    assert np.isnan(figures["teacher_auc"])


def test_strangers_do_not_count_as_one_person() -> None:
    """Names are those that are given; three people and two faces without."""
    net = _untaught(_people("abc"))
    strangers = [Face(face.pixels, "") for face in _people("xy", each=1)]
    known = Distillation(_teacher(), _people("e"), _people("abc")).judge(net)
    mixed = Distillation(_teacher(), _people("e"), [*strangers, *_people("abc")]).judge(net)
    assert mixed["auc"] == known["auc"]
    assert mixed["teacher_auc"] == known["teacher_auc"]


def test_looks_can_be_chosen() -> None:
    faces = _people("a", each=1)
    still = Looks(turn=0, scale=0, stretch=0, shift=0, bent=0, mixed=0, grey=1.0, blurred=0, covered=0)
    made = Distillation(_teacher(), faces, faces, still).sample(0, np.random.default_rng(0))
    assert np.ptp(made["pixels"].astype(int), axis=2).max() <= 1


def _of_blocks(student: Student) -> Teacher:
    """A student's network as a teacher."""
    arrays = {name: array.numpy() for name, array in student.state_dict().items()}
    return Teacher(models.model(edgenext.build(Checkpoint(arrays, "student")), "embedder", input=INPUT), "cpu", 1)


@pytest.mark.parametrize("apart", [True, False])
def test_blocks_like_the_teachers_are_not_punished(apart: bool) -> None:
    faces, teacher = _people("ab"), _untaught(_people("ab"))
    task = Distillation(_of_blocks(teacher), faces, faces, apart=apart)
    pixels = torch.from_numpy(np.stack([chip(face) for face in faces]))
    found = task.losses(teacher, {"pixels": pixels})
    assert set(found) == {"total", "away", "pairs", "blocks"}
    assert all(abs(value.item()) < 1e-3 for value in found.values())


def test_a_block_that_differs_is_punished_once_where_parts_learn_apart_and_for_all_that_follows_where_they_do_not() -> (
    None
):
    """The third part of sixteen gives the teacher's map, but moved by two standard deviations of what it is to add."""
    faces, teacher, student = _people("ab"), _untaught(_people("ab")), _untaught(_people("ab"))
    pixels = torch.from_numpy(np.stack([chip(face) for face in faces]))
    with torch.no_grad():
        maps = teacher.chained(_fed(faces))
        added = (maps[2] - maps[1]).std((0, 2, 3))
        student.parts[2].mix.down.bias += 2 * added
    found = {}
    for apart in (True, False):
        task = Distillation(_of_blocks(teacher), faces, faces, apart=apart)
        found[apart] = task.losses(student, {"pixels": pixels})
    assert found[True]["blocks"].item() == pytest.approx(2 / 16, rel=0.01)
    assert found[True]["total"].item() == pytest.approx(BLOCKS * 2 / 16, rel=0.01)
    assert found[False]["blocks"].item() > 0.15
    assert found[False]["away"].item() > 1e-4 > found[True]["away"].item()


def test_parts_learn_apart() -> None:
    torch.manual_seed(1)
    faces, teacher, student = _people("abcd"), _untaught(_people("abcd")), Student()
    task = Distillation(_of_blocks(teacher), faces, faces, apart=True)
    batch = next(batches(task.sample, task.count, 8, 0, 0, 0))
    untaught = task.losses(student, batch)["blocks"].item()
    task.begin(student, seed=0)
    begun = task.losses(student, batch)["blocks"].item()
    optimiser = torch.optim.AdamW(student.parameters(), lr=5e-4)
    for _ in range(20):
        losses = task.losses(student, batch)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
    assert losses["blocks"].item() < 0.7 * begun < 0.7 * untaught


def test_only_a_teacher_of_such_blocks_is_learned_from_block_by_block() -> None:
    assert alike_blocks(_of_blocks(Student()))
    assert not alike_blocks(_teacher())
