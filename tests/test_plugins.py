"""Optional packages: imported when the first file asks, and named to the user where they are absent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from facebatch.config import Decode
from facebatch.decode import probe
from facebatch.plugins import EXTRAS, Wanted, plugin
from facebatch.reasons import Reason, Undecodable
from facebatch.sources import Kind, Source
from facebatch.storage import Object
from tests.containers import dng

FILES = {
    "HEIF": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
    "JXL": b"\xff\x0a" + bytes(100),
    "RAW": dng(None),
}


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    plugin.cache_clear()
    yield
    plugin.cache_clear()


@pytest.mark.parametrize("format", EXTRAS)
def test_an_absent_package_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    module, package, extra = EXTRAS[format]

    class Absent:
        """A finder that knows one module not to exist."""

        def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
            if name == module:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return None

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(Undecodable) as error:
        probe(FILES[format], Decode())
    assert error.value.reason is Reason.UNSUPPORTED_FORMAT
    assert error.value.detail == f"{format} needs {package}: pip install 'facebatch[{extra}]'"


def test_a_package_that_cannot_be_loaded_is_not_called_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pillow_heif.py").write_text("import there_is_no_such_module\n")
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        plugin("HEIF")


def test_nothing_is_imported_before_a_file_wants_it() -> None:
    script = "import sys, facebatch.stages\nprint(sorted({'pillow_heif', 'pillow_jxl', 'rawpy'} & set(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_extras_of_the_project_are_the_ones_that_users_are_told() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for _, package, extra in EXTRAS.values():
        assert [need.split(">")[0] for need in extras[extra]] == [package]
    assert extras["formats"] == [f"facebatch[{','.join(extra for _, _, extra in EXTRAS.values())}]"]
    assert any("formats" in need for need in extras["test"])


def test_decoders_use_the_threads_that_their_actor_has() -> None:
    from PIL import AvifImagePlugin

    plugin("HEIF")
    plugin("JXL")
    import pillow_heif.options
    from pillow_jxl import JpegXLImagePlugin

    assert (AvifImagePlugin.DEFAULT_MAX_THREADS, pillow_heif.options.DECODE_THREADS) == (1, 1)
    assert JpegXLImagePlugin.DECODE_THREADS == 0


def test_files_that_want_an_absent_package_are_announced_before_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "HEIF", ("there_is_no_such_module", "pillow-heif", "heif"))
    names = ["a.HEIC", "b.heif", "c.jpg", "d.cr2", "e"]
    stream = [Source(Kind.FILES, Object(f"/photos/{name}", 1)) for name in names]
    wanted = Wanted()
    assert list(wanted.passing(stream)) == stream
    assert list(wanted.remarks()) == [
        "2 files look like HEIF. HEIF needs pillow-heif: pip install 'facebatch[heif]'. "
        "Without it they fail, and stay failed until --retry UNSUPPORTED_FORMAT"
    ]
