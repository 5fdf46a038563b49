"""`facebatch submit`: a run as a job of a cluster, followed from here."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from facebatch import logs
from facebatch.cli.base import command, indexing, stderr, with_inputs
from facebatch.errors import UsageError


def declare(commands: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    submit = command(commands, "submit", run, "index an archive as a job of a Ray cluster, and follow it from here")
    submit.add_argument(
        "--address",
        metavar="URL",
        help="of the cluster's dashboard, as in http://HEAD:8265; default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS",
    )
    submit.add_argument("--no-wait", action="store_true", help="do not follow it; the same command does so later")
    submit.add_argument(
        "--installed",
        action="store_true",
        help="run the facebatch that is installed on the cluster; by default the code of this one goes along, and the "
        "cluster has the packages that it needs",
    )
    submit.add_argument("--runtime-env", metavar="FILE", help="YAML of a runtime environment of Ray's, as for env_vars")
    with_inputs(submit)


def run(arguments: argparse.Namespace) -> int:
    from facebatch.pipeline import following, submission  # here, because importing Ray takes a second

    errand = submission.Errand.of(indexing(arguments), arguments.installed, _read(arguments.runtime_env))
    say = partial(logs.say, stderr())

    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    cluster = submission.client(arguments.address)
    name = submission.send(cluster, errand, say)
    if arguments.no_wait:
        print(name)
        return 0
    try:
        ended = following.follow(cluster, name, show, say)
    except KeyboardInterrupt:
        say(f"the job {name} goes on; the same command follows it again, and {submission.stop(cluster, name)} stops it")
        return 1
    if ended.exit_code:
        why = f": {ended.why.rstrip('.')}" if ended.why else ""
        on = "; the same command goes on from what was committed" if ended.exit_code == 1 else ""
        say(f"the job {name} has {ended.status}, exit code {ended.exit_code}{why}{on}")
    return ended.exit_code


def _read(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        tree = yaml.safe_load(Path(file).read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the runtime environment {file} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"the runtime environment {file} holds {type(tree).__name__}, expected a mapping of settings")
    return tree
