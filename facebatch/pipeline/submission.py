"""Submitting: the run of a configuration as a job of a cluster, checked here, sent once, and sent again to go on.

One job at a time works on an output. Its submission id comes from the output, so that the same command finds the job
that it has started, whoever types it and from where, and Ray refuses a second one of the same id. When a job has ended,
the next one has the next number: it goes on from what was committed.
"""

from __future__ import annotations

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

from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from ray.runtime_env import RuntimeEnv

import facebatch
from facebatch import config, networks, packs, release
from facebatch.config import Config
from facebatch.errors import FacebatchError, UsageError
from facebatch.resources import folder
from facebatch.storage import absolute, refuse_secrets, scheme

Say = Callable[[str], object]
_ASKED = "facebatch_asked"
"""Of a job's metadata: a digest of what it was asked to do."""
_EVERY, _BEGINNING = 1.0, 120.0
"""Seconds until another try where somebody else was quicker; and that a cluster's head takes, once it is there, until
it takes jobs."""
_LEFT_OUT = ("__pycache__", "*.pyc", "*.md", "*.png", "_resources")
_TALKATIVE = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_CLUSTERS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""By which Ray overrides an address that it is given."""
_PLACES = ("--input", "--output", "--base-uri")
_MODELS = "FACEBATCH_MODELS"


@dataclass(frozen=True)
class Errand:
    """What a cluster is to be told. installed: it has a facebatch of its own, and this one is not sent along."""

    words: tuple[str, ...]
    """Of `facebatch index`."""
    output: str
    installed: bool = False
    runtime_env: Mapping[str, Any] | None = None
    """Of Ray's: as `RuntimeEnv` takes it."""

    @classmethod
    def of(cls, settings: Config, installed: bool = False, runtime_env: Mapping[str, Any] | None = None) -> Errand:
        """Checked as far as it can be from here: the archive and the weights are for the cluster to reach.

        Raises UsageError for what no cluster could run, and for secrets, which the job's log and Ray's dashboard would
        show.
        """
        if not settings.output:
            raise UsageError("there is nowhere to write to: name a folder or URI with --output")
        release.chosen(settings.run.retry)
        if settings.storage.endpoint:
            refuse_secrets(settings.storage.endpoint)
        if not installed:  # another facebatch may have other packs
            _check_packs(settings)
        settings = replace(
            settings,
            inputs=tuple(map(absolute, settings.inputs)),
            output=absolute(settings.output).rstrip("/"),  # with a slash or without, it is the same dataset
            base_uri=_absolute(settings.base_uri),
            detect=replace(settings.detect, weights=_absolute(settings.detect.weights)),
            embed=replace(settings.embed, weights=_absolute(settings.embed.weights)),
            gate=replace(settings.gate, weights=_absolute(settings.gate.weights)),
            run=replace(settings.run, address=None),  # of the cluster that runs it
        )
        words = tuple(config.words(config.as_dict(settings)))
        return cls(words, settings.output, installed, _environment(runtime_env or {}, installed))

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
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def local(self) -> list[str]:
        """Paths in it that have to be the same on the cluster's machines."""
        named = [word for before, word in zip(("", *self.words), self.words, strict=False) if before in _PLACES]
        named += [word.partition("=")[2] for word in self.words if word.partition("=")[0].endswith(".weights")]
        named += [(self.runtime_env or {}).get("env_vars", {}).get(_MODELS, "")]
        return [word for word in named if word and not scheme(word)]


class _Beginning(FacebatchError):
    """A head whose part that takes jobs is not there yet."""


def client(address: str | None) -> JobSubmissionClient:
    """A cluster that takes jobs. address: http://HEAD:8265; where it is None, Ray's own variables name it.

    Raises UsageError where none answers there, or Ray's own client is not whole.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    if find_spec("aiohttp") is None:
        raise UsageError("submitting needs another package: pip install 'facebatch[cluster]'")
    if address and address != "auto" and not scheme(address):
        address = f"http://{address}"  # which Ray would take for a cluster's own port, and wait there
    try:
        with _without(_CLUSTERS if address else ()):
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise UsageError(
            f"the Ray at {address or 'the address in the environment'} asks for a token: put the cluster's into "
            "~/.ray/auth_token, and set RAY_AUTH_MODE=token"
        ) from error
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UsageError(_unreached(address, error)) from error


def send(cluster: JobSubmissionClient, errand: Errand, say: Say) -> str:
    """The submission id of the job that does this: the one that is at work already, or a new one.

    Raises UsageError where one with other settings works on the same output, FacebatchError where Ray refuses.
    """
    started, beginning = time.monotonic(), False
    while True:
        jobs = _attempts(cluster, errand.submission_id)
        last = max(jobs, default=0)
        if last and not JobStatus(jobs[last].status).is_terminal():
            name = f"{errand.submission_id}-{last}"
            if (jobs[last].metadata or {}).get(_ASKED) != errand.digest:
                raise UsageError(
                    f"the job {name} works on {errand.output} with other settings. Wait for it, or stop it with "
                    f"{stop(cluster, name)}; what it has committed stays"
                )
            say(f"the job {name} is at work on this already")
            return name
        name = f"{errand.submission_id}-{last + 1}"
        for path in () if beginning else errand.local:
            say(f"{path} has to be in the same place on all nodes of the cluster")
        try:
            if _sent(cluster, errand, name):
                say(f"the job {name} is submitted{' and goes on from what was committed' if jobs else ''}")
                return name
        except _Beginning:
            if time.monotonic() - started > _BEGINNING:
                raise
            if not beginning:
                say("the cluster has only just begun; waiting until it takes jobs")
            beginning = True
        time.sleep(_EVERY)


def stop(cluster: JobSubmissionClient, name: str) -> str:
    """What to type to stop a job."""
    return f"`ray job stop {name} --address {cluster.get_address()}`"


def _absolute(uri: str | None) -> str | None:
    return absolute(uri) if uri else None


def _check_packs(settings: Config) -> None:
    """Raises UsageError for a pack that there is not, or that is of another kind."""
    detector = packs.pack(settings.detect.pack, "detector")
    packs.pack(settings.embed.pack, "embedder")
    if settings.gate.model:
        packs.pack(settings.gate.model, "detector")
    if landmarks := networks.landmark_pack(settings, detector):
        packs.pack(landmarks, "landmarks")


def _environment(given: Mapping[str, Any], installed: bool) -> dict[str, Any]:
    """The runtime environment that the user wants, and in it where weights are. Raises UsageError for one that is
    none."""
    env = dict(given)
    if "working_dir" in env and not installed:
        raise UsageError("the runtime environment names a working_dir, which facebatch needs for itself: --installed")
    if models := os.environ.get(_MODELS):
        refuse_secrets(models)
        env["env_vars"] = {_MODELS: absolute(models), **(env.get("env_vars") or {})}
    try:
        RuntimeEnv(**env)
        json.dumps(env)
    except (TypeError, ValueError, OSError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"Ray does not take the runtime environment: {why}; numbers in env_vars need quotes") from None
    return env


def _sent(cluster: JobSubmissionClient, errand: Errand, name: str) -> bool:
    """False where somebody else has just sent one of this name."""
    env = dict(errand.runtime_env or {})
    with _code(None if errand.installed else env):
        try:
            cluster.submit_job(
                entrypoint=errand.entrypoint,
                submission_id=name,
                runtime_env=env,
                metadata={_ASKED: errand.digest, "output": errand.output},
            )
        except (OSError, RuntimeError, ValueError, RayError) as error:
            if "already exists" in str(error):
                return False
            kind = _Beginning if "No available agent" in str(error) else FacebatchError
            raise kind(f"Ray refused the job: {str(error).strip().splitlines()[-1]}") from error
    return True


@contextmanager
def _code(env: dict[str, Any] | None) -> Iterator[None]:
    """Put this facebatch into a runtime environment, as a wheel would have it: code, packs and built-in models."""
    if env is None:
        yield
        return
    with TemporaryDirectory(prefix="facebatch-submit-") as place:
        package = Path(place) / "facebatch"
        left_out = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(Path(facebatch.__file__).parent, package, ignore=left_out)
        for name in ("models", "conf"):
            shutil.copytree(folder(name), package / "_resources" / name, ignore=left_out)
        yield env.update(working_dir=place)


def _attempts(cluster: JobSubmissionClient, base: str) -> dict[int, JobDetails]:
    """The jobs for one output that the cluster knows, by number."""
    numbered = {}
    try:
        jobs = cluster.list_jobs()
    except (OSError, RuntimeError, RayError) as error:
        raise FacebatchError(f"the cluster does not say which jobs it has: {str(error).strip()[:300]}") from error
    for job in jobs:
        head, _, number = (job.submission_id or "").rpartition("-")
        if head == base and number.isdecimal():
            numbered[int(number)] = job
    return numbered


def _unreached(address: str | None, error: Exception) -> str:
    named = [os.environ[name] for name in _CLUSTERS if name in os.environ]
    why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    where = address or " or ".join(named) or "this machine"
    return f"no Ray takes jobs at {where}: {why}. Name the head's dashboard, as in --address http://HEAD:8265"


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """An environment without these variables."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
