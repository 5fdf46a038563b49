"""The training jobs, as they are called."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from facebatch import packs
from facebatch.cli import training
from facebatch.embed import Embedder
from facebatch.evaluation.landmarks import finder
from facebatch.importers import Given
from facebatch.packs import File, Input, Licence, Model, Pack, Weights
from facebatch.session import Session
from facebatch.training.detector import kind
from facebatch.training.embedder import INPUT
from facebatch.training.loop import Plan
from facebatch.training.recipes import Apart
from tests.conftest import rgb
from tests.training.photographs import saved

pytestmark = pytest.mark.reference

ROOT = Path(__file__).parents[2]
SHORT = ["plan.steps=4", "plan.every=2", "plan.batch=4", "plan.workers=0", "plan.threads=1", "held=0.5"]
EXTD = ["network=extd-32-ssd-relu", "teacher=null", "size=128", "judged=128", *SHORT]
"""EXTD's coarsest cells are 128 pixels wide: of a smaller canvas its batch norms see next to nothing."""


@pytest.fixture
def photographs(tmp_path: Path, astronaut: bytes) -> Path:
    """Twelve cuttings of one photograph, with her face in each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    boxes = {}
    for k in range(12):
        x, y = 10 * k, 4 * k
        saved(folder / f"{k}.bmp", rgb(astronaut)[y : y + 300, x : x + 320], [])
        boxes[f"{k}.bmp"] = [[180.0 - x, 70.0 - y, 270.0 - x, 180.0 - y]]
    return _listed(folder, boxes)


def _listed(folder: Path, boxes: dict[str, list[list[float]]]) -> Path:
    lines = [json.dumps({"file": file, "boxes": of}) + "\n" for file, of in boxes.items()]
    (folder / "boxes.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def _job(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """As a user calls it."""
    return subprocess.run(
        [sys.executable, f"jobs/{name}.py", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )


def _called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The detector's job in this process: its exit code and its last words."""
    with pytest.raises(SystemExit) as ended:
        training.detector(words)
    return int(ended.value.code or 0), capsys.readouterr().err


def _model(file: Path, role: str, fed: Input, **fields: object) -> Model:
    """A pack around what was trained, as a user would write it."""
    data = file.read_bytes()
    weights = Weights((File(file.name, hashlib.sha256(data).hexdigest(), len(data)),))
    pack = Pack("mine", role, "trained", weights, Licence("mine", "https://example.org"), fed, **fields)  # type: ignore[arg-type]
    return packs.build(pack, [Given(str(file), data)])


def test_a_detector_is_trained_and_its_file_is_one_that_facebatch_runs(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = _job("train_detector", "--data", str(photographs), "--output", str(out), *EXTD)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{out / 'best.onnx'}\n"
    assert "photographs to learn from" in ended.stderr
    assert "step 4 of 4" in ended.stderr
    assert cv2.imread(str(out / "curves.png")) is not None
    network = kind("extd-32-ssd-relu")
    fed = Input("RGB", network.input.mean, network.input.scale, "letterbox", ((128, 128),))
    model = _model(out / "best.onnx", "detector", fed, decoder="priors", anchors=network.anchors, score=0.0)
    faces = finder(model)(np.zeros((60, 80, 3), np.uint8))
    assert len(faces) > 0
    assert faces.landmarks is None

    again = _job("train_detector", "--data", str(photographs), "--output", str(out), *EXTD, "plan.steps=6")
    assert again.returncode == 0, again.stderr
    assert "going on from step 3" in again.stderr
    assert "step 6 of 6" in again.stderr


@pytest.mark.needs_models
def test_a_detector_with_landmarks_learns_them_from_a_teacher(photographs: Path, tmp_path: Path) -> None:
    """Who looks at the photographs once: what it saw is kept."""
    out = tmp_path / "out"
    words = ["--data", str(photographs), "--output", str(out), "size=64", "judged=128", *SHORT]
    ended = _job("train_detector", *words)
    assert ended.returncode == 0, ended.stderr
    assert "yunet-n looks at 12 photographs" in ended.stderr
    assert "away " in ended.stderr
    known = [json.loads(line) for line in (out / "labels.jsonl").read_text("utf-8").splitlines()]
    assert all(np.isfinite(entry["points"][0]).all() for entry in known)
    network = kind("slim")
    fed = Input("RGB", network.input.mean, network.input.scale, "letterbox", ((128, 128),))
    model = _model(
        out / "best.onnx", "detector", fed, decoder="priors", anchors=network.anchors, landmarks=True, score=0.0
    )
    faces = finder(model)(np.zeros((60, 80, 3), np.uint8))
    assert faces.landmarks is not None
    assert faces.landmarks.shape == (len(faces), 5, 2)

    again = _job("train_detector", *words)
    assert again.returncode == 0, again.stderr
    assert "looks at" not in again.stderr
    assert "going on from step 4" in again.stderr


@pytest.mark.needs_models
def test_an_embedder_is_trained_on_photographs_alone_and_its_file_is_one_that_facebatch_runs(
    photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--data", str(photographs), "--output", str(out), *SHORT, "teacher=edgeface-xs"]
    ended = _job("train_embedder", *words)
    assert ended.returncode == 0, ended.stderr
    assert "first learn one by one" not in ended.stderr
    assert ended.stdout == f"{out / 'best.onnx'}\n"
    assert "faces to learn from" in ended.stderr
    assert cv2.imread(str(out / "curves.png")) is not None
    model = _model(out / "best.onnx", "embedder", INPUT)
    chips = list(np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8))
    assert Embedder(Session(model, "cpu"))(chips).vectors.shape == (3, 512)


@pytest.mark.needs_models
def test_of_a_teacher_of_its_own_build_a_student_first_learns_part_by_part(photographs: Path, tmp_path: Path) -> None:
    """And is then trained as a whole, from the weights that this gave; both go on with more steps."""
    out = tmp_path / "out"
    words = ["--data", str(photographs), "--output", str(out), *SHORT]
    ended = _job("train_embedder", *words, "apart.steps=6")
    assert ended.returncode == 0, ended.stderr
    said = ended.stderr
    assert "edgeface-xxs is built as the student is: its 17 parts first learn one by one" in said
    assert said.index("one by one") < said.index("step 6 of 6") < said.index("step 4 of 4")
    assert "blocks" in said.split("step 6 of 6")[0]
    apart = _best(out / "apart" / "best.onnx")
    whole = _best(out / "best.onnx")
    assert 0 < np.abs(whole - apart).max() < 0.2  # a few steps away from each other

    again = _job("train_embedder", *words, "apart.steps=8", "apart.fall=0.9")
    assert again.returncode == 0, again.stderr
    assert "going on from step 6" in again.stderr
    assert "step 8 of 8" in again.stderr
    assert "going on from step 4" in again.stderr
    assert np.array_equal(_best(out / "best.onnx"), whole)


def test_while_parts_learn_apart_all_is_as_planned_but_for_how_long_how_fast_and_how_freely() -> None:
    plan = Plan(steps=9, batch=5, every=7, seed=3, workers=0, threads=2, device="cuda:1", precision="bfloat16")
    apart = Apart(steps=4, fall=0.5).of(plan)
    assert (apart.steps, apart.fall, apart.rate) == (4, 0.5, Apart().rate)
    differing = [field.name for field in fields(Apart)]
    assert replace(apart, **{name: getattr(plan, name) for name in differing}) == plan


def _best(file: Path) -> np.ndarray:
    """The weights of the last layer."""
    arrays = {array.name: numpy_helper.to_array(array) for array in onnx.load(file).graph.initializer}
    (found,) = [array for array in arrays.values() if array.shape == (512, 168)]
    return found


def test_what_to_learn_from_and_where_to_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in ([], ["--data", str(tmp_path)], ["--output", str(tmp_path)]):
        code, said = _called(capsys, *words)
        assert code == 2
        assert said == (
            "facebatch: name the data to learn from with --data, and a folder for what is learned with --output\n"
        )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("plan.step=5", "there is no setting plan.step; the nearest is plan.steps"),
        ("netwrok=slim", "there is no setting netwrok; the nearest is network"),
        ("drawing.gray=0", "there is no setting drawing.gray; the nearest is drawing.grey"),
        ("plan.batch=0", "plan.batch: input should be greater than 0, got 0"),
        ("plan.precision=half", "plan.precision: input should be 'float32' or 'bfloat16', got 'half'"),
        ("network=resnet", "there is no network 'resnet' to train; there are slim and extd-32-fpn-prelu"),
        ("teacher=null", "network=slim has landmarks and needs a teacher for them, as in teacher=yunet-n"),
        ("teacher=yunet-x", "there is no detector pack 'yunet-x'"),
        ("size", "'size' is not of the form key=value"),
    ],
)
def test_a_setting_that_is_none_is_named_with_what_it_may_be(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    code, words = _called(capsys, "--data", str(photographs), "--output", str(tmp_path / "out"), word)
    assert code == 2
    assert words.startswith(f"facebatch: {said}")


def test_after_a_mistake_the_same_folder_takes_what_was_meant(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(photographs), "--output", str(tmp_path / "out"), *EXTD]
    assert _called(capsys, *words, "network=extd-32")[0] == 2
    assert _called(capsys, *words, "held=0.0")[0] == 2
    assert _called(capsys, *words)[0] == 0


def test_another_training_in_the_same_folder_is_refused(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How long it is, and what it runs on, may change."""
    out = tmp_path / "out"
    words = ["--data", str(photographs), "--output", str(out), *EXTD]
    assert _called(capsys, *words)[0] == 0
    code, said = _called(capsys, *words, "size=96", "plan.batch=2", "plan.steps=8", "drawing.mosaics=[0.5]")
    assert code == 2
    assert said == (
        f"facebatch: {out} holds a training with size=128, drawing.mosaics=[0.3, 0.12], plan.batch=4: go on with the "
        "same, or name another folder\n"
    )
    code, said = _called(capsys, *words, "plan.steps=8", "plan.every=4")
    assert code == 0
    assert "going on from step 3" in said


def test_settings_can_stand_in_a_file(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("network: extd-32\nplan: {steps: 2}\n", encoding="utf-8")
    words = ["--data", str(photographs), "--output", str(tmp_path / "out"), "--config", str(file)]
    code, said = _called(capsys, *words)
    assert code == 2
    assert "there is no network 'extd-32' to train" in said


def test_data_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert "boxes.jsonl cannot be read" in _called(capsys, *where, *EXTD)[1]
    with pytest.raises(SystemExit) as ended:
        training.embedder(where)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"facebatch: {tmp_path / 'none'} holds neither faces.tsv nor boxes.jsonl: there is nothing to learn from\n"
    )
