"""Whether anything is known against the packages that facebatch is built on: `python -m tests.advisories AUDITOR PINS`.

AUDITOR is pip-audit, in an environment of its own; PINS a file of pinned requirements. Exit code 1 where an advisory
names one of them, or the auditor fails. Where no advisory database answers nothing is audited: that is said, and is no
error, or nobody without one could run the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, by id, and why."""
_UNREACHED = ("connection", "connect to", "timed out", "network", "name resolution", "unreachable", "no route")
"""Words of an auditor that has got no answer."""


def audit(auditor: str, pins: str) -> tuple[int, list[str]]:
    """The exit code, and what is to be said."""
    command = [auditor, "--requirement", pins, "--no-deps", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired:
        return 0, ["NOT AUDITED: no advisory database answered in ten minutes"]
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if any(word in words.lower() for word in _UNREACHED):
            return 0, [f"NOT AUDITED: no advisory database answered: {words}"]
        return 1, [f"the auditor failed: {words}"]
    return judged(packages)


def judged(packages: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """What pip-audit has found, as its JSON has it."""
    if not packages:
        return 1, ["no package is pinned, so nothing was audited"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {one['id']}, mended in {' '.join(one['fix_versions']) or 'none'}"
        for package in packages
        for one in package.get("vulns", [])
        if not {one["id"], *one.get("aliases", [])} & set(ACCEPTED)
    ]
    if len(skipped) == len(packages):
        return 0, [f"NOT AUDITED: the advisory database knows none of {len(packages)} packages"]
    few = ", ".join(skipped[:5]) + (" ..." if len(skipped) > 5 else "")
    lines = [f"{len(packages) - len(skipped)} packages audited, {len(found)} advisories", *found]
    return int(bool(found)), lines + ([f"NOT AUDITED: {few}"] if skipped else [])


if __name__ == "__main__":
    code, said = audit(*sys.argv[1:])
    sys.stdout.write("\n".join(said) + "\n")
    sys.exit(code)
