"""Submitting: the run of a configuration as a job of a cluster, sent, followed to its end, and sent again to go on.

One job at a time works on an output. Its submission id comes from the output, so that the same command finds the job
that it has started, whoever types it and from where, and Ray refuses a second one of the same id. When a job has ended,
the next one has the next number: it goes on from what was committed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import facebatch
from facebatch import config, packs, release
from facebatch.config import Config
from facebatch.errors import FacebatchError, UsageError
from facebatch.resources import folder
from facebatch.storage import absolute, refuse_secrets, scheme

Say = Callable[[str], object]
_ASKED = "facebatch_asked"
"""Of a job's metadata: a digest of what it was asked to do."""
_EVERY, _PATIENCE = 1.0, 300.0
"""Seconds between questions, and until a cluster that does not answer is given up."""
_LEFT_OUT = ("__pycache__", "*.pyc", "*.md", "*.png", "_resources")
_TALKATIVE = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_CLUSTERS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""By which Ray overrides an address that it is given."""


@dataclass(frozen=True)
class Errand:
    """What a cluster is to be told. installed: it has a facebatch of its own, and this one is not sent along."""

    words: tuple[str, ...]
    """Of `facebatch index`."""
    output: str
    installed: bool = False
    runtime_env: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, settings: Config, installed: bool = False, runtime_env: Mapping[str, Any] | None = None) -> Errand:
        """Checked as far as it can be from here: the archive and the weights are for the cluster to reach.

        Raises UsageError for what no cluster could run.
        """
        if not settings.output:
            raise UsageError("there is nowhere to write to: name a folder or URI with --output")
        release.chosen(settings.run.retry)
        known = packs.packs()
        for word, name in (
            ("detect.pack", settings.detect.pack),
            ("embed.pack", settings.embed.pack),
            ("gate.model", settings.gate.model),
        ):
            if name and name not in known:
                raise UsageError(f"{word}={name}: there is no such pack; `facebatch models list` names them")
        settings = replace(
            settings,
            inputs=tuple(map(absolute, settings.inputs)),
            output=absolute(settings.output),
            base_uri=absolute(settings.base_uri) if settings.base_uri else None,
            run=replace(settings.run, address=None),  # of the cluster that runs it
        )
        return cls(tuple(config.words(config.as_dict(settings))), settings.output, installed, runtime_env)

    @property
    def entrypoint(self) -> str:
        return shlex.join(["python", "-m", "facebatch", "index", *self.words])

    @property
    def submission_id(self) -> str:
        """Without a number."""
        return f"facebatch-{hashlib.sha256(self.output.encode()).hexdigest()[:12]}"

    @property
    def digest(self) -> str:
        """Of all that it asks for."""
        asked = [self.words, self.installed, dict(self.runtime_env or {}), facebatch.__version__]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def local(self) -> list[str]:
        """Paths in it that have to be the same on the cluster's machines."""
        named = [word for before, word in zip(("", *self.words), self.words, strict=False) if before in _PLACES]
        return [word for word in named if not scheme(word)]


_PLACES = ("--input", "--output", "--base-uri")


@dataclass(frozen=True)
class Ended:
    """How a job has ended. exit_code: of its process; where it has none, because it was stopped or lost, 1."""

    submission_id: str
    status: str
    exit_code: int


def client(address: str | None) -> JobSubmissionClient:
    """A cluster that takes jobs. address: http://HEAD:8265; where it is None, Ray's own variables name it.

    Raises UsageError where none answers there, or Ray's own client is not whole.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    if find_spec("aiohttp") is None:
        raise UsageError("submitting needs another package: pip install 'facebatch[cluster]'")
    try:
        with _without(_CLUSTERS if address else ()):
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise UsageError(
            f"the Ray at {address or 'the address in the environment'} asks for a token: put the cluster's into "
            "~/.ray/auth_token, and set RAY_AUTH_MODE=token"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(_unreached(address, error)) from error


def send(cluster: JobSubmissionClient, errand: Errand, say: Say) -> str:
    """The submission id of the job that does this: the one that is at work already, or a new one.

    Raises UsageError where one with other settings works on the same output, FacebatchError where Ray refuses.
    """
    while True:
        jobs = _attempts(cluster, errand.submission_id)
        if jobs and not _is_over(jobs[-1]):
            last = jobs[-1].submission_id or ""
            if (jobs[-1].metadata or {}).get(_ASKED) != errand.digest:
                raise UsageError(
                    f"the job {last} works on {errand.output} with other settings. Wait for it, or stop it with "
                    f"{stop(cluster, last)}; what it has committed stays"
                )
            say(f"the job {last} is at work on this already")
            return last
        name = f"{errand.submission_id}-{len(jobs) + 1}"
        for path in errand.local:
            say(f"{path} has to be in the same place on all nodes of the cluster")
        if _sent(cluster, errand, name):
            say(f"the job {name} is submitted{' and goes on from what was committed' if jobs else ''}")
            return name


def follow(cluster: JobSubmissionClient, name: str, show: Callable[[str], object], say: Say) -> Ended:
    """Show what a job says, until it has ended. A connection that breaks off is made again, and nothing is shown twice.

    Raises FacebatchError where the cluster has not answered for some minutes.
    """
    once, silent, state = Once(show), 0.0, ""
    while True:
        try:
            job = cluster.get_job_info(name)
            over = _is_over(job)
            if job.status == JobStatus.PENDING and job.message != state:
                state = job.message or ""
                say(f"pending: {state}")
            asyncio.run(_tail(cluster, name, once))
            silent = 0.0
            if over:
                return _ended(name, job)
        except (RuntimeError, OSError) as error:
            silent = silent or time.monotonic()
            if time.monotonic() - silent > _PATIENCE:
                raise FacebatchError(
                    f"the cluster has not answered for {_PATIENCE:g} s ({error}). The job {name} may go on there: the "
                    "same command follows it"
                ) from error
        time.sleep(_EVERY)


class Once:
    """Shows a text that comes in pieces, and again from its beginning with each connection: each character once."""

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show, self._shown, self._seen = show, 0, 0

    def again(self) -> None:
        """The next piece is the first."""
        self._seen = 0

    def __call__(self, piece: str) -> None:
        new = piece[max(self._shown - self._seen, 0) :]
        self._seen += len(piece)
        self._shown = max(self._shown, self._seen)
        if new:
            self._show(new)


async def _tail(cluster: JobSubmissionClient, name: str, once: Once) -> None:
    """Follow the log until its end, or that of the connection."""
    once.again()
    async for piece in cluster.tail_job_logs(name):
        once(piece)


def stop(cluster: JobSubmissionClient, name: str) -> str:
    """What to type to stop a job."""
    return f"`ray job stop {name} --address {cluster.get_address()}`"


def _sent(cluster: JobSubmissionClient, errand: Errand, name: str) -> bool:
    """False where somebody else has just sent one of this name."""
    env: dict[str, Any] = dict(errand.runtime_env or {})
    if models := os.environ.get("FACEBATCH_MODELS"):
        refuse_secrets(models)
        variables = {"FACEBATCH_MODELS": absolute(models), **env.get("env_vars", {})}
        env["env_vars"] = variables
    with _code(None if errand.installed else env):
        try:
            cluster.submit_job(
                entrypoint=errand.entrypoint,
                submission_id=name,
                runtime_env=env,
                metadata={_ASKED: errand.digest, "output": errand.output},
            )
        except RuntimeError as error:
            if "already exists" in str(error):
                return False
            raise FacebatchError(f"Ray refused the job: {str(error).strip().splitlines()[-1]}") from error
    return True


@contextmanager
def _code(env: dict[str, Any] | None) -> Iterator[None]:
    """Put this facebatch into a runtime environment, as a wheel would have it: code, packs and built-in models."""
    if env is None:
        yield
        return
    if "working_dir" in env:
        raise UsageError("the runtime environment names a working_dir, which facebatch needs for itself: --installed")
    with TemporaryDirectory(prefix="facebatch-submit-") as place:
        package = Path(place) / "facebatch"
        left_out = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(Path(facebatch.__file__).parent, package, ignore=left_out)
        for name in ("models", "conf"):
            shutil.copytree(folder(name), package / "_resources" / name, ignore=left_out)
        yield env.update(working_dir=place)


def _attempts(cluster: JobSubmissionClient, base: str) -> list[JobDetails]:
    """The jobs for one output that the cluster knows, in their order."""
    numbered = {}
    for job in cluster.list_jobs():
        head, _, number = (job.submission_id or "").rpartition("-")
        if head == base and number.isdecimal():
            numbered[int(number)] = job
    return [numbered[number] for number in sorted(numbered)]


def _is_over(job: JobDetails) -> bool:
    return bool(JobStatus(job.status).is_terminal())


def _ended(name: str, job: JobDetails) -> Ended:
    status, code = JobStatus(job.status), job.driver_exit_code
    well = status == JobStatus.SUCCEEDED
    return Ended(name, status.value, code if code and not well else int(not well))


def _unreached(address: str | None, error: Exception) -> str:
    where = address or " or ".join(os.environ.get(name, "") for name in _CLUSTERS).strip(" or") or "this machine"
    why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"no Ray takes jobs at {where}: {why}. Name the head's dashboard, as in --address http://HEAD:8265"


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """An environment without these variables."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
