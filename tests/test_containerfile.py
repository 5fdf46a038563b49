"""The recipe of the image builds from what is here. No container engine is needed: it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTAINERFILE = ROOT / "conf" / "Containerfile"
Tree = dict[str, Any]


def instructions() -> Iterator[tuple[str, str]]:
    """Each instruction of the recipe and the rest of its line, continued lines joined."""
    text = CONTAINERFILE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        assert re.fullmatch("ARG|FROM|RUN|COPY|WORKDIR|ENV|USER|CMD", name), f"{line!r} is no instruction known here"
        yield name, rest


def arguments() -> dict[str, str]:
    found = [rest.partition("=") for name, rest in instructions() if name == "ARG"]
    return {name: value for name, _, value in found}


def project() -> Tree:
    found: Tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_image_copies_what_is_there_and_all_that_the_wheel_is_made_of() -> None:
    copied = {
        word.rstrip("/")
        for name, rest in instructions()
        if name == "COPY" and "--from=" not in rest
        for word in rest.split()[:-1]
    }
    assert all((ROOT / path).exists() for path in copied), copied
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    needed = {*wheel["wheel"]["packages"], *wheel["wheel"]["force-include"], project()["readme"], "pyproject.toml"}
    assert copied == needed


def test_the_image_installs_extras_that_exist_by_the_constraints() -> None:
    (install,) = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert "-c conf/constraints.txt" in install
    assert '".[${EXTRAS}]"' in install
    extras = arguments()["EXTRAS"].split(",")
    assert extras == ["cluster", "cuda", "formats"]
    assert set(extras) <= project()["optional-dependencies"].keys()
    assert "--no-cache-dir" in install


def test_the_image_has_a_python_that_facebatch_runs_on() -> None:
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert set(bases) == {"docker.io/library/python:${PYTHON}"}
    found = re.match(r"(\d+)\.(\d+)-slim", arguments()["PYTHON"])
    least = re.fullmatch(r">=(\d+)\.(\d+)", project()["requires-python"])
    assert found
    assert least
    assert tuple(map(int, found.groups())) >= tuple(map(int, least.groups()))


def test_the_last_user_of_the_image_is_not_root_and_finds_the_commands() -> None:
    found = list(instructions())
    final = found[max(number for number, (name, _) in enumerate(found) if name == "FROM") :]
    users = [rest for name, rest in final if name == "USER"]
    assert len(users) == 1
    assert users[0].split(":")[0] not in ("root", "0")
    (copied,) = [rest for name, rest in final if name == "COPY"]
    venv = copied.split()[-1]
    (variables,) = [rest for name, rest in final if name == "ENV"]
    assert f"PATH={venv}/bin:$PATH" in variables
    assert not [rest for name, rest in final if name == "RUN" and "apt-get install" in rest and "rm -rf" not in rest]
