"""Every table of facebatch: what users read (IMAGES, FACES), what a run is planned by (PLAN), what flows (PARCEL).

This is the product's interface. Columns are only ever added, and each is described here and in the README.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

FORMAT = 1
"""Version of the dataset's layout, stored in every file. A reader refuses what is newer."""


def _required(name: str, type: pa.DataType) -> pa.Field:
    return pa.field(name, type, nullable=False)


EXTRA = pa.map_(pa.string(), pa.string())

IMAGES = pa.schema(
    [
        _required("image_id", pa.string()),
        _required("uri", pa.string()),
        _required("member", pa.string()),
        _required("shard_id", pa.string()),
        _required("index", pa.int64()),
        _required("size_bytes", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("content_sha256", pa.string()),
        pa.field("phash", pa.int64()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.int8()),
        pa.field("frames", pa.int32()),
        pa.field("captured_at", pa.timestamp("us")),
        pa.field("camera", pa.string()),
        _required("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        _required("n_faces", pa.int32()),
        pa.field("n_persons", pa.int32()),
        pa.field("extra", EXTRA),
    ]
)

FACES = pa.schema(
    [
        _required("face_id", pa.string()),
        _required("image_id", pa.string()),
        _required("uri", pa.string()),
        _required("member", pa.string()),
        _required("face_index", pa.int32()),
        _required("x_min", pa.float32()),
        _required("y_min", pa.float32()),
        _required("x_max", pa.float32()),
        _required("y_max", pa.float32()),
        _required("score", pa.float32()),
        pa.field("landmarks", pa.list_(pa.float32(), 10)),
        pa.field("landmark_source", pa.string()),
        _required("alignment", pa.string()),
        _required("face_px", pa.float32()),
        _required("sharpness", pa.float32()),
        _required("brightness", pa.float32()),
        pa.field("yaw", pa.float32()),
        pa.field("pitch", pa.float32()),
        pa.field("roll", pa.float32()),
        _required("quality", pa.float32()),
        _required("quality_reasons", pa.list_(pa.string())),
        _required("embedding", pa.list_(pa.float32(), 512)),
        _required("embedding_norm", pa.float32()),
        _required("detector", pa.string()),
        _required("embedder", pa.string()),
        _required("contract", pa.string()),
    ]
)

PLAN = pa.schema(
    [
        _required("shard_id", pa.string()),
        _required("kind", pa.string()),
        _required("uri", pa.string()),
        _required("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("raw", pa.binary()),
        pa.field("part", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("start", pa.int64()),
        _required("bytes", pa.int64()),
        pa.field(
            "columns",
            pa.struct([("image", pa.string()), ("key", pa.string()), ("carried", pa.list_(pa.string()))]),
        ),
        pa.field("extra", EXTRA),
        pa.field("trouble", pa.string()),
    ]
)
"""One row for each source, the rows of a shard together and in their order."""

PARCEL = pa.schema([_required("works", pa.large_binary()), _required("images", pa.int32())])
"""Images on their way through the stages (`facebatch.work.packed`): a row for each parcel, so that Ray never cuts one
in two or makes one of several, and rows and ranges never come apart."""


def stamped(schema: pa.Schema, facts: dict[str, Any]) -> pa.Schema:
    """The schema with the dataset's facts in its metadata, for every file to carry."""
    return schema.with_metadata({b"facebatch": json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode()})
