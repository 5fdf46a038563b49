"""A sample of faces: which are drawn, how they look, and what is said of sources that are not there any more."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import audit, ledger, plan
from facebatch.align import chip_by_box, chip_by_landmarks
from facebatch.dataset import Dataset
from facebatch.decode import decode, probe
from facebatch.errors import FacebatchError
from facebatch.networks import Networks
from facebatch.packs import Model
from facebatch.plan import Shard
from facebatch.reader import Reader
from facebatch.reporting import contact
from facebatch.reporting.contact import Sheet
from facebatch.sources import Ranges
from facebatch.work import Work
from tests.conftest import encode
from tests.reporting.conftest import rows
from tests.test_audit import DEFAULTS, _indexed
from tests.test_audit import photos as photos
from tests.test_verify import having, rewritten


@pytest.fixture(scope="module")
def models(model: Callable[[str, str], Model]) -> Networks:
    return Networks(model(DEFAULTS.detect.pack, "detector"), model(DEFAULTS.embed.pack, "embedder"))


@pytest.fixture
def indexed(photos: Path, models: Networks) -> Dataset:
    """Loose files, a tar and rows of a table, with faces of two people."""
    return _indexed(photos, models)


def _sample(dataset: Dataset, faces: int = 100, seed: int = 0, *words: str) -> Sheet:
    return contact.sample(dataset, ledger.state(dataset), audit.configuration(dataset, None, words), faces, seed)


def _names(sheet: Sheet) -> list[str]:
    return [tile.name for tile in sheet.tiles]


def test_a_sample_as_large_as_the_dataset_shows_every_face_once(indexed: Dataset) -> None:
    sheet, faces = _sample(indexed), rows(indexed, "faces")
    assert (sheet.faces, sheet.drawn, sheet.unread, sheet.named) == (len(faces), len(faces), {}, [])
    assert Counter((t.name, t.score, t.quality, t.reasons) for t in sheet.tiles) == Counter(
        (f"{row['uri']} {row['member']}".strip(), row["score"], row["quality"], tuple(row["quality_reasons"]))
        for row in faces
    )
    assert any(name.endswith("more.tar group.png") for name in _names(sheet))
    assert any(name.endswith("rows.parquet 0") for name in _names(sheet))


@pytest.mark.parametrize(
    "words",
    [
        (),
        pytest.param(("landmarks=none", "detect.pack=slim-320", "detect.tiles=false"), marks=pytest.mark.needs_models),
    ],
)
def test_faces_look_as_the_embedder_saw_them(
    photos: Path, models: Networks, model: Callable[[str, str], Model], words: tuple[str, ...], hopper: bytes
) -> None:
    """Cut by landmarks; and by boxes where a detector gives nothing else."""
    chosen = Networks(model("slim-320", "detector"), models.embedder) if words else models
    dataset = _indexed(photos, chosen, *words)
    picture = decode(hopper, probe(hopper, DEFAULTS.decode), DEFAULTS.decode)
    sheet = _sample(dataset)
    (tile,) = (tile for tile in sheet.tiles if tile.name.endswith("/b.jpg"))
    (row,) = (row for row in rows(dataset, "faces") if row["uri"].endswith("/b.jpg"))
    box = np.array([row[side] for side in ("x_min", "y_min", "x_max", "y_max")], np.float32)
    assert (row["alignment"] == "box") == bool(words)
    points = row["landmarks"] and np.array(row["landmarks"], np.float32).reshape(5, 2)
    chip = chip_by_box(picture, box) if points is None else chip_by_landmarks(picture, points)
    assert Image.open(io.BytesIO(tile.jpeg)).size == (112, 112)
    assert tile.jpeg == encode(chip, "JPEG", quality=85)


def test_a_seed_draws_the_same_faces_again_and_each_face_has_the_same_chance(
    indexed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _names(_sample(indexed, 3, 7)) == _names(_sample(indexed, 3, 7))
    one = _sample(indexed, 3, 7)
    assert (one.drawn, len(one.tiles), one.seed) == (3, 3, 7)
    state = ledger.state(indexed)
    total = sum(record.faces.rows for record in state.records)
    drawn: Counter[int] = Counter()
    monkeypatch.setattr(contact, "_drawn", lambda dataset, records, numbers: drawn.update(numbers) or iter(()))
    for seed in range(600):
        contact.sample(indexed, state, DEFAULTS, 2, seed)
    assert len(drawn) == total
    assert all(0.7 < times * total / 1200 < 1.3 for times in drawn.values()), drawn


def test_sources_that_are_gone_or_replaced_are_counted_and_named_and_are_no_error(
    indexed: Dataset, photos: Path
) -> None:
    whole = Counter(_names(_sample(indexed)))
    (photos / "a.png").unlink()
    (photos / "b.jpg").write_bytes(b"another photo")
    (photos / "more.tar").write_bytes(b"another tar")
    sheet = _sample(indexed)
    lost = {name: n for name, n in whole.items() if name.partition(" ")[0].endswith(("a.png", "b.jpg", "more.tar"))}
    assert sheet.unread == {"NOT_FOUND": 1, "SOURCE_CHANGED": sum(lost.values()) - 1}
    assert Counter(_names(sheet)) == whole - Counter(lost)
    assert len(sheet.tiles) == sheet.drawn - sum(lost.values()) > 0
    assert any(name.startswith(f"{photos}/a.png: ") for name in sheet.named)
    assert any(name.startswith(f"{photos}/more.tar group.png: ") for name in sheet.named)


def test_other_bytes_of_the_same_version_are_not_shown(
    indexed: Dataset, photos: Path, astronaut: bytes, hopper: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nothing tells the version of may be replaced without a sign: another person's face would be shown."""
    monkeypatch.setattr(contact, "content_sha256", lambda data: "0" * 64 if data == hopper else "")
    sheet = _sample(indexed)
    assert set(sheet.unread) == {"SOURCE_CHANGED"}
    assert sheet.tiles == []
    assert "it has other bytes than when it was indexed" in sheet.named[0]


def test_an_archive_that_moved_is_found_by_its_base(photos: Path, models: Networks) -> None:
    dataset = _indexed(photos, models, f"base_uri={photos.parent}")
    photos.rename(photos.parent / "elsewhere")
    assert _sample(dataset).unread == {"NOT_FOUND": len(rows(dataset, "faces")) - 2}
    (photos.parent / "new").mkdir()
    (photos.parent / "elsewhere").rename(photos.parent / "new" / photos.name)
    (photos.parent / "rows.parquet").rename(photos.parent / "new" / "rows.parquet")
    assert _sample(dataset, 100, 0, f"base_uri={photos.parent / 'new'}").unread == {}


def test_only_shards_with_a_drawn_face_are_read(indexed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = Reader.chosen

    def noted(reader: Reader, shard: Shard, some: Ranges) -> Iterator[Work]:
        read.append(shard.shard_id)
        return real(reader, shard, some)

    monkeypatch.setattr(Reader, "chosen", noted)
    assert len(plan.shards(indexed)) == 3
    assert (len(_sample(indexed, 1).tiles), len(read)) == (1, 1)


def test_a_container_with_fewer_images_and_a_lost_plan_are_no_error(
    indexed: Dataset, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = photos / "more.tar", _sample(indexed)
    lost = sum(name.startswith(f"{path} ") and not name.endswith("group.png") for name in _names(whole))
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    path.write_bytes(path.read_bytes()[:second] + b"\0" * (size - second))
    os.utime(path, ns=(time, time))
    assert _sample(indexed).unread == {"not in their container any more": lost}
    monkeypatch.setattr("facebatch.plan.shards", lambda dataset: [])
    assert _sample(indexed).unread == {"of a shard that no plan names": whole.drawn}


def test_a_face_of_no_image_is_one_sentence(indexed: Dataset) -> None:
    rewritten(indexed.root, "faces", lambda t: having(t, "image_id", ["f" * 32] * len(t)))
    with pytest.raises(FacebatchError, match=r"has a face of image f{32}, which is not in .*facebatch verify"):
        _sample(indexed)


def test_a_dataset_without_faces_shows_none(indexed: Dataset) -> None:
    none = contact.sample(indexed, ledger.State([]), DEFAULTS, 5, 0)
    assert (none.faces, none.drawn, none.tiles) == (0, 0, [])
