"""Training, which needs PyTorch: where it is absent, every module of this package is skipped as it is imported."""

import pytest

pytest.importorskip("torch", reason="needs PyTorch: pip install 'facebatch[train]'")
