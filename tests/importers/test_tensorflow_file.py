"""Reading TensorFlow's variables: frozen graphs and checkpoints, whole, damaged and hostile."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from facebatch.errors import FacebatchError
from facebatch.importers import Given
from facebatch.importers.ssdlite import _is_wanted
from facebatch.importers.tensorflow_file import _block, _varint, read_variables
from tests.importers import tensorflow_graph
from tests.importers.random_weights import RandomWeights

RANDOM = np.random.default_rng(0)
VARIABLES = {
    "FeatureExtractor/a/weights": RANDOM.normal(size=(3, 3, 2, 4)).astype(np.float32),
    "FeatureExtractor/a/BatchNorm/beta": RANDOM.normal(size=4).astype(np.float32),
    "BoxPredictor_0/b/biases": RANDOM.normal(size=12).astype(np.float32),
}


def _all(name: str) -> bool:
    return name in VARIABLES


def _same(found: dict[str, np.ndarray]) -> bool:
    return set(found) == set(VARIABLES) and all(np.array_equal(found[name], VARIABLES[name]) for name in found)


def test_a_frozen_graph_and_a_checkpoint_give_the_same_arrays() -> None:
    index, data = tensorflow_graph.checkpoint(VARIABLES)
    given = [Given("m.index", index), Given("m.data", data)]
    assert _same(read_variables([Given("m.pb", tensorflow_graph.frozen(VARIABLES))], _all))
    assert _same(read_variables(given, _all))
    assert _same(read_variables(given[::-1], _all)), "files are told apart by content"


def test_only_what_is_wanted_is_read() -> None:
    index, data = tensorflow_graph.checkpoint({**VARIABLES, "FeatureExtractor/a/weights/RMSProp": np.zeros(3)})
    found = read_variables([Given("m.index", index), Given("m.data", data)], _is_wanted)
    assert _same(found)


@pytest.mark.parametrize(
    "files",
    [
        [],
        [Given("a", b"")],
        [Given("a", b"no protobuf")],
        [Given("a", b"one"), Given("b", b"two")],
        [Given("m.index", tensorflow_graph.checkpoint(VARIABLES)[0])],
        [Given("a", tensorflow_graph.frozen({"other/weights": np.zeros(2, np.float32)}))],
    ],
)
def test_other_files_are_one_sentence(files: list[Given]) -> None:
    with pytest.raises(FacebatchError) as error:
        read_variables(files, _all)
    assert "\n" not in str(error.value)
    assert all(given.name in str(error.value) for given in files)


def test_truncated_files_are_refused_wherever_they_end() -> None:
    graph = tensorflow_graph.frozen(VARIABLES)
    index, data = tensorflow_graph.checkpoint(VARIABLES)
    for end in range(len(data)):
        with pytest.raises(FacebatchError, match="is said to be"):
            read_variables([Given("i", index), Given("d", data[:end])], _all)
    for end in range(len(index)):
        with pytest.raises(FacebatchError):
            read_variables([Given("i", index[:end]), Given("d", data)], _all)
    for end in range(len(graph)):
        try:
            found = read_variables([Given("m.pb", graph[:end])], _all)
        except FacebatchError:
            continue
        assert len(found) < 3 or _same(found), "an end between two nodes is a smaller graph"


def test_flipped_bits_give_arrays_or_one_sentence_and_nothing_else() -> None:
    graph = tensorflow_graph.frozen(VARIABLES)
    index, data = tensorflow_graph.checkpoint(VARIABLES)
    random, refused = np.random.default_rng(1), 0
    for turn in range(2000):
        whole = graph if turn % 2 else index
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 2):
            damaged[place] ^= 1 << int(random.integers(8))
        files = [Given("a", bytes(damaged)), *([] if turn % 2 else [Given("d", data)])]
        try:
            found = read_variables(files, lambda _: True)
            assert all(array.dtype == np.float32 for array in found.values())
        except FacebatchError:
            refused += 1
    assert refused > 300


def test_a_shape_cannot_ask_for_more_memory_than_a_model_needs() -> None:
    size = tensorflow_graph._varint(1 << 40)
    shape = tensorflow_graph._text(2, b"\x08" + size)
    tensor = tensorflow_graph._number(1, 1) + tensorflow_graph._text(2, shape) + b"\x2a\x04" + struct.pack("<f", 1)
    attribute = tensorflow_graph._text(1, b"value") + tensorflow_graph._text(2, tensorflow_graph._text(8, tensor))
    node = tensorflow_graph._text(1, b"w") + tensorflow_graph._text(2, b"Const") + tensorflow_graph._text(5, attribute)
    with pytest.raises(FacebatchError, match=r"a shape of \(1099511627776,\)"):
        read_variables([Given("m.pb", tensorflow_graph._text(1, node))], lambda _: True)


def test_one_number_can_stand_for_a_whole_array() -> None:
    tensor = (
        tensorflow_graph._number(1, 1)
        + tensorflow_graph._text(2, tensorflow_graph._shape((2, 3)))
        + tensorflow_graph._text(5, struct.pack("<2f", 7, 8))
    )
    attribute = tensorflow_graph._text(1, b"value") + tensorflow_graph._text(2, tensorflow_graph._text(8, tensor))
    node = tensorflow_graph._text(1, b"w") + tensorflow_graph._text(2, b"Const") + tensorflow_graph._text(5, attribute)
    found = read_variables([Given("m.pb", tensorflow_graph._text(1, node))], lambda _: True)
    assert found["w"].tolist() == [[7, 8, 8], [8, 8, 8]]


@pytest.mark.needs_models
def test_the_published_index_lists_every_variable_that_the_network_takes() -> None:
    from facebatch.importers import ssdlite

    table = (Path(os.environ["FACEBATCH_MODELS"]) / "ssdlite" / "model.ckpt.index").read_bytes()
    place = len(table) - 48
    for _ in range(2):
        _, place = _varint(table, place)
    start, place = _varint(table, place)
    ((_, handle),) = _block(table, start, _varint(table, place)[0])
    begin, after = _varint(handle, 0)
    listed = {key.decode() for key, _ in _block(table, begin, _varint(handle, after)[0])}
    weights = RandomWeights()
    ssdlite.build(weights)
    assert {name for name in listed if _is_wanted(name)} == set(weights.arrays)
