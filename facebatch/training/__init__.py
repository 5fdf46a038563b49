"""Training of the built-in models: a face detector and an embedder small enough for two cores.

Part of the product, so that users can train on their own photographs, but never needed to run anything: PyTorch is an
extra (`train`). What is trained leaves here as an ONNX file, through the same importers that take published weights.
"""

from facebatch.errors import UsageError

try:
    import torch as torch
except ModuleNotFoundError:
    raise UsageError("training needs PyTorch: pip install 'facebatch[train]'") from None
