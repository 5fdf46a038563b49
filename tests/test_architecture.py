"""The structure that DESIGN asks for: Ray in one place, imports one way, modules that fit on a screen or three."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    ["errors", "reasons", "ids", "config", "resources", "schema", "formats", "failpoints", "watchdog"],
    ["stopwatch", "tally", "family", "budget", "timeline", "gpus"],
    ["storage", "logs"],
    ["sources"],
    ["geometry", "exif", "fingerprint", "nms", "cost", "plugins", "jxl"],
    ["colour", "shaper", "raw", "jpeg"],
    ["rgb"],
    ["importers"],
    ["decode", "packs"],
    ["feed", "binding"],
    ["session", "align", "quality", "detectors", "pull", "networks"],
    ["detect", "landmarks", "embed"],
    ["contract", "work"],
    ["catalogue", "gate", "slowest"],
    ["seen", "dataset", "stages", "listing"],
    ["plan", "epochs", "trial"],
    ["ledger", "suspects"],
    ["commit", "reader"],
    ["sink", "forecast", "consistency", "quantize"],
    ["rewrite"],
    ["release", "erase"],
    ["verify", "progress", "demo", "summary", "status", "agreement"],
    ["audit"],
    ["evaluation"],
    ["verdict", "scale"],
    ["reporting"],
    ["costs"],
    ["outlook"],
    ["bench"],
    ["pipeline", "training"],
    ["cli"],
]
"""From the bottom up: a module imports only from lower layers, or from its own."""


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted((ROOT / "facebatch").rglob("*.py")):
        yield file.relative_to(ROOT / "facebatch").as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ([node.module] if node.module != "facebatch" else [f"facebatch.{a.name}" for a in node.names])


def test_ray_is_imported_in_the_pipeline_only() -> None:
    users = {path for path, tree in _modules() if any(name.split(".")[0] == "ray" for name in _imports(tree))}
    assert users
    assert all(path.startswith("pipeline/") for path in users)


def test_imports_point_one_way() -> None:
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    wrong = []
    for path, tree in _modules():
        own = path.split("/")[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for name in _imports(tree):
            parts = name.split(".")
            if parts[0] == "facebatch" and len(parts) > 1 and parts[1] in level and level[parts[1]] > level[own]:
                wrong.append(f"{path} imports {name}")
    assert wrong == []
    known = {path.split("/")[0].removesuffix(".py") for path, _ in _modules()} - {"__init__", "__main__"}
    assert known == set(level)


@pytest.mark.parametrize("path", [p.relative_to(ROOT).as_posix() for p in (ROOT / "facebatch").rglob("*.py")])
def test_a_module_has_one_noun_and_fits_in_the_head(path: str) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 400


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    import subprocess

    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    top = {name.split("/")[0] for name in tracked if name}
    agreed = {"pyproject.toml", "jobs", "facebatch", "models", "conf", "tests", "README.md"}
    assert {name for name in top if not name.startswith(".")} <= agreed


def test_code_does_not_print() -> None:
    for path, tree in _modules():
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
        assert not calls or path.startswith("cli/"), path


def test_ci_runs_the_two_commands_of_the_readme_word_for_word() -> None:
    import re

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [block.strip() for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) if ".venv" in block]
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in commands:
        assert command in script
