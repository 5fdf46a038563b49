"""Every table of facebatch: what users read (IMAGES, FACES), what a run is planned by (PLAN), what flows (WORK).

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

VIEW = pa.struct(
    [
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fx", pa.float64()),
        ("fy", pa.float64()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("pixels", pa.large_binary()),
    ]
)

FACE = pa.struct(
    [
        ("box", pa.list_(pa.float32(), 4)),
        ("score", pa.float32()),
        ("landmarks", pa.list_(pa.float32(), 10)),
        ("chip", pa.binary()),
        ("sharpness", pa.float32()),
        ("brightness", pa.float32()),
        ("yaw", pa.float32()),
        ("pitch", pa.float32()),
        ("roll", pa.float32()),
        ("quality", pa.float32()),
        ("quality_reasons", pa.list_(pa.string())),
        ("embedding", pa.binary()),
        ("embedding_norm", pa.float32()),
    ]
)

WORK = pa.schema(
    [
        *(IMAGES.field(name) for name in ("shard_id", "index", "uri", "member", "size_bytes", "etag", "mtime_ns")),
        *(IMAGES.field(name) for name in ("content_sha256", "phash", "format", "width", "height", "orientation")),
        *(IMAGES.field(name) for name in ("frames", "captured_at", "camera", "n_persons", "extra")),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("data", pa.large_binary()),
        pa.field("glance", VIEW),
        pa.field("glance_seconds", pa.float32()),
        pa.field("detect_seconds", pa.float32()),
        pa.field("views", pa.list_(VIEW)),
        pa.field("faces", pa.list_(FACE)),
    ]
)
"""One row for each image on its way through the stages, its faces nested: rows and ranges never come apart."""


def stamped(schema: pa.Schema, facts: dict[str, Any]) -> pa.Schema:
    """The schema with the dataset's facts in its metadata, for every file to carry."""
    return schema.with_metadata({b"facebatch": json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode()})
