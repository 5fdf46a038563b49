"""Credentials: found where AWS's own tools find them, taken along to workers, shown to no one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from facebatch import config
from facebatch.errors import UsageError
from facebatch.storage import Storage, StorageError, absolute, masked
from facebatch.storage.credentials import Credentials, gather
from tests.s3 import S3
from tests.storage.server import Server, status

SECRET = "wJalrXUtnFEMI/K7MDENG"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with the two files of AWS."""
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = default%secret\n"
        f"[minio]\naws_access_key_id = AKIAMINIO\naws_secret_access_key = {SECRET}\naws_session_token = t%ken\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\n"
        "[profile minio]\nregion = eu-north-1\nendpoint_url = http://minio:9000\n"
        "[profile ceph]\nservices = lab\naws_access_key_id = AKIACEPH\naws_secret_access_key = ceph-secret\n"
        "[services lab]\ns3 =\n  endpoint_url = http://ceph:7480\nec2 =\n  endpoint_url = http://ec2\n"
        "[profile sso]\nsso_session = work\n[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = minio\n"
        "[profile process]\ncredential_process = /bin/vault\n[profile empty]\nregion = eu-west-1\n"
    )
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }


def found(environment: dict[str, str], **options: object) -> dict[str, str]:
    return gather(config.Storage(**options), environment).of("s3")  # type: ignore[arg-type]


def test_a_profile_gives_keys_region_and_endpoint(home: dict[str, str]) -> None:
    assert found(home, profile="minio") == {
        "access_key_id": "AKIAMINIO",
        "secret_access_key": SECRET,
        "session_token": "t%ken",
        "region": "eu-north-1",
        "endpoint": "http://minio:9000",
    }
    assert found(home, profile="default")["region"] == "eu-west-1"
    assert found(home, profile="ceph")["endpoint"] == "http://ceph:7480"


def test_the_files_of_the_home_folder_are_the_usual_place(
    tmp_path: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    for file in ("credentials", "config"):
        (tmp_path / file).rename(folder / file)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert found({}, profile="minio")["access_key_id"] == "AKIAMINIO"


def test_without_a_profile_no_file_is_read(home: dict[str, str]) -> None:
    assert found(home) == {}


def test_a_profile_that_is_asked_for_wins_over_keys_in_the_environment(home: dict[str, str]) -> None:
    given = {**home, **KEYS, "AWS_SESSION_TOKEN": "of the environment"}
    assert found(given, profile="ceph") == {
        "access_key_id": "AKIACEPH",
        "secret_access_key": "ceph-secret",
        "endpoint": "http://ceph:7480",
    }


def test_the_environments_profile_counts_only_without_keys_there(home: dict[str, str]) -> None:
    assert found({**home, "AWS_PROFILE": "minio"})["access_key_id"] == "AKIAMINIO"
    assert found({**home, **KEYS, "AWS_PROFILE": "minio"})["access_key_id"] == "AKIAEXAMPLE"


def test_region_and_endpoint_of_the_environment_win_over_the_profiles(home: dict[str, str]) -> None:
    given = {**home, "AWS_REGION": "here", "AWS_ENDPOINT_URL": "http://other", "AWS_ENDPOINT_URL_S3": "http://s3"}
    both = found(given, profile="minio")
    assert (both["region"], both["endpoint"]) == ("here", "http://s3")


def test_the_settings_win_over_the_profile(home: dict[str, str], server: Server) -> None:
    server.files["/b/a"] = b"a"
    options = config.Storage(profile="minio", endpoint=server.url, region="mine", retries=0)
    Storage(options, gather(options, home)).read("s3://b/a")
    assert "Credential=AKIAMINIO/" in server.log[0].headers["authorization"]
    assert "/mine/s3/" in server.log[0].headers["authorization"]
    assert server.log[0].headers["x-amz-security-token"] == "t%ken"


@pytest.mark.parametrize(
    ("name", "why"),
    [("sso", "sso_session"), ("role", "role_arn"), ("process", "credential_process"), ("empty", "none at all")],
)
def test_a_profile_without_keys_of_its_own_says_what_to_do(home: dict[str, str], name: str, why: str) -> None:
    expected = rf"{name}.*{why}.*aws configure export-credentials --profile {name} --format env"
    with pytest.raises(UsageError, match=expected):
        found(home, profile=name)
    with pytest.raises(UsageError, match=expected):
        found({**home, "AWS_PROFILE": name})
    assert found({**home, "AWS_PROFILE": "empty"}, anonymous=True) == {"region": "eu-west-1"}


def test_a_profile_that_is_not_there_names_the_files(home: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"no AWS profile 'nosuch'.*credentials.*config"):
        found(home, profile="nosuch")
    with pytest.raises(UsageError, match="no AWS profile"):
        found({**home, "AWS_CONFIG_FILE": "/no", "AWS_SHARED_CREDENTIALS_FILE": "/no"}, profile="minio")


def test_what_is_wrong_with_one_kind_is_no_matter_to_others(home: dict[str, str], tmp_path: Path) -> None:
    given = {**home, "AWS_PROFILE": "sso", "GOOGLE_APPLICATION_CREDENTIALS": "/no/such.json"}
    storage = Storage(credentials=gather(config.Storage(), given))
    (tmp_path / "a").write_bytes(b"a")
    assert pickle.loads(pickle.dumps(storage)).read(str(tmp_path / "a"))[0] == b"a"
    with pytest.raises(UsageError, match="sso"):
        storage.read("s3://b/a")
    with pytest.raises(UsageError, match="/no/such.json cannot be read: No such file"):
        storage.read("gs://b/a")


def test_a_file_that_is_none_of_aws_is_not_quoted(home: dict[str, str], tmp_path: Path) -> None:
    for content in (f"aws_secret_access_key = {SECRET}", f"[minio]\n{SECRET}\n", f"[minio\nx = {SECRET}"):
        (tmp_path / "credentials").write_text(content)
        with pytest.raises(UsageError, match="credentials is no valid AWS file") as error:
            found(home, profile="minio")
        assert SECRET not in f"{error.value!r}{error.value.__cause__!r}"


def test_google_and_azure_and_fsspec_are_gathered_with_the_content_of_files(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"private_key": "x"}')
    given = gather(
        config.Storage(),
        {
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
            "AZURE_STORAGE_ACCOUNT_NAME": "account",
            "AZURE_CLIENT_SECRET": SECRET,
            "FSSPEC_SFTP_PASSWORD": "pass",
            "PATH": "/bin",
        },
    )
    assert given.of("gs") == {"application_credentials": '{"private_key": "x"}'}
    assert given.of("az") == {"account_name": "account", "client_secret": SECRET}
    assert given.of("fsspec") == {"FSSPEC_SFTP_PASSWORD": "pass"}
    assert given.of("s3") == {}


WORKER = """
import os, pickle, sys
assert not [name for name in os.environ if name.startswith("AWS")]
storage, uri = pickle.load(sys.stdin.buffer)
data, found = storage.read(uri)
assert storage.create(uri + ".copy", data), "and writes"
sys.stdout.buffer.write(data)
"""


def test_a_worker_without_any_environment_reads_with_what_the_driver_had(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    storage, uri = Storage(s3.options), f"s3://{s3.bucket}/a"
    storage.put(uri, b"from far away")
    answer = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=pickle.dumps((storage, uri)),
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode()
    assert answer.stdout == b"from far away"
    assert storage.read(f"{uri}.copy")[0] == b"from far away"


def test_a_worker_uses_its_own_environment_for_what_the_driver_does_not_have(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/b/a"] = b"a"
    sent = pickle.dumps(Storage(config.Storage(endpoint=server.url), gather(config.Storage(), {})))
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    pickle.loads(sent).read("s3://b/a")
    assert "Credential=AKIAEXAMPLE/" in server.log[0].headers["authorization"]


def test_nothing_shows_a_secret(home: dict[str, str], server: Server) -> None:
    options = config.Storage(profile="minio", endpoint=server.url, retries=0, timeout=1)
    storage = Storage(options, gather(options, home))
    settings = config.load(None, ["storage.profile=minio"])
    texts = [repr(storage), str(storage), repr(storage.credentials), str(storage.credentials), f"{storage.credentials}"]
    texts += [str(settings), repr(settings), str(config.as_dict(settings))]
    assert "s3.secret_access_key" in repr(storage), "the names are shown"
    for fault in (status(403, body=b"<Error><Code>SignatureDoesNotMatch</Code></Error>"), status(404), status(500)):
        server.always = fault
        for call in (storage.read, storage.open, lambda uri: list(storage.objects(uri))):
            with pytest.raises(StorageError) as error:
                call("s3://b/a")
            chain: BaseException | None = error.value
            while chain is not None:
                texts += [str(chain), repr(chain)]
                chain = chain.__cause__ or chain.__context__
    assert len(texts) > 20
    assert not [text for text in texts if SECRET in text or "t%ken" in text]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://user:s3cret@host/x?y=1", "https://user:***@host/x?y=1"),
        ("https://user:s3:cr@t@host:8080/x", "https://user:***@host:8080/x"),
        ("s3://AKIAX:s3cret@bucket/a.jpg", "s3://AKIAX:***@bucket/a.jpg"),
        ("s3://AKIAX:s3/cr+et@bucket/a.jpg", "s3://AKIAX:***@bucket/a.jpg"),
        ("sftp://me:s3cret@nas/photos", "sftp://me:***@nas/photos"),
        ("HTTPS://:s3cret@host/", "HTTPS://:***@host/"),
    ],
)
def test_a_uri_with_a_password_is_refused_and_shown_without_it(given: str, shown: str) -> None:
    assert masked(given) == shown
    with pytest.raises(UsageError) as error:
        absolute(given)
    assert shown in str(error.value)
    assert "s3" not in repr(error.value).replace("s3://", "")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/me@home: 1.jpg",
        "s3://bucket/a:b@c.jpg",
        "https://host:8080/me@home.jpg",
        "https://host/x?mail=a:b@c",
        "sftp://me@nas/photos",
        "/photos/a:b@c.jpg",
        "az://container/a@b",
    ],
)
def test_an_at_sign_that_hides_no_password_is_part_of_the_name(uri: str) -> None:
    assert absolute(uri) == uri


def test_short_values_are_words_and_are_not_hidden() -> None:
    assert Credentials({"s3": {"region": "test", "secret_access_key": SECRET}}).hide(f"test {SECRET}") == "test ***"
