"""WIDER FACE's evaluation, by thought and against a second, literal program without any arrays."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facebatch.errors import UsageError
from facebatch.evaluation.precision import Found
from facebatch.evaluation.wider import SUBSETS, Official, evaluate, read_official
from tests.conftest import SHARED

FOLDER = SHARED / "data" / "eval" / "wider_ground_truth" / "widerface_evaluate" / "ground_truth"


@pytest.fixture(scope="module")
def official() -> Official:
    if not FOLDER.is_dir():
        pytest.skip("needs WIDER FACE's official files, which are not part of the repository")
    return read_official(FOLDER)


@pytest.fixture(scope="module")
def clean(official: Official) -> Official:
    """The official images but three or so, in which two faces have the same box, or one that runs backward."""
    good = [k for k, b in enumerate(official.boxes) if len(np.unique(b, axis=0)) == len(b) and (b[:, 2:] >= 0).all()]
    assert len(good) > 3200
    kept = {subset: tuple(masks[k] for k in good) for subset, masks in official.kept.items()}
    return Official(tuple(official.names[k] for k in good), tuple(official.boxes[k] for k in good), kept)


def size(official: Official, subset: str) -> int:
    return sum(int(mask.sum()) for mask in official.kept[subset])


def small(kept: list[list[int]] | None = None) -> Official:
    """Two images with two faces each; by default the first of each is easy, all are hard."""
    box = np.array([[10, 10, 40, 40], [100, 10, 40, 40]], np.float64)
    chosen = kept or [[0], [0]]
    easy = tuple(np.isin(np.arange(2), some) for some in chosen)
    every = (np.ones(2, np.bool_), np.ones(2, np.bool_))
    return Official(("a/1", "b/2"), (box, box), {"easy": easy, "medium": easy, "hard": every})


def edges(boxes: np.ndarray) -> np.ndarray:
    """x, y, w, h as x_min, y_min, x_max, y_max; boxes that run backward as empty ones."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + np.maximum(boxes[:, 2:], 0)], axis=1)


def found(boxes: Any, scores: Any) -> Found:
    return Found(np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32).reshape(-1))


def faces(official: Official, number: int, *scores: float) -> Found:
    """The first faces of an image, with these scores."""
    return found(edges(official.boxes[number])[: len(scores)], scores)


def aps(official: Official, predictions: Mapping[str, Found], part: bool = False) -> dict[str, float]:
    return {subset: result.ap for subset, result in evaluate(official, predictions, part).items()}


def scattered(official: Official, chosen: Callable[[int], np.ndarray], seed: int = 0) -> dict[str, Found]:
    """Of each image the chosen boxes, exactly, with random scores from 0 to 1."""
    random = np.random.default_rng(seed)
    predictions = {}
    for number, name in enumerate(official.names):
        boxes = edges(official.boxes[number][chosen(number)])
        predictions[name] = found(boxes, random.random(len(boxes)))
    return predictions


# A second program, from the description of the authors' tool alone. It shares nothing with the first.


def raw() -> dict[str, dict[str, Any]]:
    """For each image its boxes (x, y, w, h) and, for each subset, the numbers of its faces from 1; plain lists."""
    from scipy.io import loadmat

    matrices = {subset: loadmat(str(FOLDER / f"wider_{subset}_val.mat")) for subset in ("easy", "medium", "hard")}
    images = {}
    for e, event in enumerate(matrices["easy"]["event_list"]):
        for f, file in enumerate(matrices["easy"]["file_list"][e][0]):
            images[f"{event[0][0]}/{file[0][0]}"] = {
                "boxes": matrices["hard"]["face_bbx_list"][e][0][f][0].tolist(),
                **{s: [int(k) for k in m["gt_list"][e][0][f][0].ravel()] for s, m in matrices.items()},
            }
    return images


def literal_overlap(one: list[float], other: list[float]) -> float:
    x1, y1 = max(one[0], other[0]), max(one[1], other[1])
    x2, y2 = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    if x2 - x1 + 1 <= 0 or y2 - y1 + 1 <= 0:
        return 0.0
    both = (x2 - x1 + 1) * (y2 - y1 + 1)
    return both / ((one[2] + 1) * (one[3] + 1) + (other[2] + 1) * (other[3] + 1) - both)


def literal_aps(images: dict[str, dict[str, Any]], predictions: Mapping[str, Found]) -> dict[str, float]:
    """Each subset's AP over the images that have an entry among the predictions."""
    every = [float(score) for one in predictions.values() for score in one.scores]
    low, high = min(every), max(every)
    queues: dict[str, list[tuple[float, int, float]]] = {}
    for name, one in predictions.items():
        rows = []
        for box, score in zip(one.boxes.tolist(), one.scores.tolist(), strict=True):
            here = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            most, which = -1.0, -1
            for k, face in enumerate(images[name]["boxes"]):
                overlap = literal_overlap(here, face)
                if overlap > most:
                    most, which = overlap, k
            rows.append(((score - low) / (high - low), which, most))
        queues[name] = sorted(rows, key=lambda row: -row[0])
    result = {}
    for subset in ("easy", "medium", "hard"):
        proposed, recalled, total = [0] * 1000, [0] * 1000, 0
        for name, rows in queues.items():
            keep = images[name][subset]
            total += len(keep)
            state = [0] * len(images[name]["boxes"])
            is_proposal, seen = [], []
            for _, which, most in rows:
                counts = True
                if most >= 0.5:
                    if which + 1 not in keep:
                        state[which] = -1
                        counts = False
                    elif state[which] == 0:
                        state[which] = 1
                is_proposal.append(counts)
                seen.append(state.count(1))
            for t in range(1000):
                threshold = 1 - (t + 1) / 1000
                last = -1
                for k, row in enumerate(rows):
                    if row[0] < threshold:
                        break
                    last = k
                if last >= 0:
                    proposed[t] += is_proposal[: last + 1].count(True)
                    recalled[t] += seen[last]
        points = [(r / total, r / p) for p, r in zip(proposed, recalled, strict=True) if p]
        recalls = [0.0, *(r for r, _ in points), 1.0]
        precisions = [0.0, *(p for _, p in points), 0.0]
        for k in range(len(precisions) - 2, -1, -1):
            precisions[k] = max(precisions[k], precisions[k + 1])
        result[subset] = sum((recalls[k] - recalls[k - 1]) * precisions[k] for k in range(1, len(recalls)))
    return result


def imagined(images: dict[str, dict[str, Any]], names: list[str], seed: int, digits: int) -> dict[str, Found]:
    """What a detector might find: faces a little off, twice, not at all, and false alarms; some images without any.

    Faces of no subset are found as others are. Scores are rounded, so that many tie.
    """
    random = np.random.default_rng(seed)
    predictions = {}
    for name in names:
        boxes, scores = [], []
        for x, y, w, h in images[name]["boxes"]:
            for turn in range(2):
                if random.random() < (0.7, 0.25)[turn]:
                    dx, dy, dw, dh = random.normal(0, 0.12, 4) * max(w, h, 1)
                    boxes.append([x + dx, y + dy, x + dx + max(w + dw, 0), y + dy + max(h + dh, 0)])
                    scores.append(random.beta(4, 2))
        for _ in range(random.integers(0, 4)):
            x, y, side = random.uniform(0, 900), random.uniform(0, 600), random.uniform(5, 200)
            boxes.append([x, y, x + side, y + side])
            scores.append(random.beta(2, 4))
        if random.random() < 0.1:
            boxes, scores = [], []
        predictions[name] = found(boxes, np.round(scores, digits))
    return predictions


@pytest.mark.parametrize(("seed", "digits"), [(1, 2), (2, 3), (3, 7)])
def test_a_second_program_agrees_on_every_subset(official: Official, seed: int, digits: int) -> None:
    images = raw()
    names = sorted(np.random.default_rng(seed).choice(sorted(images), 200, replace=False).tolist())
    predictions = imagined(images, names, seed, digits)
    curves = evaluate(official, predictions, part=True)
    for subset, expected in literal_aps(images, predictions).items():
        assert 0.2 < expected < 0.9, "there is something to agree on"
        assert abs(curves[subset].ap - expected) < 1e-9
        assert curves[subset].truths == sum(len(images[name][subset]) for name in names)


def test_the_second_program_agrees_on_exact_coordinates_and_ties(official: Official) -> None:
    images = raw()
    names = sorted(images)[::40]
    random = np.random.default_rng(9)
    predictions = {}
    for name in names:
        boxes = edges(np.array(images[name]["boxes"], np.float64))
        halves = boxes.copy()
        halves[:, 2] -= np.floor((boxes[:, 2] - boxes[:, 0]) / 2)  # about half of each face: around the threshold
        both = np.concatenate([boxes[::2], halves, boxes[::3]])
        predictions[name] = found(both, random.integers(0, 4, len(both)) / 4)
    curves = evaluate(official, predictions, part=True)
    for subset, expected in literal_aps(images, predictions).items():
        assert abs(curves[subset].ap - expected) < 1e-9


def test_the_subsets_have_the_faces_of_the_benchmark(official: Official) -> None:
    assert len(official.names) == 3226
    assert sum(len(boxes) for boxes in official.boxes) == 39708
    assert {subset: size(official, subset) for subset in SUBSETS} == {"easy": 7211, "medium": 13319, "hard": 31958}
    assert official.names[0] == "0--Parade/0_Parade_marchingband_1_465"
    assert official.boxes[0][0].tolist() == [345, 211, 4, 4]


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_found_exactly_is_one(clean: Official, subset: str) -> None:
    predictions = scattered(clean, lambda number: clean.kept[subset][number])
    assert evaluate(clean, predictions)[subset].ap == pytest.approx(1.0, abs=1e-12)


def test_all_faces_found_is_one_in_every_subset_as_the_others_are_left_out(clean: Official) -> None:
    predictions = scattered(clean, lambda number: np.ones(len(clean.boxes[number]), np.bool_))
    assert aps(clean, predictions) == pytest.approx(dict.fromkeys(SUBSETS, 1.0), abs=1e-12)


@pytest.mark.parametrize("subset", SUBSETS)
def test_faces_outside_the_subset_are_worth_nothing_and_cost_nothing(clean: Official, subset: str) -> None:
    outside = scattered(clean, lambda number: ~clean.kept[subset][number])
    curve = evaluate(clean, outside)[subset]
    assert (curve.ap, curve.final_recall) == (0.0, 0.0)
    inside = scattered(clean, lambda number: clean.kept[subset][number])
    both = {
        name: found(
            np.concatenate([outside[name].boxes, inside[name].boxes]),
            np.concatenate([outside[name].scores + 1, inside[name].scores]),
        )
        for name in clean.names
    }
    assert evaluate(clean, both)[subset].ap == pytest.approx(1.0, abs=1e-12)


def test_every_face_twice_halves_the_precision_behind_the_last_face_found(clean: Official) -> None:
    once = scattered(clean, lambda number: clean.kept["hard"][number])
    boxes = {name: np.concatenate([one.boxes, one.boxes]) for name, one in once.items()}
    behind = {n: found(boxes[n], np.concatenate([one.scores + 2, one.scores])) for n, one in once.items()}
    hard = evaluate(clean, behind)["hard"]
    assert hard.ap == pytest.approx(1.0, abs=1e-12)
    assert hard.precision[-1] == 0.5
    beside = {n: found(boxes[n], np.full(len(boxes[n]), 0.5)) for n in once}
    first = next(n for n in once if len(once[n].boxes))
    beside[first].scores[0] = 0.6  # all equal scores could not be normalised
    faces = size(clean, "hard")
    expected = 1 / faces + (faces - 1) / faces / 2  # the one before all others, and then all of them at one threshold
    assert evaluate(clean, beside)["hard"].ap == pytest.approx(expected, abs=1e-12)


def test_false_alarms_before_all_faces_lower_every_precision(clean: Official) -> None:
    predictions = {}
    for name, one in scattered(clean, lambda number: clean.kept["hard"][number]).items():
        alarm = np.array([[5000, 5000, 5100, 5100]])
        scores = np.concatenate([np.ones(1), np.full(len(one.boxes), 0.5)])
        predictions[name] = found(np.concatenate([alarm, one.boxes]), scores)
    predictions[clean.names[0]].scores[0] = 0.0  # one of them behind all faces, to span the scores from 0 to 1
    right, wrong = size(clean, "hard"), len(clean.names) - 1
    assert evaluate(clean, predictions)["hard"].ap == pytest.approx(right / (right + wrong), abs=1e-12)


def test_faces_of_images_without_predictions_are_missed(clean: Official) -> None:
    predictions = scattered(clean, lambda number: np.ones(len(clean.boxes[number]), np.bool_))
    emptied = {name: one if k % 2 else found([], []) for k, (name, one) in enumerate(predictions.items())}
    for subset, curve in evaluate(clean, emptied).items():
        share = sum(int(mask.sum()) for mask in clean.kept[subset][1::2]) / curve.truths
        assert 0.3 < share < 0.7
        assert curve.final_recall == pytest.approx(share, abs=1e-12)
        assert curve.ap == pytest.approx(share, abs=1e-12)


def test_the_second_of_two_equal_boxes_and_one_that_runs_backward_cannot_be_found(official: Official) -> None:
    twins = backward = 0
    for boxes, mask in zip(official.boxes, official.kept["hard"], strict=True):
        rows = boxes.tolist()
        twins += sum(rows[k] in rows[:k] for k in np.flatnonzero(mask))
        backward += int((boxes[mask, 2:] < 0).any(axis=1).sum())
    assert (twins, backward) == (1, 1)
    curve = evaluate(official, scattered(official, lambda number: official.kept["hard"][number]))["hard"]
    assert curve.final_recall == (31958 - 2) / 31958


def test_nothing_found_at_all_is_nought(official: Official) -> None:
    assert aps(official, {name: found([], []) for name in official.names}) == dict.fromkeys(SUBSETS, 0.0)


def test_a_box_with_one_more_pixel_is_what_overlaps() -> None:
    one = Official(("a",), (np.array([[0.0, 0, 9, 9]]),), {s: (np.ones(1, np.bool_),) for s in SUBSETS})
    half = {"a": found([[0, 0, 9, 4], [50, 50, 60, 60]], [0.9, 0.1])}  # 50 of 100 pixels; by edges 36 of 81
    assert aps(one, half)["hard"] == 1.0
    less = {"a": found([[0, 0, 9, 3.9], [50, 50, 60, 60]], [0.9, 0.1])}
    assert aps(one, less)["hard"] == 0.0


def test_of_equal_overlaps_the_first_face_counts() -> None:
    twins = np.array([[0.0, 0, 9, 9], [0, 0, 9, 9]])
    for kept, expected in (([0], 1.0), ([1], 0.0)):
        mask = (np.isin(np.arange(2), kept),)
        one = Official(("a",), (twins,), dict.fromkeys(SUBSETS, mask))
        assert aps(one, {"a": found([[0, 0, 9, 9], [50, 50, 60, 60]], [0.9, 0.1])})["easy"] == expected


def test_scores_are_stretched_over_the_whole_submission() -> None:
    wider = small()
    narrow = {"a/1": faces(wider, 0, 0.7004, 0.7001), "b/2": found([[300, 300, 340, 340]], [0.7])}
    curve = evaluate(wider, narrow)["hard"]
    assert curve.recall[[0, 748, 749, 750, 999]].tolist() == [0.25, 0.25, 0.5, 0.5, 0.5]
    assert curve.precision[[0, 749, 999]].tolist() == [1.0, 1.0, pytest.approx(2 / 3)]


def test_the_order_in_which_predictions_are_given_does_not_matter() -> None:
    wider = small()
    there = {"a/1": faces(wider, 0, 0.2, 0.9), "b/2": faces(wider, 1, 0.5, 0.5)}
    back = {n: found(there[n].boxes[::-1], there[n].scores[::-1]) for n in ("b/2", "a/1")}
    assert aps(wider, there) == aps(wider, back)


def test_an_image_without_faces_is_passed_over() -> None:
    none = np.empty((0, 4))
    kept = {s: (np.ones(1, np.bool_), np.empty(0, np.bool_)) for s in SUBSETS}
    wider = Official(("a", "b"), (np.array([[0.0, 0, 9, 9]]), none), kept)
    predictions = {"a": found([[0, 0, 9, 9]], [0.1]), "b": found([[0, 0, 9, 9]], [0.9])}
    assert aps(wider, predictions)["hard"] == 1.0


def test_images_without_an_entry_are_refused_unless_a_part_is_asked_for() -> None:
    wider = small()
    half = {"b/2": faces(wider, 1, 0.9, 0.8)}
    with pytest.raises(UsageError, match="1 of the 2 official images have no predictions, such as 'a/1'"):
        evaluate(wider, half)
    assert aps(wider, half, part=True) == {"easy": 1.0, "medium": 1.0, "hard": 1.0}
    assert evaluate(wider, half, part=True)["hard"].truths == 2


def test_names_that_are_not_official_are_refused() -> None:
    wider = small()
    predictions = {"a/1": faces(wider, 0), "b/2": faces(wider, 1), "b/2.jpg": faces(wider, 1)}
    for part in (False, True):
        with pytest.raises(UsageError, match="1 of 3 images .* such as 'b/2.jpg'. Expected names like 'a/1'"):
            evaluate(wider, predictions, part)


def test_scores_that_are_all_equal_are_refused() -> None:
    wider = small()
    with pytest.raises(UsageError, match="all 3 predictions have the score 0.5"):
        evaluate(wider, {"a/1": faces(wider, 0, 0.5, 0.5), "b/2": faces(wider, 1, 0.5)})


def test_a_part_without_faces_of_a_subset_has_no_precision_there() -> None:
    wider = small(kept=[[0], []])
    assert math.isnan(aps(wider, {"b/2": faces(wider, 1, 0.9, 0.8)}, part=True)["easy"])


def write(folder: Path, **changes: Any) -> Path:
    """Four files laid out as the official ones: one event with an image of two faces, of which the second is kept."""
    from scipy.io import savemat

    def cells(*content: Any) -> np.ndarray:
        column = np.empty((len(content), 1), object)
        for k, each in enumerate(content):
            column[k, 0] = each
        return column

    common = {"event_list": cells("0--Parade"), "file_list": cells(cells("one"))}
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32)
    content = {"face": {**common, "face_bbx_list": cells(cells(boxes))}}
    for subset in SUBSETS:
        content[subset] = {**common, "gt_list": cells(cells(np.array([[2]], np.uint8)))}
    for name, entries in changes.items():
        content[name] = {**content[name], **{k: cells(cells(v)) for k, v in entries.items() if v is not None}}
        content[name] = {k: v for k, v in content[name].items() if k not in entries or entries[k] is not None}
    for name, entries in content.items():
        savemat(str(folder / f"wider_{name}_val.mat"), entries)
    return folder


def test_official_files_are_read_with_numbers_from_one(tmp_path: Path) -> None:
    wider = read_official(write(tmp_path))
    assert wider.names == ("0--Parade/one",)
    assert wider.boxes[0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert {subset: wider.kept[subset][0].tolist() for subset in SUBSETS} == {key: [False, True] for key in SUBSETS}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"easy": {"gt_list": np.array([[3]])}}, "wider_easy_val.mat: is not about the faces"),
        ({"hard": {"gt_list": np.array([[0]])}}, "wider_hard_val.mat: is not about the faces"),
        ({"medium": {"file_list": "two"}}, "wider_medium_val.mat: is not about the faces"),
        ({"medium": {"gt_list": None}}, "wider_medium_val.mat: has no gt_list"),
        ({"face": {"face_bbx_list": np.zeros((2, 3))}}, "not laid out as WIDER FACE's are"),
        ({"face": {"face_bbx_list": "text"}}, "not laid out as WIDER FACE's are"),
    ],
)
def test_official_files_that_do_not_go_together_are_refused(
    tmp_path: Path, changes: dict[str, dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        read_official(write(tmp_path, **changes))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wider_face_val.mat: cannot be read .*. Expected the official file"):
        read_official(tmp_path)
    write(tmp_path)
    whole = (tmp_path / "wider_easy_val.mat").read_bytes()
    for broken in (whole[: len(whole) * 2 // 3], b"no matrix " * 40, b""):
        (tmp_path / "wider_easy_val.mat").write_bytes(broken)
        with pytest.raises(UsageError, match="wider_easy_val.mat: .*Expected the official file"):
            read_official(tmp_path)


def test_without_scipy_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UsageError, match=r"pip install 'facebatch\[eval\]'"):
        read_official(tmp_path)
