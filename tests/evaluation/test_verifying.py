"""Whole data sets: which lists a folder holds, what is written, and the published figures."""

from __future__ import annotations

import csv
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import cli, config, packs
from facebatch.errors import UsageError
from facebatch.evaluation.embedding import embed
from facebatch.evaluation.figures import figures
from facebatch.evaluation.pairs import cross_pairs, read_bin
from facebatch.evaluation.verifying import data_sets, evaluate
from facebatch.packs import Model
from tests import models
from tests.conftest import SHARED, encode

CONFIG = config.load(None, ["detect.score=0.6"])
SMALL_LFW = ["Abel Pacheco", *["Akhmed Zakayev"] * 2, "Amber Tamblyn", *["Anders Fogh Rasmussen"] * 2]
SMALL_LFW += [*["Angela Bassett"] * 3, "Ann Veneman"]
"""Who is on the ten pairs of small_lfw.bin: the first ten lines of LFW's pairs.txt."""


@pytest.fixture(scope="module")
def published() -> Path:
    folder = SHARED / "data" / "eval" / "verification"
    if not folder.is_dir():
        pytest.skip("needs the verification sets, which are not part of the repository")
    return folder


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs without weights: whatever is asked for, a network of that kind."""
    made: dict[str, Model] = {
        "detector": models.bright_squares(),
        "embedder": models.embedder(),
        "landmarks": models.landmarks(),
    }
    monkeypatch.setattr(packs, "load", lambda name, kind, weights=None: made[kind])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Three people, each a pattern of their own, with three noisy pictures; and a list of some pairs of them."""
    rng = np.random.default_rng(0)
    for name in ("ann", "bob", "eve"):
        (tmp_path / "people" / name).mkdir(parents=True)
        pattern = np.kron(rng.integers(40, 216, (8, 8, 3)), np.ones((14, 14, 1), int))
        for k in range(3):
            noisy = np.clip(pattern + rng.normal(0, 10, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / "people" / name / f"{k}.png")
    rows = ["ann/0.png,ann/1.png,1", "bob/0.png,bob/2.png,1", "ann/0.png,bob/0.png,0", "ann/1.png,bob/2.png,0"]
    (tmp_path / "people" / "pairs_some.csv").write_text("\n".join(["a,b,same", *rows]))
    return tmp_path / "people"


def test_a_folder_gives_all_lists_that_it_holds(people: Path) -> None:
    (people / "pairs_one.tsv").write_text("a\tb\tsame\nann/0.png\tann/1.png\t1\n")
    chips = [(people / name).read_bytes() for name in ("ann/0.png", "ann/1.png", "bob/0.png", "eve/0.png")]
    (people / "two.bin").write_bytes(pickle.dumps((chips, [True, False])))
    names = [(Path(pairs.name).name, len(pairs)) for pairs in data_sets(people)]
    assert names == [("pairs_one.tsv", 1), ("pairs_some.csv", 4), ("two.bin", 2)]


@pytest.mark.parametrize("below", [".", "lfw"])
def test_the_pairs_of_lfw_find_their_images_beside_or_below(tmp_path: Path, below: str) -> None:
    for number in (1, 2):
        file = tmp_path / below / "Ann_Lee" / f"Ann_Lee_{number:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "pairs.txt").write_text("Ann_Lee 1 2\n")
    for place in (tmp_path, tmp_path / "pairs.txt"):
        (pairs,) = data_sets(place)
        assert pairs.images[0] == str(tmp_path / below / "Ann_Lee" / "Ann_Lee_0001.jpg")


def test_everyone_means_all_pairs_of_a_folder_or_of_the_images_of_a_list(people: Path) -> None:
    (of_folder,) = data_sets(people, everyone=True)
    assert (len(of_folder), int(of_folder.same.sum())) == (36, 9)
    (of_list,) = data_sets(people / "pairs_some.csv", everyone=True)
    assert (len(of_list), int(of_list.same.sum())) == (6, 2)


def test_a_bin_without_different_pairs_is_crossed_and_that_is_told(people: Path) -> None:
    chips = [(people / name).read_bytes() for name in ("ann/0.png", "ann/1.png", "bob/0.png", "bob/1.png")]
    (people / "same.bin").write_bytes(pickle.dumps((chips, [True, True])))
    told: list[str] = []
    (pairs,) = data_sets(people / "same.bin", tell=told.append)
    assert (len(pairs), int(pairs.same.sum())) == (6, 2)
    assert "same.bin has no different pairs" in told[0]


def test_names_join_the_pairs_of_one_person(people: Path, tmp_path: Path) -> None:
    chips = [(people / name).read_bytes() for name in ("ann/0.png", "ann/1.png", "ann/2.png", "bob/1.png")]
    (people / "same.bin").write_bytes(pickle.dumps((chips, [True, True])))
    (tmp_path / "names.txt").write_text("ann\n\nann\n")
    (pairs,) = data_sets(people / "same.bin", people=tmp_path / "names.txt")
    assert int(pairs.same.sum()) == len(pairs) == 6
    (tmp_path / "names.txt").write_text("ann\n")
    with pytest.raises(UsageError, match="2 same pairs and 1 names: expected one for each"):
        data_sets(people / "same.bin", people=tmp_path / "names.txt")
    with pytest.raises(UsageError, match="gone.txt cannot be read: expected a name on each line"):
        data_sets(people / "same.bin", people=tmp_path / "gone.txt")
    with pytest.raises(UsageError, match=r"names.txt names the people of one .bin without .* has 0"):
        data_sets(people / "pairs_some.csv", people=tmp_path / "names.txt")


def test_what_holds_no_pairs_is_refused_with_what_was_expected(people: Path) -> None:
    with pytest.raises(UsageError, match="ann holds none of pairs.*--all-pairs"):
        data_sets(people / "ann")
    with pytest.raises(UsageError, match=r"0.png is no list of pairs: expected .tsv"):
        data_sets(people / "ann" / "0.png")
    with pytest.raises(UsageError, match="gone is not there"):
        data_sets(people / "gone")


@pytest.mark.usefixtures("synthetic")
def test_an_evaluation_gives_rows_with_and_without_mirror_images_and_writes_a_record(
    people: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    report = evaluate(people, CONFIG, ["test"], tmp_path / "out" / "deep", told.append)
    assert [row["embedder"] for row in report.rows()] == ["test", "test +flip"]
    assert [row.separated for row in report.results] == [True, True]
    assert report.results[0].how == "aligned"
    assert "pairs_some.csv: the first of 4 images is taken for a face that is aligned" in told[0]
    assert [file.name for file in report.files] == [
        "verification.json",
        "verification-roc.png",
        "verification-reject.png",
    ]
    assert all(Image.open(file).size[0] > 300 for file in report.files[1:])
    record = json.loads(report.files[0].read_text(), parse_constant=pytest.fail)
    assert record["settings"]["data"] == str(people)
    assert record["settings"]["missing"] == "reject"
    assert record["versions"]["numpy"] == np.__version__
    assert record["weights"] == {"test": models.embedder().sha256}
    assert [(r["embedder"], r["flip"], r["auc"], r["tar_1e3"]) for r in record["results"]] == [
        ("test", False, 1.0, None),
        ("test", True, 1.0, None),
    ]
    assert [one["goal"] for one in record["results"][0]["advice"]][-1] == "best accuracy"


@pytest.mark.usefixtures("synthetic")
def test_photos_without_a_face_count_as_misses_or_are_left_out(tmp_path: Path) -> None:
    for name, brightness in (("ann/0", 255), ("ann/1", 0), ("bob/0", 240), ("bob/1", 240)):
        pixels = np.zeros((240, 320, 3), np.uint8)
        pixels[80:160, 80:160] = brightness
        pixels[80:110, 80:110] = brightness * int(name[-1])  # so that no two look alike
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{name}.png").write_bytes(encode(pixels))
    told: list[str] = []
    counted = evaluate(tmp_path / "in", CONFIG, ["test"], tmp_path / "out", told.append, everyone=True).results[0]
    assert (counted.how, counted.found, counted.unjudged, counted.same) == ("photos", 3, 3, 2)
    assert any("1 of 4 images have no vector (no face was found)" in line for line in told)
    left = evaluate(tmp_path / "in", CONFIG, ["test"], tmp_path / "out", everyone=True, missing="leave out").results[0]
    assert (left.unjudged, left.same, left.different) == (3, 1, 2)
    chips = evaluate(tmp_path / "in", CONFIG, ["test"], tmp_path / "out", everyone=True, how="aligned").results[0]
    assert (chips.how, chips.found) == ("aligned", 4)


@pytest.mark.usefixtures("synthetic")
def test_one_file_of_weights_is_for_one_embedder(people: Path, tmp_path: Path) -> None:
    settings = config.load(None, ["embed.weights=mine.onnx"])
    with pytest.raises(UsageError, match="one file, and there are 2 embedders"):
        evaluate(people, settings, ["one", "other"], tmp_path)


def test_embedders_whose_weights_are_nowhere_are_named(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEBATCH_MODELS", str(tmp_path))
    told: list[str] = []
    report = evaluate(people, CONFIG, output=tmp_path, tell=told.append)
    assert {row.embedder for row in report.results} == {"facebatch-embedder"}, "the built-in one is always here"
    (absent,) = (line for line in told if line.startswith("without weights, and so not judged: "))
    assert "edgeface-xs, edgeface-xxs" in absent


@pytest.mark.usefixtures("synthetic")
def test_a_folder_that_cannot_be_made_is_named(people: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file cannot be made"):
        evaluate(people, CONFIG, ["test"], tmp_path / "file")


@pytest.mark.needs_models
def test_three_embedders_tell_eight_celebrities_apart(published: Path, tmp_path: Path) -> None:
    names = ["edgeface-xs", "edgeface-xxs", "w600k-mbf"]
    report = evaluate(published / "pairs_glint24.tsv", config.load(), names, tmp_path)
    aucs = {row.embedder: row.auc for row in report.results if not row.flip}
    assert list(aucs) == names
    assert min(aucs.values()) >= 0.995
    assert aucs["edgeface-xs"] == pytest.approx(0.9970, abs=5e-4)
    assert aucs["edgeface-xxs"] == pytest.approx(0.9964, abs=5e-4)


@pytest.mark.needs_models
def test_grey_narrow_pictures_give_the_known_figures(published: Path, tmp_path: Path) -> None:
    report = evaluate(published / "pairs_att.tsv", config.load(), ["edgeface-xs", "edgeface-xxs"], tmp_path)
    aucs = [row.auc for row in report.results if not row.flip]
    assert aucs == pytest.approx([0.9960, 0.9765], abs=5e-4)


@pytest.mark.needs_models
@pytest.mark.parametrize("embedder", ["edgeface-xs", "edgeface-xxs", "w600k-mbf"])
def test_the_six_people_of_the_small_lfw_separate_fully(published: Path, embedder: str) -> None:
    pairs = cross_pairs(read_bin(published / "small_lfw.bin"), SMALL_LFW)
    found = embed(pairs.images, config.load(), packs.load(embedder, "embedder"), "aligned")
    for flip in (False, True):
        row = figures(pairs, "aligned", embedder, flip, found)
        assert (row.images, row.same, row.different) == (17, 19, 117)
        assert row.separated
        assert row.eer == 0


@pytest.mark.needs_models
def test_with_names_the_command_shows_it(published: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("\n".join(SMALL_LFW))
    data, names = str(published / "small_lfw.bin"), str(tmp_path / "names.txt")
    published_ones = [word for name in ("edgeface-xs", "w600k-mbf") for word in ("--embedder", name)]
    words = ["eval", "verification", "--data", data, "--people", names, "--output", str(tmp_path), *published_ones]
    assert cli.main(words) == 0
    rows = json.loads((tmp_path / "verification.json").read_text())["results"]
    assert {row["embedder"] for row in rows} == {"edgeface-xs", "w600k-mbf"}
    assert all(row["separated"] and row["auc"] == 1 for row in rows)
    assert "by the names that were given" in capfd.readouterr().err


@pytest.mark.needs_models
def test_without_names_a_person_who_comes_back_counts_as_another(published: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = evaluate(published / "small_lfw.bin", config.load(), ["edgeface-xs"], tmp_path, told.append)
    assert (report.results[0].same, report.results[0].different) == (13, 123)
    assert not report.results[0].separated
    assert "a person who comes back" in told[0]


@pytest.mark.needs_models
def test_without_the_worst_tenth_by_quality_fewer_people_are_mixed_up(tmp_path: Path) -> None:
    """Sixty photos each of the fifteen people with forty and more: so many that chance moves the EER by a fiftieth."""
    folder = SHARED / "data" / "train"
    if not folder.is_dir():
        pytest.skip("needs photos of people, which are not part of the repository")
    with (folder / "faces.tsv").open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    for person in sorted({row["identity"] for row in listed}):
        files = [row["file"] for row in listed if row["identity"] == person]
        if len(files) >= 40:
            (tmp_path / "people" / person).mkdir(parents=True)
            for file_name in random.Random(0).sample(files, min(60, len(files))):
                (tmp_path / "people" / person / Path(file_name).name).symlink_to(folder / file_name)
    settings = config.load(None, ["detect.pack=yunet-n"])
    report = evaluate(
        tmp_path / "people", settings, ["edgeface-xs"], tmp_path / "out", how="photos", pad=0.5, everyone=True
    )
    plain = report.results[0]
    assert plain.found > 800
    assert plain.eer_kept < 0.93 * plain.eer_judged
