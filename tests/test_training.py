"""Training where there is no PyTorch, which is most machines."""

from __future__ import annotations

import sys

import pytest

from facebatch.cli import training
from facebatch.errors import UsageError


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed, and nothing of the package imported yet."""
    for name in [name for name in sys.modules if name.startswith("facebatch.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)


def test_the_package_says_what_it_needs() -> None:
    with pytest.raises(UsageError, match=r"^training needs PyTorch: pip install 'facebatch\[train\]'$"):
        import facebatch.training  # noqa: F401


@pytest.mark.parametrize("job", [training.detector, training.embedder])
def test_the_jobs_say_what_they_need(job: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        job(["--data", "photos", "--output", "out"])  # type: ignore[operator]
    assert ended.value.code == 2
    assert capsys.readouterr().err == "facebatch: training needs PyTorch: pip install 'facebatch[train]'\n"


@pytest.mark.parametrize("job", [training.detector, training.embedder])
def test_their_help_needs_nothing(job: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        job(["--help"])  # type: ignore[operator]
    assert ended.value.code == 0
    assert "The same command goes on where it was killed" in " ".join(capsys.readouterr().out.split())
