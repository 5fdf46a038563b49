"""Networks in fewer bits: any of them in float16, for GPUs; detectors in eight, their ranges learned from photographs.

Weights have a scale for each channel, the maps between layers one each, from the smallest to the largest value that the
photographs gave. Float stay, on both sides of the network, the convolutions that see the picture and those that give
the outputs, with all that lies before and behind them.

Measured on 150 photos with 15 others for the ranges (AP of float, and of INT8 with ranges by minimum and maximum, by
99.999 percentiles, by entropy): YuNet-n 0.864, 0.865, 0.863, 0.866; facebatch-detector 0.847, 0.845, 0.845, 0.847;
slim-320 0.714, 0.711, 0.725, 0.705. No way to choose ranges is better than another, so the plainest does. With the last
convolutions in eight bits as well facebatch-detector loses 0.012. With the first one in eight bits it takes 8.4 ms
instead of 6.4, YuNet-n 8.4 instead of 6.9: that one has three channels and the largest map.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from facebatch.config import Config
from facebatch.errors import FacebatchError, UsageError
from facebatch.geometry import Floats
from facebatch.importers.quantised import WORDS, Mark, marked
from facebatch.packs import Model
from facebatch.session import CPU, Session, tensor
from facebatch.stages import DecodeStage, Place
from facebatch.work import Work

_NEAR = 0.02
"""What outputs in float16 may be apart, as a share of the largest. The built-in detector is 0.0023 apart, the embedder
0.0078."""
_OPSET = 13
"""The first in which QuantizeLinear has a scale for each channel."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """photos: those that the ranges are of; skipped: those that cannot be read, each with its reason."""

    model: Model
    photos: int
    skipped: tuple[str, ...]


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    """What the network is shown: photograph by photograph, view by view. Those that cannot be read are left out."""

    def __init__(self, model: Model, config: Config, files: Sequence[Path], images: int) -> None:
        self.photos = 0
        self.skipped: list[str] = []
        self._decode = DecodeStage(config, model.pack, Place())
        self._files, self._images = files, images
        self._input = onnx.load_from_string(model.graph).graph.input[0].name
        feeds = (tensor([view.pixels], model.pack.input) for work in self._read() for view in work.views)
        self._first = next(feeds, None)
        self._left = chain([] if self._first is None else [self._first], feeds)

    @property
    def empty(self) -> bool:
        """Whether there is not one photograph."""
        return self._first is None

    def get_next(self) -> dict[str, Floats] | None:
        """The next input, as ONNX Runtime asks for it; None at the end."""
        feed = next(self._left, None)
        return None if feed is None else {self._input: feed}

    def _read(self) -> Iterator[Work]:
        for file in self._files:
            if self.photos == self._images:
                return
            try:
                data = file.read_bytes()
            except OSError as error:
                self.skipped.append(f"{file}: {error.strerror}")
                continue
            (work,) = self._decode([Work("calibration", 0, str(file), "", len(data), data=data)])
            if work.views:
                self.photos += 1
                yield work
            else:
                self.skipped.append(f"{file}: {work.detail}")


def quantise(model: Model, config: Config, folder: str | Path, images: int = 200) -> Quantised:
    """A detector in eight bits, marked as such and proved to run in batches.

    Its ranges are those of `images` photographs anywhere below `folder`, drawn at random but the same each time, shown
    to it as a run would show them: decoded, in all passes of the settings, fed as its pack says.
    Raises UsageError for a model that is no detector or is quantised, and where no photograph can be read or is asked
    for; FacebatchError where the network cannot be quantised.
    """
    if model.pack.kind != "detector":
        raise UsageError(
            f"{model.pack.name} is no detector: INT8 is for detectors, whose loss `facebatch eval detection` shows"
        )
    if model.precision != "float32":
        raise UsageError(f"{model.path} is in {WORDS[model.precision]} already: name the float weights, or none")
    if images < 1:
        raise UsageError(f"ranges from {images} photographs were asked for: 200 are enough, 1 is the least")
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    random.Random(0).shuffle(files)
    feeds = _Feeds(model, config, files, images)
    if feeds.empty:
        why = f"none of its {len(files)} files can be read, e.g. {feeds.skipped[0]}" if files else "it holds no file"
        raise UsageError(f"there is no photograph below {folder}: {why}. Name a folder of photographs like your own")
    try:
        made = _quantised(model.graph, feeds)
    except Exception as error:  # its own checks, ONNX's and ONNX Runtime's, which share no base class
        raise FacebatchError(f"{model.pack.name} cannot be quantised: {str(error)[:300]}") from error
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        raise FacebatchError(
            f"{model.pack.name} cannot be quantised: no convolution lies between its first and its last ones"
        )
    graph = marked(made, Mark(model.pack.name, model.sha256, "int8", feeds.photos))
    small = Model(model.pack, model.path, hashlib.sha256(graph).hexdigest(), graph, precision="int8")
    Session(small, CPU).prove_batch()
    return Quantised(small, feeds.photos, tuple(feeds.skipped))


def halve(model: Model) -> Model:
    """Any network in float16, marked as such and proved to run in batches; its inputs and outputs stay float32.

    For GPUs, whose tensor cores take a fraction of the time; a CPU widens each number before it computes.
    Raises UsageError for a model that is reduced already, FacebatchError where the network cannot be converted.
    """
    if model.precision != "float32":
        raise UsageError(f"{model.path} is in {WORDS[model.precision]} already: name the float weights, or none")
    try:
        made = convert_float_to_float16(onnx.load_from_string(model.graph), keep_io_types=True)
    except Exception as error:  # its own checks and ONNX's, which share no base class
        raise FacebatchError(f"{model.pack.name} cannot be halved: {str(error)[:300]}") from error
    graph = marked(made, Mark(model.pack.name, model.sha256, "float16"))
    half = Model(model.pack, model.path, hashlib.sha256(graph).hexdigest(), graph, precision="float16")
    _prove_near(model, half)
    return half


def _prove_near(full: Model, half: Model) -> None:
    """Raises FacebatchError unless both give nearly the same for noise and for flat pictures: the converter cuts off,
    without a word, what float16 cannot hold."""
    width, height = full.pack.input.canvases[0]
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))
    pictures += [np.full((height, width, 3), level, np.uint8) for level in (0, 255)]
    session = Session(half, CPU)
    session.prove_batch()
    now = session.run(pictures)
    for name, values in Session(full, CPU).run(pictures).items():
        apart = float(np.abs(now[name] - values).max(initial=0))
        if not apart <= _NEAR * max(1.0, float(np.abs(values).max(initial=0))):
            raise FacebatchError(
                f"{full.pack.name} cannot be halved: its output {name} is {apart:.3g} apart from the one in float32, "
                f"of up to {float(np.abs(values).max(initial=0)):.3g}; float16 cannot hold its numbers. Leave it float"
            )


def _quantised(graph: bytes, feeds: _Feeds) -> ModelProto:
    with TemporaryDirectory() as folder:
        given, prepared, made = (Path(folder, name) for name in ("given.onnx", "prepared.onnx", "made.onnx"))
        given.write_bytes(graph)
        # Batch norms and constants are folded first. Symbolic shapes would need another package, and change nothing.
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        network = onnx.load(prepared)
        if next(entry.version for entry in network.opset_import if not entry.domain) < _OPSET:
            network = version_converter.convert_version(network, _OPSET)
        for number, node in enumerate(network.graph.node):  # those that stay float are known by name
            node.name = f"{node.op_type}_{number}"
        quantize_static(
            network,
            made,
            feeds,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_outer(network.graph),
        )
        return onnx.load(made)


def _outer(graph: GraphProto) -> list[str]:
    """The nodes that stay float: no convolution lies before them, or none behind them."""
    inner, after, before = set[str](), set[str](), set[str]()
    for node in graph.node:
        if after.intersection(node.input):
            inner.add(node.name)
        if node.name in inner or node.op_type == "Conv":
            after.update(node.output)
    for node in reversed(graph.node):
        if not before.intersection(node.output):
            inner.discard(node.name)
        if before.intersection(node.output) or node.op_type == "Conv":
            before.update(node.input)
    return [node.name for node in graph.node if node.name not in inner]
