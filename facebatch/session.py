"""One ONNX Runtime session: a network on one device, fed with pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from facebatch import gpus
from facebatch.binding import Binding
from facebatch.errors import FacebatchError, UsageError
from facebatch.feed import fed_with_bytes
from facebatch.geometry import Floats, Pixels
from facebatch.packs import Input, Model

CPU, CUDA = "cpu", "cuda"
_PROVIDERS = {CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}


def providers() -> list[str]:
    """The providers that the installed ONNX Runtime was built with, as configuration words."""
    built = ort.get_available_providers()
    return [word for word, name in _PROVIDERS.items() if name in built]


class Session:
    """A loaded network. Lives as long as its actor; not shared between processes.

    threads: of the CPU provider. gpu_share: of the GPU's memory, below 1 where two sessions share one GPU.
    bound: on a GPU, to memory of it (`facebatch.binding`).
    Raises FacebatchError when the provider asked for does not really run the graph: ONNX Runtime would fall back to
    the CPU with no more than a log line.
    """

    def __init__(
        self, model: Model, provider: str, threads: int = 1, gpu_share: float = 1.0, bound: bool = False
    ) -> None:
        self.model = model
        self.provider = provider
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # actors share the cores
        name = _PROVIDERS[provider]
        if provider not in providers():
            raise UsageError(f"run.provider={provider}: this ONNX Runtime has only {', '.join(providers())}")
        settings, missing = _options(provider, gpu_share), _load_libraries() if provider == CUDA else ""
        try:
            graph = fed_with_bytes(model.graph, model.pack.input) if provider == CUDA else model.graph
            # Without its fall back: when a GPU fails in mid-run, the rest would go to the CPU, with a line on stdout.
            self._session = ort.InferenceSession(graph, options, providers=[(name, settings)], enable_fallback=0)
        except Exception as error:  # ONNX Runtime's and ONNX's exceptions share no base class
            raise FacebatchError(f"{model.path} cannot be loaded: {str(error)[:300]}") from error
        if self._session.get_providers()[0] != name:
            raise FacebatchError(
                f"{model.pack.name} was to run on {provider}, but ONNX Runtime fell back to "
                f"{self._session.get_providers()[0]}: install the CUDA libraries with `pip install 'facebatch[cuda]'`, "
                f"or set run.provider=cpu{'. ' if missing else ''}{missing}"
            )
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._bound = Binding(self._session) if bound and provider == CUDA else None

    def run(self, images: Sequence[Pixels]) -> dict[str, Floats]:
        """The network's outputs by name, first axis the batch. images: uint8, all of one height x width x 3, RGB."""
        feed = np.stack(images) if self.provider == CUDA else tensor(images, self.model.pack.input)
        found = self._bound(feed) if self._bound else self._session.run(self._outputs, {self._input: feed})
        return dict(zip(self._outputs, found, strict=True))

    def prove_batch(self) -> None:
        """Raises FacebatchError unless a batch of two equals two batches of one."""
        width, height = min(self.model.pack.input.canvases, key=lambda canvas: canvas[0] * canvas[1])
        pair = list(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))
        try:
            together = self.run(pair)
            alone = [self.run([image]) for image in pair]
        except Exception as error:
            raise FacebatchError(f"{self.model.path} cannot be run: {str(error)[:300]}") from error
        for name, batched in together.items():
            single = np.concatenate([outputs[name] for outputs in alone])
            if batched.shape != single.shape or not np.allclose(batched, single, rtol=1e-3, atol=1e-3):
                raise FacebatchError(
                    f"{self.model.path} gives other results in a batch of two than alone (output {name}): its batch "
                    "axis is only a label, and the file cannot be used"
                )


def tensor(images: Sequence[Pixels], how: Input) -> Floats:
    """Pixels (n of height x width x 3, uint8, RGB) as the network wants them: n x 3 x height x width, float32."""
    height, width, _ = images[0].shape
    feed = np.empty((len(images), 3, height, width), np.float32)
    order = (0, 1, 2) if how.colour == "RGB" else (2, 1, 0)
    for target, image in zip(feed, images, strict=True):
        for channel, source in enumerate(order):
            np.subtract(image[:, :, source], np.float32(how.mean[channel]), out=target[channel], dtype=np.float32)
    if how.scale != 1:
        feed *= np.float32(how.scale)
    return feed


def buckets(count: int, largest: int) -> list[int]:
    """How to cut `count` inputs into batches of few fixed sizes: powers of two, `largest` first. Nothing is padded."""
    sizes = []
    size = 1 << (largest.bit_length() - 1)
    while count:
        while size > count:
            size >>= 1
        sizes.append(size)
        count -= size
    return sizes


def _options(provider: str, gpu_share: float) -> dict[str, str | int]:
    if provider != CUDA:
        return {}
    return {
        "use_tf32": 0,  # TF32 moves vectors by 1e-3
        "cudnn_conv_algo_search": "HEURISTIC",  # the exhaustive default searches anew for every shape
        "arena_extend_strategy": "kSameAsRequested",
        **({"gpu_mem_limit": int(gpu_share * 0.9 * size)} if gpu_share < 1 and (size := _gpu_bytes()) else {}),
    }


def _gpu_bytes() -> int:
    """Memory of the first GPU that this process may see; 0 where it is not known."""
    return there[0].bytes if (there := gpus.visible()) else 0


def _load_libraries() -> str:
    """Load CUDA's libraries from Python's packages, where pip puts them and the system's loader does not look. Returns
    what ONNX Runtime says of those it has not found, which it would print among our results."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return " ".join(said.getvalue().split())[:300]
