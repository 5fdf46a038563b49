"""What a user sees when storage fails in the middle of a run, and that no row is lost, doubled, or wrongly final.

The real `index` over moto and over Ceph's gateway, behind a proxy that lets requests fail; only the networks are made
up, by the stand-in of `tests.faults.world`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from facebatch import config
from facebatch.dataset import Dataset
from facebatch.errors import FacebatchError
from facebatch.pipeline import index as pipeline
from facebatch.reasons import Reason
from facebatch.storage import Storage
from facebatch.summary import Summary
from facebatch.verify import verify
from tests.faults.proxy import Fault, Proxy, Rule, cut, drip, lost, reset, status
from tests.faults.world import World
from tests.s3 import S3, S3_CREDENTIALS
from tests.test_sink import FACTS

pytestmark = pytest.mark.faults
NAMES = tuple(f"{k:02d}.jpg" for k in range(20))
ALL_OK = dict.fromkeys(NAMES, ("ok", None))
SLOW_DOWN, DENIED, EXPIRED = status(503, "SlowDown"), status(403, "AccessDenied"), status(400, "ExpiredToken")
NO_SUCH_KEY = status(404, "NoSuchKey")


@dataclass
class Far:
    """An archive in `photos/` and a dataset in `out/` of a bucket, which runs reach through a proxy."""

    s3: S3
    proxy: Proxy
    root: Path

    def __post_init__(self) -> None:
        self.world = World(self.root, archive=self.photos, bundle=8)
        server = boto3.resource("s3", endpoint_url=self.s3.endpoint, region_name="us-east-1")
        self.bucket = server.Bucket(self.s3.bucket)
        for name in NAMES:
            self.bucket.put_object(Key=f"photos/{name}", Body=b"face " + name.encode() * 20)

    @property
    def photos(self) -> str:
        return f"s3://{self.s3.bucket}/photos"

    @property
    def dataset(self) -> Dataset:
        """As somebody sees it for whom nothing fails."""
        return Dataset.at(Storage(self.s3.options), f"s3://{self.s3.bucket}/out")

    def fails(self, fault: Fault, **when: object) -> None:
        self.proxy.rules.append(Rule(fault, **when))  # type: ignore[arg-type]

    def mend(self) -> None:
        self.proxy.rules.clear()

    def run(self, *words: str) -> Summary:
        """A whole run; raises what `index` raises."""
        storage = [f"storage.endpoint={self.proxy.url}", "storage.region=us-east-1"]
        storage += ["storage.retries=3", "storage.timeout=2"]
        settings = config.load(
            None, [*storage, *words], inputs=(self.photos + "/",), output=f"s3://{self.s3.bucket}/out"
        )
        return pipeline.index(settings, Console(file=io.StringIO(), width=500))

    def computed(self) -> list[str]:
        """What went through the stages, in all runs."""
        return self.world.computed

    def rows(self) -> dict[str, tuple[str, str | None]]:
        """Status and reason of every image; a name that stands in two rows fails, and so does a damaged dataset."""
        assert verify(self.dataset).problems == []
        found: dict[str, tuple[str, str | None]] = {}
        for row in self._table("images").to_pylist():
            name = row["uri"].removeprefix(f"{self.photos}/")
            assert name not in found, f"{name} stands in two rows"
            found[name] = (row["status"], row["reason"])
        return found

    def objects(self) -> set[str]:
        return {found.key for found in self.bucket.objects.filter(Prefix="out/")}

    def _table(self, name: str) -> pa.Table:
        files = list(self.bucket.objects.filter(Prefix=f"out/{name}/"))
        return pa.concat_tables([pq.read_table(io.BytesIO(found.get()["Body"].read())) for found in files])


@pytest.fixture(params=["s3", "rgw"])
def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Far]:
    s3: S3 = request.getfixturevalue(request.param)
    assert S3_CREDENTIALS.items() <= os.environ.items()
    proxy = Proxy(s3.endpoint)
    proxy.start()
    made = Far(s3, proxy, tmp_path)
    facts = {**FACTS, "contract": {}, "relative": False}
    monkeypatch.setattr(pipeline, "_networks", lambda *_: None)
    monkeypatch.setattr(pipeline, "facts_of", lambda *_: facts)
    monkeypatch.setattr(pipeline, "_compute", made.world.compute)
    yield made
    proxy.stop()


# What passes is waited for: the user sees nothing of it.


@pytest.mark.parametrize("fault", [SLOW_DOWN, status(500, "InternalError"), reset, cut, drip])
def test_reads_that_fail_twice_are_made_again(far: Far, fault: Fault) -> None:
    far.fails(fault, part="photos/05.jpg", times=2)
    far.run()
    assert far.proxy.met == 2
    assert far.rows() == ALL_OK


@pytest.mark.parametrize("fault", [SLOW_DOWN, reset, lost])
def test_writes_that_fail_twice_are_made_again_and_count_once(far: Far, fault: Fault) -> None:
    for folder in ("out/images/", "out/faces/", "out/_facebatch/records/", "out/_facebatch/plan/"):
        far.fails(fault, method="PUT", part=folder, times=2)
    far.run()
    assert far.proxy.met == 8
    assert far.rows() == ALL_OK


@pytest.mark.parametrize("fault", [SLOW_DOWN, reset, cut])
def test_listings_that_fail_twice_are_made_again(far: Far, fault: Fault) -> None:
    far.fails(fault, part="prefix=photos", times=2)
    far.run()
    assert far.proxy.met == 2
    assert far.rows() == ALL_OK


def test_a_listing_of_several_pages_that_breaks_off_goes_on_where_it_was(far: Far) -> None:
    names = {f"many/{k:04d}{'-' if k % 3 else '/'}x.jpg" for k in range(1500)}
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: far.bucket.put_object(Key=name, Body=b"x"), names))
    far.fails(cut, part="prefix=many", after=1, times=1)
    options = replace(far.s3.options, endpoint=far.proxy.url, retries=3)
    root = f"s3://{far.s3.bucket}/"
    found = [entry.uri.removeprefix(root) for entry in Storage(options).objects(f"{root}many")]
    assert far.proxy.met == 1
    assert sorted(found) == sorted(names), "each once"


# A single object that stays out of reach costs its own row, and is tried again by the next run.


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (NO_SUCH_KEY, Reason.NOT_FOUND),
        (DENIED, Reason.ACCESS_DENIED),
        (EXPIRED, Reason.ACCESS_DENIED),
        (SLOW_DOWN, Reason.STORAGE_ERROR),
        (reset, Reason.STORAGE_ERROR),
        (cut, Reason.STORAGE_ERROR),
    ],
)
def test_an_object_that_cannot_be_read_is_a_row_that_is_tried_again(far: Far, fault: Fault, reason: Reason) -> None:
    far.fails(fault, part="photos/05.jpg")
    with pytest.raises(FacebatchError, match=rf"1 images failed for reasons outside them \({reason} 1\)"):
        far.run()
    assert far.rows() == ALL_OK | {"05.jpg": ("failed", reason)}
    far.mend()
    far.run()
    assert far.rows() == ALL_OK
    assert far.computed().count("05.jpg") == 1
    assert len(far.computed()) == len(NAMES), "and nothing else is computed again"


# What concerns everything ends the run with a sentence; the same command goes on.


def test_a_listing_that_fails_plans_nothing(far: Far) -> None:
    far.fails(SLOW_DOWN, part="prefix=photos")
    with pytest.raises(FacebatchError, match=r"photos/?: .*(503|SlowDown)"):
        far.run()
    assert not [name for name in far.objects() if "/plan/" in name]
    far.mend()
    far.run()
    assert far.rows() == ALL_OK


def test_credentials_that_expire_while_images_are_read_cost_the_rest_of_them_a_row_each(far: Far) -> None:
    far.fails(EXPIRED, part="photos/", after=8)
    with pytest.raises(FacebatchError, match=r"\d+ images failed for reasons outside them \(ACCESS_DENIED \d+\)"):
        far.run()
    rows = far.rows()
    assert set(rows) == set(NAMES)
    assert set(rows.values()) == {("ok", None), ("failed", Reason.ACCESS_DENIED)}
    far.mend()
    far.run()
    assert far.rows() == ALL_OK
    assert len(far.computed()) == len(NAMES)


@pytest.mark.parametrize("fault", [EXPIRED, DENIED, SLOW_DOWN, reset])
@pytest.mark.parametrize("folder", ["out/images/", "out/_facebatch/records/"])
def test_an_output_that_takes_no_more_writes_ends_the_run_and_loses_nothing(
    far: Far, fault: Fault, folder: str
) -> None:
    far.fails(fault, method="PUT", part=folder, after=1)
    with pytest.raises(FacebatchError, match=rf"s3://.*{folder}"):
        far.run()
    far.mend()
    far.run()
    assert far.rows() == ALL_OK


def test_an_output_that_may_only_be_read_is_refused_before_anything_is_read(far: Far) -> None:
    far.fails(DENIED, method="PUT POST DELETE")
    with pytest.raises(FacebatchError, match=r"s3://.*out/_facebatch.*"):
        far.run()
    assert far.computed() == []
    assert far.objects() == set()


def test_a_ledger_that_cannot_be_read_is_not_taken_for_an_empty_one(far: Far) -> None:
    far.run()
    before = far.objects()
    far.fails(SLOW_DOWN, part="_facebatch/records/")
    with pytest.raises(FacebatchError, match="records"):
        far.run()
    far.mend()
    far.run()
    assert far.rows() == ALL_OK
    assert len(far.computed()) == len(NAMES), "nothing is computed twice"
    assert {name for name in far.objects() if "/images/" in name} == {name for name in before if "/images/" in name}
