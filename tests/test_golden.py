"""Every pack against its golden numbers; and that they notice a model that is used the wrong way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from facebatch import packs
from facebatch.packs import Model
from tests import golden
from tests.conftest import rgb

GOLDEN = golden.load()
pytestmark = pytest.mark.needs_models


@pytest.fixture(scope="module")
def load(model: Callable[[str, str], Model]) -> Callable[[str], Model]:
    return lambda name: model(name, packs.pack(name).kind)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_pack_gives_its_golden_numbers(
    load: Callable[[str], Model], group: np.ndarray, astronaut: bytes, name: str
) -> None:
    found = golden.measure(load(name), group, rgb(astronaut))
    assert golden.same(found, GOLDEN[name]), found.tolist()
    if packs.pack(name).kind == "detector":
        assert len(found) == 4, "the picture has four faces"


def _swapped(model: Model) -> Model:
    colour: Literal["RGB", "BGR"] = "BGR" if model.pack.input.colour == "RGB" else "RGB"
    return replace(model, pack=replace(model.pack, input=replace(model.pack.input, colour=colour)))


def _without_mean(model: Model) -> Model:
    mean = (0.0, 0.0, 0.0) if any(model.pack.input.mean) else (10.0, 10.0, 10.0)
    return replace(model, pack=replace(model.pack, input=replace(model.pack.input, mean=mean)))


def _resized(model: Model) -> Model:
    other: Literal["letterbox", "stretch"] = "stretch" if model.pack.input.resize == "letterbox" else "letterbox"
    return replace(model, pack=replace(model.pack, input=replace(model.pack.input, resize=other)))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers_notice_a_colour_swap(
    load: Callable[[str], Model], group: np.ndarray, astronaut: bytes, name: str
) -> None:
    assert not golden.same(golden.measure(_swapped(load(name)), group, rgb(astronaut)), GOLDEN[name])


@pytest.mark.parametrize("broken", [_without_mean, _resized])
@pytest.mark.parametrize(
    "name",
    [
        "ultra-lightweight-face-detection-slim-320",
        "extd-fpn-32-prelu",
        "retinaface-mobilenet0.25",
        "slim-landmarks",
        "retinaface-mnet25",
        "scrfd-2.5g",
        "yunet-n",
    ],
)
def test_golden_numbers_of_each_family_notice_a_wrong_mean_or_resize(
    load: Callable[[str], Model],
    group: np.ndarray,
    astronaut: bytes,
    name: str,
    broken: Callable[[Model], Model],
) -> None:
    assert not golden.same(golden.measure(broken(load(name)), group, rgb(astronaut)), GOLDEN[name])


@pytest.mark.parametrize("name", ["edgeface-xs", "w600k-mbf", "landmarks-regression-retail-0009", "onet"])
def test_golden_numbers_of_the_others_notice_a_wrong_mean(
    load: Callable[[str], Model], group: np.ndarray, astronaut: bytes, name: str
) -> None:
    assert not golden.same(golden.measure(_without_mean(load(name)), group, rgb(astronaut)), GOLDEN[name])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("retinaface-mobilenet0.25", "retinaface-mobilenet0.25-relu"),
        ("extd-fpn-48-prelu", "extd-fpn-64-prelu"),
        ("yunet-n", "yunet-s"),
        ("edgeface-xs", "edgeface-xxs"),
    ],
)
def test_golden_numbers_notice_other_weights(
    load: Callable[[str], Model], group: np.ndarray, astronaut: bytes, name: str, other: str
) -> None:
    exchanged = replace(load(name), graph=load(other).graph)
    assert not golden.same(golden.measure(exchanged, group, rgb(astronaut)), GOLDEN[name])


def test_every_pack_whose_weights_are_here_has_golden_numbers() -> None:
    here = {pack.name for pack in packs.packs().values() if None not in packs.find(pack)}
    assert here == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_batch_of_three_gives_what_three_batches_of_one_give(
    load: Callable[[str], Model], group: np.ndarray, astronaut: bytes, name: str
) -> None:
    """On real pixels; `prove_batch` does it on noise at each start."""
    from facebatch.geometry import halvings, resize
    from facebatch.session import Session

    loaded = load(name)
    width, height = min(loaded.pack.input.canvases, key=lambda size: size[0] * size[1])
    shots = [group, group[:, ::-1], rgb(astronaut)]
    views = [np.ascontiguousarray(resize(halvings(np.ascontiguousarray(shot)), width, height)[0]) for shot in shots]
    session = Session(loaded, "cpu", threads=2)
    together, alone = session.run(views), [session.run([view]) for view in views]
    for output, values in together.items():
        single = np.concatenate([one[output] for one in alone])
        assert np.abs(values - single).max() <= 1e-4 * max(1.0, np.abs(single).max()), output
