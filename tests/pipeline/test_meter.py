"""What the progress display counts."""

from facebatch.pipeline.meter import counted
from facebatch.reasons import Reason
from tests.test_sink import work


def test_a_batch_is_counted_by_outcome() -> None:
    assert counted([work(0, 2), work(1), work(2, reason=Reason.CORRUPT), work(3, 1)]) == {
        "ok": 2,
        "no_face": 1,
        "failed": 1,
        "images": 4,
        "faces": 3,
        "bytes": 40,
    }
