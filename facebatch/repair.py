"""Graph repairs that published ONNX files need before they can be run in batches."""

from __future__ import annotations

import onnx


def apply(source: bytes, repair: str) -> bytes:
    """The graph with the pack's repair applied; the published bytes themselves for `none`."""
    return dynamic_batch(source) if repair == "dynamic_batch" else source


def dynamic_batch(source: bytes) -> bytes:
    """Makes the first axis of every input and output symbolic, and weights plain constants.

    Published files of 2019 list their weights among the inputs, which costs ONNX Runtime a warning each and keeps it
    from folding constants; and their batch is fixed at 1. The axis is only a label: where the graph folds images
    together by a constant reshape (slim-320 `_simplified`), it gives nonsense, which `session.prove_batch` finds.
    """
    model = onnx.load_from_string(source)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.value_info[:]  # inner shapes recorded for a batch of 1
    repaired: bytes = model.SerializeToString()
    return repaired
