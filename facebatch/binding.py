"""What goes into a network and out of it, bound to memory of its device (ONNX Runtime's IO binding).

`run` of a session has the device allocate the same, and copies as much: pixels come from the host at each call, and
boxes and vectors go back to it. For such a way nothing is to be gained by the documentation of ONNX Runtime's Rust
bindings (`ort` 2.0, IoBinding), and nothing was seen in microsoft/onnxruntime#18475. And what is copied to bound memory
keeps other threads of Python waiting, such as the one that decodes the next pictures (seen on a CPU: a copy of 76 ms
kept another thread for 76), which `run` does not. So binding is an option; on a GPU, where it has not been measured,
`facebatch bench run.io_binding=true` beside one without tells whether it pays.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, cast

import onnxruntime as ort
from numpy.typing import NDArray

_CUDA = "CUDAExecutionProvider"


class Binding:
    """Memory for the input of a session with one input, allocated once for each of its few shapes, and filled anew by
    each call. Calls from several threads wait for each other."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._device = "cuda" if session.get_providers()[0] == _CUDA else "cpu"
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]
        self._memory: dict[tuple[int, ...], ort.OrtValue] = {}
        self._binding = session.io_binding()
        self._lock = Lock()

    def __call__(self, feed: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs, in their order, as arrays of their own on the host."""
        with self._lock:
            if feed.shape not in self._memory:
                made = ort.OrtValue.ortvalue_from_shape_and_type(feed.shape, feed.dtype.type, self._device, 0)
                self._memory[feed.shape] = made
            memory = self._memory[feed.shape]
            memory.update_inplace(feed)
            self._binding.bind_ortvalue_input(self._input, memory)
            for name in self._outputs:  # anew, or the last call's would be written over, and be of its shape
                self._binding.bind_output(name, self._device, 0)
            self._session.run_with_iobinding(self._binding)
            return cast(list[NDArray[Any]], self._binding.copy_outputs_to_cpu())
