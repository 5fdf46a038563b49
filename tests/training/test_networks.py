"""Detectors as PyTorch modules; that the importers' graphs are the same networks is shown beside the importers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from facebatch.detectors.priors import priors
from facebatch.errors import UsageError
from facebatch.training.detector import kind
from facebatch.training.networks import Extd, Slim

pytestmark = pytest.mark.reference

EXTD = {
    ("fpn", "prelu"): {32: 62_939, 48: 100_160, 64: 162_352},
    ("fpn", "relu"): {32: 62_918, 48: 100_150, 64: 162_342},
    ("fpn", "leaky"): {32: 62_918, 48: 100_150, 64: 162_342},
    ("ssd", "prelu"): {32: 56_059, 48: 86_000, 64: 138_352},
    ("ssd", "relu"): {32: 56_038, 48: 85_990, 64: 138_342},
    ("ssd", "leaky"): {32: 56_038, 48: 85_990, 64: 138_342},
}
"""Parameters of the eighteen: the published checkpoints', and what the paper's other variants come to."""
VARIANTS = [(head, act, channels, count) for (head, act), c in EXTD.items() for channels, count in c.items()]


@pytest.mark.parametrize(("head", "activation", "channels", "count"), VARIANTS)
def test_extd_is_as_small_as_the_paper_says(head: str, activation: str, channels: int, count: int) -> None:
    assert _parameters(Extd(channels, head, activation)) == count
    assert _parameters(kind(f"extd-{channels}-{head}-{activation}").module()) == count


def test_slim_is_as_small_as_the_one_that_is_published() -> None:
    assert _parameters(Slim()) == 343_488
    assert _parameters(kind("slim").module()) == 343_488


@pytest.mark.parametrize("name", ["slim", "extd-32-fpn-prelu", "extd-48-ssd-relu"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 130), (75, 33)])
def test_there_is_a_candidate_for_each_prior(name: str, width: int, height: int) -> None:
    network = kind(name)
    count = len(priors(network.anchors, width, height))
    with torch.no_grad():
        outputs = network.module()(torch.zeros(2, 3, height, width))
    shapes = {key: tuple(value.shape) for key, value in outputs.items()}
    points = {"landms": (2, count, 10)} if network.landmarks else {}
    assert shapes == {"loc": (2, count, 4), "conf": (2, count, 2)} | points


def test_extd_reuses_its_filters_so_that_the_coarsest_level_teaches_all_of_them() -> None:
    net: Any = Extd(32, "ssd", "relu")
    net(torch.randn(2, 3, 128, 128))["loc"][:, -1].sum().backward()
    filters = [p for block in net.base for p in block.parameters() if p.ndim == 4]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in filters)
    assert all(p.grad is None or not p.grad.any() for head in net.loc[:-1] for p in head.parameters())


@pytest.mark.parametrize(
    "name",
    ["", "SLIM", "extd", "extd-32", "extd-16-fpn-prelu", "extd-32-rpn-prelu", "extd-32-fpn-gelu", "extd-32-fpn-relu-x"],
)
def test_a_network_that_there_is_not_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(
        UsageError, match=f"there is no network '{name}' to train; there are slim and extd-32-fpn-prelu"
    ):
        kind(name)


def _parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
