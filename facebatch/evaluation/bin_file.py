"""Reading insightface's .bin files of labelled pairs without running anything that they say.

Such a file is a pickle of a list of 2n encoded images, two for each pair, and a list of n bools, True where both show
one person. A pickle is a program. Here it may do only what the file of two lists needs: 35 of the operations of
protocols 2 to 5 (none makes a dict, a set or an object), and four functions, all of them ours. Whatever else it asks
for ends the reading.

Source: the layout as deepinsight/insightface recognition/common/build_eval_pack.py and arcface_torch/eval/
verification.py write and read it; arrays as numpy pickles them.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, cast

from facebatch.errors import FacebatchError


def read_bin_file(data: bytes, name: str) -> tuple[tuple[bytes, ...], tuple[bool, ...]]:
    """The 2n encoded images, in which 2k and 2k + 1 are pair k, and for each of the n pairs whether it is one person.

    Images may be bytes, Python 2's strings or numpy's arrays of uint8; here all are bytes. They are not decoded.

    Raises FacebatchError for anything else: another kind of file, a truncated one, one that asks for code to be run.
    """
    try:
        content = _Unpickler(io.BytesIO(data), encoding="latin-1").load()
        if not isinstance(content, tuple | list) or len(content) != 2 or not all(isinstance(c, list) for c in content):
            raise ValueError("it does not hold two lists")
        images, same = content
        if len(images) != 2 * len(same):
            raise ValueError(f"{len(images)} images for {len(same)} pairs")
        return _encoded(images), tuple(map(_answer, same))
    except Exception as error:
        words = "it ends early" if isinstance(error, EOFError) else str(error) or type(error).__name__
        raise FacebatchError(
            f"{name} is no .bin of pairs (a pickle of 2n images and n bools) that can be read: {words[:200]}"
        ) from error


class _Type:
    """numpy's dtype of unsigned bytes; of every other one only that it is another."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.bytes = code in ("u1", "|u1")


class _Array:
    """An array whose shape and bytes come later, or never. numpy's own __setstate__ is not asked.

    Strings stand for bytes until all is read: a file that may turn one long string into bytes again and again fills the
    memory.
    """

    data: bytes | str | None = None

    def fill(self, shape: Any, dtype: Any, data: Any) -> _Array:
        length = len(data) if isinstance(data, bytes | str) else -1
        of_bytes = isinstance(dtype, _Type) and dtype.bytes
        if not of_bytes or shape not in ((length,), (length, 1), (1, length)):
            raise pickle.UnpicklingError("an image that is no row or column of unsigned bytes")
        self.data = data
        return self


def _function(module: str, name: str) -> Callable[..., Any]:
    """What stands in for a function of numpy's or Python's: a new one for each call, so that nothing can be changed."""
    match module.replace("numpy._core", "numpy.core"), name:
        case "numpy", "ndarray":
            return lambda *_: None  # only ever an argument of the next
        case "numpy.core.multiarray", "_reconstruct":
            return lambda *_: _Array()
        case "numpy.core.numeric", "_frombuffer":  # protocol 5
            return lambda data, dtype, shape, order: _Array().fill(shape, dtype, data)
        case "numpy", "dtype":
            return lambda *given: _Type(*given)
        case "_codecs", "encode":  # bytes in protocol 2 of Python 3
            return lambda text, codec: text
    raise pickle.UnpicklingError(f"it asks for {module[:40]}.{name[:40]}, which no .bin needs")


_PLAIN = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK),
    *(pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.BINSTRING, pickle.SHORT_BINSTRING),
    *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
)
"""The operations taken as they are in Python's own unpickler; `_Unpickler` has two more of its own."""


class _Unpickler(pickle._Unpickler):
    """The unpickler written in Python: the one in C lets a few bytes ask for gigabytes (its memo is an array)."""

    def find_class(self, module: str, name: str) -> Any:
        return _function(module, name)

    def load_build(self) -> None:
        """The state of an array. That of a dtype says nothing that its code did not; no other object has any."""
        stack = cast(Any, self).stack
        state = stack.pop()
        if isinstance(stack[-1], _Array):
            _, shape, dtype, _, data = state
            stack[-1].fill(shape, dtype, data)
        elif not isinstance(stack[-1], _Type):
            raise pickle.UnpicklingError("it changes what is no array")

    def load_bytes(self) -> None:
        """A bytearray as bytes. Python's own reserves whatever length the file claims before it reads."""
        reader = cast(Any, self)
        (length,) = struct.unpack("<Q", reader.read(8))
        reader.append(reader.read(length))

    def refuse(self) -> None:
        raise pickle.UnpicklingError("it does something that no .bin needs")

    dispatch = cast(
        dict[int, Any],
        dict.fromkeys(range(256), refuse)
        | {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _PLAIN}
        | {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytes},
    )


def _encoded(images: list[Any]) -> tuple[bytes, ...]:
    given = [image.data if isinstance(image, _Array) else image for image in images]
    texts = {text: text.encode("latin-1") for text in {data for data in given if isinstance(data, str)}}
    encoded = [texts[data] if isinstance(data, str) else data for data in given]
    if not all(isinstance(data, bytes) and data for data in encoded):
        raise ValueError("an image without bytes")
    return tuple(cast(list[bytes], encoded))


def _answer(same: Any) -> bool:
    if same not in (True, False):
        raise ValueError("a pair that is neither the same nor different")
    return bool(same)
