"""Fixtures that every test may use: real photographs from other packages, the published weights, the test archive."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import logs, packs, session
from facebatch.packs import Model

pytest_plugins = ["tests.s3", "tests.faults.rgw", "tests.faults.steps"]

SHARED = Path(__file__).parents[2] / "shared"
ASTRONAUT = resources.files("skimage").joinpath("data/astronaut.png")
HOPPER = resources.files("matplotlib").joinpath("mpl-data/sample_data/grace_hopper.jpg")


def _models() -> Path | None:
    for place in (os.environ.get("FACEBATCH_MODELS"), SHARED / "models"):
        if place and (Path(place) / "yunet").is_dir():
            return Path(place).absolute()
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _models() is None:
        skip = pytest.mark.skip(reason="needs published weights: set FACEBATCH_MODELS to a folder that holds them")
        for item in items:
            if item.get_closest_marker("needs_models"):
                item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def _weights_are_found_and_nothing_is_downloaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FACEBATCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    if models := _models():
        os.environ["FACEBATCH_MODELS"] = str(models)


@pytest.fixture(autouse=True)
def _logs_end_with_their_test() -> Iterator[None]:
    yield
    logs.begin(None)
    logs.stop()


@pytest.fixture(scope="session")
def model() -> Callable[[str, str], Model]:
    """Loads a pack with its weights, once."""
    loaded: dict[str, Model] = {}

    def load(name: str, kind: str) -> Model:
        if name not in loaded:
            loaded[name] = packs.load(name, kind)
        return loaded[name]

    return load


Tool = Callable[[str], Path]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Puts a script in the place of the driver's tool, and gives the file where it notes what it was asked."""
    (tmp_path / "bin").mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def of(script: str) -> Path:
        file, asked = tmp_path / "bin" / "nvidia-smi", tmp_path / "asked"
        file.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n{script}\n')
        file.chmod(0o755)
        return asked

    return of


@pytest.fixture
def gpu_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run.provider=cuda` takes the way of a GPU up to the provider, which is the CPU's."""
    monkeypatch.setattr(session, "_PROVIDERS", {"cpu": "CPUExecutionProvider", "cuda": "CPUExecutionProvider"})
    monkeypatch.setattr(session, "_options", lambda provider, share: {})
    monkeypatch.setattr(session, "_load_libraries", lambda: "")


@pytest.fixture(scope="session")
def archive() -> Path:
    """The test archive of 848 real files. Absent in a user's clone."""
    folder = SHARED / "data" / "archive"
    if not folder.is_dir():
        pytest.skip("needs the test archive, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def manifest(archive: Path) -> list[dict[str, str]]:
    """One row for each file of the test archive: path, class, what Pillow makes of it."""
    with (archive / "MANIFEST.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="session")
def astronaut() -> bytes:
    """Eileen Collins, 512x512 PNG, one face (NASA, public domain)."""
    return ASTRONAUT.read_bytes()


@pytest.fixture(scope="session")
def hopper() -> bytes:
    """Grace Hopper, 512x600 JPEG, one face (US Navy, public domain)."""
    return HOPPER.read_bytes()


@pytest.fixture(scope="session")
def group(astronaut: bytes, hopper: bytes) -> np.ndarray:
    """A group picture with four faces, from the two photographs: 1024x600x3, uint8."""
    return side_by_side(rgb(astronaut), rgb(hopper))


def rgb(data: bytes) -> np.ndarray:
    """The pixels of a file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def side_by_side(astronaut: np.ndarray, hopper: np.ndarray) -> np.ndarray:
    """Two sizes of each on one canvas."""
    left, right = Image.fromarray(astronaut), Image.fromarray(hopper)
    canvas = Image.new("RGB", (1024, 600), (90, 110, 130))
    canvas.paste(left.resize((340, 340)), (10, 20))
    canvas.paste(right.resize((290, 340)), (360, 240))
    canvas.paste(left.resize((200, 200)), (680, 20))
    canvas.paste(right.resize((256, 300)), (740, 290))
    return np.asarray(canvas)


def lying(pixels: np.ndarray) -> dict[int, bytes]:
    """The same picture in the eight EXIF orientations: pixels turned, and the tag that turns them back."""
    transposes = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's numbers
    files = {}
    for orientation, transpose in transposes.items():
        image = Image.fromarray(pixels)
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = image if transpose is None else image.transpose(Image.Transpose(transpose))
        files[orientation] = encode(np.asarray(turned), exif=exif)
    return files


def encode(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    """An image file of these pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()
