"""Every outcome an image can have, and why: the words in the columns `status`, `reason` and `quality_reasons`.

The README's table is generated from `Reason.meaning` (a test compares them), so a reason cannot exist undocumented.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """What became of an input. The sum law: planned = ok + no_face + failed + skipped."""

    OK = "ok"
    NO_FACE = "no_face"
    FAILED = "failed"
    SKIPPED = "skipped"


class Reason(StrEnum):
    """Why an input has no faces in the index. Stable: scripts may match on these words."""

    meaning: str
    status: Status
    retryable: bool

    def __new__(cls, word: str, status: Status = Status.FAILED, meaning: str = "", retryable: bool = False) -> Reason:
        member = str.__new__(cls, word)
        member._value_ = word
        member.status = status
        member.meaning = meaning
        member.retryable = retryable
        return member

    NOT_AN_IMAGE = "NOT_AN_IMAGE", Status.SKIPPED, "the first bytes are those of no known image format"

    ERASED = "ERASED", Status.SKIPPED, "its faces were erased because somebody asked for it (`facebatch erase`)"

    GATED = "GATED", Status.NO_FACE, "the gate has seen nobody, so the face detector was spared (`gate.score`)"

    EMPTY = "EMPTY", Status.FAILED, "the file has no bytes"
    UNSUPPORTED_FORMAT = (
        "UNSUPPORTED_FORMAT",
        Status.FAILED,
        "an image format or pixel layout that is recognised but not decoded",
    )
    THUMBNAIL_ONLY = (
        "THUMBNAIL_ONLY",
        Status.FAILED,
        "a camera's raw file whose embedded preview is too small to find faces in",
    )
    TRUNCATED = (
        "TRUNCATED",
        Status.FAILED,
        "the file ends before its picture does (`decode.truncated=accept` reads it)",
    )
    CORRUPT = "CORRUPT", Status.FAILED, "the decoder refused the file"
    TOO_MANY_BYTES = "TOO_MANY_BYTES", Status.FAILED, "larger than `decode.max_bytes`"
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS", Status.FAILED, "the header announces more than `decode.max_pixels`"
    SIDE_TOO_LONG = "SIDE_TOO_LONG", Status.FAILED, "a side is longer than `decode.max_side`"
    BROKEN_CONTAINER = (
        "BROKEN_CONTAINER",
        Status.FAILED,
        "the tar or table is damaged here, or the line of a manifest; `detail` says how far it was read",
    )
    SOURCE_CHANGED = (
        "SOURCE_CHANGED",
        Status.FAILED,
        "the object is not the one that was planned (size, etag or time differs)",
    )
    WORKER_CRASH = "WORKER_CRASH", Status.FAILED, "the decoder crashed, also in a process of its own"
    TIMEOUT = (
        "TIMEOUT",
        Status.FAILED,
        "decoding took longer than any sound image of this size (`run.image_seconds`), also in a process of its own",
    )
    NOT_FOUND = "NOT_FOUND", Status.FAILED, "the object was listed but is gone", True
    ACCESS_DENIED = "ACCESS_DENIED", Status.FAILED, "the storage refused the read", True
    STORAGE_ERROR = "STORAGE_ERROR", Status.FAILED, "the read failed after all retries", True
    OUT_OF_MEMORY = "OUT_OF_MEMORY", Status.FAILED, "decoding asked for more memory than there was", True
    INTERNAL_ERROR = (
        "INTERNAL_ERROR",
        Status.FAILED,
        "facebatch itself failed on this image, see `detail`; please report it",
        True,
    )


class Undecodable(Exception):
    """The image cannot be used. `reason` is one of the content reasons, `detail` a sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class QualityReason(StrEnum):
    """Why a face may be a poor choice for clustering; Amazon Rekognition's words where it has one."""

    SMALL_BOUNDING_BOX = "SMALL_BOUNDING_BOX"
    LOW_SHARPNESS = "LOW_SHARPNESS"
    LOW_BRIGHTNESS = "LOW_BRIGHTNESS"
    EXTREME_POSE = "EXTREME_POSE"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
