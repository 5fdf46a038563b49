"""The page in a real browser: headless Chromium shows what the tables hold, draws all of it, and asks nobody for
anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import ledger
from facebatch.dataset import Dataset
from facebatch.reporting.contact import Sheet, Tile
from facebatch.reporting.figures import gather
from facebatch.reporting.page import html
from facebatch.reporting.words import shown
from tests.conftest import encode
from tests.reporting.conftest import HOSTILE, rows
from tests.reporting.reading import Page

pytestmark = pytest.mark.browser
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass(frozen=True)
class Shown:
    """What the browser made of a page: its document, the messages it logged, and how many pixels have which colour."""

    page: Page
    log: list[str]
    colours: Counter[int]


def _opened(file: Path, *words: str) -> Shown:
    if _CHROMIUM is None:
        pytest.skip("needs Chromium: install the package chromium")
    picture = file.with_suffix(".png")
    common = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars", *words]
    common += [f"--user-data-dir={file.with_suffix('.profile')}", "--disable-background-networking", "--no-first-run"]
    dumped, drawn = (
        subprocess.run(
            [_CHROMIUM, *common, *what, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        for what in (["--dump-dom"], ["--window-size=1200,9000", f"--screenshot={picture}"])
    )
    log = [line for run in (dumped, drawn) for line in run.stderr.splitlines()]
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    colours, times = np.unique(pixels, return_counts=True)
    return Shown(Page(dumped.stdout), log, Counter(dict(zip(colours.tolist(), times.tolist(), strict=True))))


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A page that runs a script, asks for an address and is not ours: what the test below must be able to see."""
    file = tmp_path_factory.mktemp("other") / "page.html"
    file.write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\"><table id='t'></table>"
        "<script>document.title = 'ran'</script><img src='https://evil.example/x.png'>"
    )
    return _opened(file)


def _complaints(log: list[str]) -> list[str]:
    """What the page itself is told off for: console messages, and anything about loading."""
    return [line for line in log if re.search(r"CONSOLE|Refused|Content Security|net_error|ERR_", line)]


def test_the_complaints_that_are_looked_for_are_seen_where_there_is_reason(scripted: Shown) -> None:
    assert len(_complaints(scripted.log)) >= 2


def test_the_page_opens_in_chromium_with_the_numbers_of_the_tables(local: Dataset, tmp_path: Path) -> None:
    report = gather(local, ledger.state(local))
    tiles = [
        Tile(name, 0.9, 0.8, ("LOW_SHARPNESS",), encode(np.full((112, 112, 3), 90, np.uint8), "JPEG"))
        for name in HOSTILE
    ]
    file = tmp_path / "report.html"
    file.write_text(html(report, Sheet(99, len(tiles), 0, tiles)), encoding="utf-8")
    seen = _opened(file)
    assert _complaints(seen.log) == []
    page, images, faces = seen.page, rows(local, "images"), rows(local, "faces")

    statuses = Counter(row["status"] for row in images)
    assert page.counts("images", "images", "status") == {
        **{(status,): statuses[status] for status in ("ok", "no_face", "failed", "skipped")}, ("all",): len(images),
    }  # fmt: skip
    assert page.counts("reasons", "images", "reason", "status") == Counter(
        (row["reason"], row["status"]) for row in images if row["reason"]
    )
    assert page.counts("formats", "images", "format") == Counter((row["format"],) for row in images if row["format"])
    assert page.counts("quality_reasons", "faces", "reason") == Counter(
        (word,) for row in faces for word in row["quality_reasons"]
    )
    for name in ("face_px", "score", "quality"):
        for (start, below), n in page.counts(name, "faces", "from", "below").items():
            low, high = np.float32(start.replace(",", "")), np.float32(below.replace(",", "") or np.inf)
            assert n == sum(low <= row[name] < high for row in faces), (name, start)
    assert page.tables["faces"][1][:2] == ["faces", str(len(faces))]

    assert [row[0] for row in page.tables["slowest"][1 : len(HOSTILE) + 1]] == [shown(f"/photos/{n}") for n in HOSTILE]
    assert page.named("script") == []
    drawings = [table.name for table in report.tables if table.plot]
    assert [known["aria-labelledby"] for known in page.named("svg")] == [f"{name}-title" for name in drawings]
    assert len(drawings) == 10
    assert len(page.named("img")) == len(HOSTILE)

    assert seen.colours[0x0B62A4] > 20_000, "bars and lines are drawn in the page's own colour"
    assert 0.5 < seen.colours[0xFFFFFF] / seen.colours.total() < 0.99, "ground, and something on it"


def test_in_the_dark_it_is_dark(local: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(html(gather(local, ledger.state(local))), encoding="utf-8")
    dark = _opened(file, "--blink-settings=preferredColorScheme=0")
    assert dark.colours.most_common(1)[0][0] == 0x14171A
    assert dark.colours[0x5AA9E6] > 20_000
