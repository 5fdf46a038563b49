"""Submitting: one job for an output, found again by the same command. A stand-in for the cluster; real ones:
`tests/faults/test_submission.py`."""

from __future__ import annotations

import os
import shlex
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from facebatch import cli, config
from facebatch.cli.base import indexing
from facebatch.errors import FacebatchError, UsageError
from facebatch.pipeline import submission
from facebatch.pipeline.submission import Errand, send


class Cluster:
    """Keeps jobs, and refuses a submission id that it knows."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.files: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.quicker: str | None = None
        """What somebody else submits in the moment before us."""

    def submit_job(self, **given: Any) -> str:
        if self.quicker:
            self.add(self.quicker, JobStatus.RUNNING, given["metadata"])
            self.quicker = None
        if given["submission_id"] in self.jobs:
            raise RuntimeError(f"Job with submission_id {given['submission_id']} already exists")
        if place := given["runtime_env"].get("working_dir"):
            self.files = sorted(str(p.relative_to(place)) for p in Path(place).rglob("*") if p.is_file())
        self.sent.append(given)
        self.add(given["submission_id"], JobStatus.PENDING, given["metadata"])
        return str(given["submission_id"])

    def add(
        self, name: str, status: JobStatus, metadata: dict[str, str] | None = None, code: int | None = None
    ) -> None:
        self.jobs[name] = SimpleNamespace(
            submission_id=name, status=status, metadata=metadata, message=None, driver_exit_code=code
        )

    def list_jobs(self) -> list[Any]:
        return [*self.jobs.values(), SimpleNamespace(submission_id=None, status=JobStatus.RUNNING)]

    def get_address(self) -> str:
        return "http://head:8265"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.delenv("FACEBATCH_MODELS", raising=False)
    monkeypatch.setattr(submission, "_EVERY", 0.0)
    return Cluster()


def errand(*words: str, installed: bool = True, **given: Any) -> Errand:
    settings = config.load(None, words, inputs=("s3://b/photos",), output="s3://b/out", **given)
    return Errand.of(settings, installed)


def test_the_job_is_the_command_that_one_would_type_there() -> None:
    one = errand("run.batch=7", "run.address=10.0.0.1:6379", "run.labels=[team=photos]")
    program, *words = shlex.split(one.entrypoint)
    assert (program, words[:3]) == ("python", ["-m", "facebatch", "index"])
    arguments = cli._parsed(cli._parser(), words[2:])
    settings = indexing(arguments)
    assert (settings.inputs, settings.output) == (("s3://b/photos",), "s3://b/out")
    assert (settings.run.batch, settings.run.labels) == (7, ("team=photos",))
    assert settings.run.address is None, "which cluster is for the job to know that runs there"


def test_local_paths_are_whole_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACEBATCH_MODELS", raising=False)
    one = Errand.of(config.load(None, ["detect.weights=my.onnx"], inputs=("photos", "s3://b/x"), output="out"))
    assert one.local == [f"{tmp_path}/photos", f"{tmp_path}/out", f"{tmp_path}/my.onnx"]


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (["detect.pack=nope"], {}, "there is no detector pack 'nope'"),
        (["run.retry=[GATED]"], {}, "'GATED' cannot be retried"),
        ([], {"output": ""}, "nowhere to write to"),
        ([], {"output": "s3://me:secret@b/out"}, "has a password in it"),
        (["storage.endpoint=https://me:secret@minio"], {}, "has a password in it"),
        (["landmarks=nope"], {}, "there is no landmarks pack 'nope'"),
        (["detect.pack=edgeface-xs"], {}, "there is no detector pack 'edgeface-xs'"),
    ],
)
def test_what_no_cluster_could_run_is_refused_here(words: list[str], given: dict[str, Any], said: str) -> None:
    settings = config.load(None, words, **{"inputs": ("s3://b/photos",), "output": "s3://b/out", **given})
    with pytest.raises(UsageError, match=said) as refused:
        Errand.of(settings)
    assert "secret" not in str(refused.value)


def test_the_same_command_finds_the_job_that_it_has_started(cluster: Any) -> None:
    said: list[str] = []
    first = send(cluster, errand(), said.append)
    assert send(cluster, errand(), said.append) == first
    assert len(cluster.sent) == 1
    assert said[-1] == f"the job {first} is at work on this already"


@pytest.mark.parametrize("ended", [JobStatus.FAILED, JobStatus.STOPPED, JobStatus.SUCCEEDED])
def test_when_the_job_has_ended_the_next_one_goes_on(cluster: Any, ended: JobStatus) -> None:
    names = []
    for _ in range(11):
        names.append(send(cluster, errand(), lambda _: None))
        cluster.add(names[-1], ended)
    assert [name.rpartition("-")[2] for name in names] == [str(n) for n in range(1, 12)], "10 comes behind 9"
    assert len({name.rpartition("-")[0] for name in names}) == 1


def test_another_output_is_another_job(cluster: Any) -> None:
    other = Errand.of(config.load(None, [], inputs=("s3://b/photos",), output="s3://b/other"), True)
    assert send(cluster, errand(), lambda _: None) != send(cluster, other, lambda _: None)


def test_two_jobs_with_different_settings_do_not_fight_over_an_output(cluster: Any) -> None:
    first = send(cluster, errand(), lambda _: None)
    with pytest.raises(UsageError, match=f"the job {first} works on s3://b/out with other settings.*ray job stop"):
        send(cluster, errand("run.batch=7"), lambda _: None)
    assert len(cluster.sent) == 1


def test_of_two_that_submit_at_once_one_follows_the_other(cluster: Any) -> None:
    cluster.quicker = f"{errand().submission_id}-1"
    assert send(cluster, errand(), lambda _: None) == f"{errand().submission_id}-1"
    assert cluster.sent == []


def test_what_ray_refuses_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> str:
        raise RuntimeError("Request failed with status code 413\nRequest Entity Too Large")

    monkeypatch.setattr(cluster, "submit_job", refuse)
    with pytest.raises(FacebatchError, match="Ray refused the job: Request Entity Too Large"):
        send(cluster, errand(), lambda _: None)


def test_the_code_travels_as_a_wheel_has_it(cluster: Any) -> None:
    send(cluster, errand(installed=False), lambda _: None)
    assert {"facebatch/__main__.py", "facebatch/_resources/models/facebatch.yaml"} <= set(cluster.files)
    assert {"facebatch/_resources/models/facebatch-detector.onnx", "facebatch/_resources/conf/local.yaml"} <= set(
        cluster.files
    )
    assert not [file for file in cluster.files if "__pycache__" in file or file.startswith("tests")]
    place = Path(cluster.sent[0]["runtime_env"]["working_dir"])
    assert not place.exists(), "it is removed when it is sent"


def test_what_is_installed_there_is_used_where_that_is_asked_for(cluster: Any) -> None:
    send(cluster, errand(installed=True), lambda _: None)
    assert cluster.sent[0]["runtime_env"] == {}


def test_the_place_of_the_weights_goes_along_and_its_password_does_not(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEBATCH_MODELS", "s3://b/models")
    send(cluster, errand(), lambda _: None)
    assert cluster.sent[0]["runtime_env"] == {"env_vars": {"FACEBATCH_MODELS": "s3://b/models"}}
    monkeypatch.setenv("FACEBATCH_MODELS", "https://me:secret@b/models")
    with pytest.raises(UsageError, match="has a password in it"):
        errand()


def test_where_no_ray_takes_jobs_it_says_how_to_name_one() -> None:
    pytest.importorskip("aiohttp", reason="needs the extra `cluster`")
    with pytest.raises(UsageError, match="no Ray takes jobs at http://127.0.0.1:1: .*as in --address http://HEAD:8265"):
        submission.client("http://127.0.0.1:1")


def test_a_cluster_that_asks_for_a_token_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra `cluster`")

    def refuse(address: str) -> None:
        raise AuthenticationError("Unauthorized")

    monkeypatch.setattr(submission, "JobSubmissionClient", refuse)
    with pytest.raises(UsageError, match="the Ray at http://head:8265 asks for a token.*auth_token, and set RAY_AUTH_"):
        submission.client("http://head:8265")


def test_an_address_that_is_named_wins_over_those_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra `cluster`")
    seen = []
    monkeypatch.setenv("RAY_ADDRESS", "http://elsewhere:8265")

    def connect(address: str | None) -> None:
        seen.append((address, os.environ.get("RAY_ADDRESS")))

    monkeypatch.setattr(submission, "JobSubmissionClient", connect)
    submission.client("http://head:8265")
    submission.client(None)
    assert seen == [("http://head:8265", None), (None, "http://elsewhere:8265")]
    assert os.environ["RAY_ADDRESS"] == "http://elsewhere:8265"


def test_with_a_slash_at_its_end_or_without_it_is_the_same_output() -> None:
    with_slash = Errand.of(config.load(None, [], inputs=("s3://b/photos",), output="s3://b/out/"), True)
    assert with_slash == errand()


def test_numbers_of_jobs_that_were_deleted_are_not_waited_for(cluster: Any) -> None:
    for number in (2, 3):
        cluster.add(f"{errand().submission_id}-{number}", JobStatus.FAILED)
    assert send(cluster, errand(), lambda _: None).endswith("-4")


def test_other_weights_are_another_errand(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    send(cluster, errand(), lambda _: None)
    monkeypatch.setenv("FACEBATCH_MODELS", "/other/models")
    with pytest.raises(UsageError, match="with other settings"):
        send(cluster, errand(), lambda _: None)
    assert "/other/models" in errand().local, "which is said"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"env_vars": {"A": 1}}, "does not take the runtime environment: .*numbers in env_vars need quotes"),
        ({"pip": "there-is-none.txt"}, "does not take the runtime environment"),
        ({"config": {"x": date(2026, 1, 1)}}, "does not take the runtime environment"),
        ({"working_dir": "."}, "names a working_dir"),
    ],
)
def test_what_ray_would_stumble_over_is_refused_here(env: dict[str, Any], said: str) -> None:
    settings = config.load(None, [], inputs=("s3://b/photos",), output="s3://b/out")
    with pytest.raises(UsageError, match=said):
        Errand.of(settings, False, env)


def test_an_empty_list_of_variables_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBATCH_MODELS", "s3://b/models")
    settings = config.load(None, [], inputs=("s3://b/photos",), output="s3://b/out")
    assert Errand.of(settings, True, {"env_vars": None}).runtime_env == {
        "env_vars": {"FACEBATCH_MODELS": "s3://b/models"}
    }


def test_a_cluster_that_does_not_tell_its_jobs_is_no_trace(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Any]:
        raise RuntimeError("Request failed with status code 500")

    monkeypatch.setattr(cluster, "list_jobs", fail)
    with pytest.raises(FacebatchError, match="does not say which jobs it has: Request failed with status code 500"):
        send(cluster, errand(), lambda _: None)


def test_a_pattern_that_begins_like_an_option_stays_one() -> None:
    settings = config.load(None, [], inputs=("s3://b/photos",), output="s3://b/out", exclude=("-x/**",))
    words = shlex.split(Errand.of(settings, True).entrypoint)
    assert indexing(cli._parsed(cli._parser(), words[3:])).exclude == ("-x/**",)


def test_a_cluster_that_has_only_just_begun_is_waited_for(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, refusals, said = cluster.submit_job, [1, 2, 3], list[str]()

    def begin(**given: Any) -> str:
        if refusals:
            refusals.pop()
            raise RuntimeError("Request failed with status code 500: No available agent to submit job.")
        return str(submit(**given))

    monkeypatch.setattr(cluster, "submit_job", begin)
    send(cluster, errand(), said.append)
    assert said[0] == "the cluster has only just begun; waiting until it takes jobs"
    assert len(said) == 2
    refusals.append(1)
    monkeypatch.setattr(submission, "_BEGINNING", -1.0)
    cluster.jobs.clear()
    with pytest.raises(FacebatchError, match="Ray refused the job: .*No available agent"):
        send(cluster, errand(), said.append)
