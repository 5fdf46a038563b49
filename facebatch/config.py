"""The configuration of a run: one tree of frozen dataclasses, from defaults, a YAML file and `key=value` words.

`decode`, `detect`, `embed` and `quality` change results; what of them does is gathered in `facebatch.contract`. The
rest changes how fast or where, never what.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from facebatch.errors import UsageError

T = TypeVar("T")
_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BATCH = 32
"""Images that are handed to a stage at once, where neither a user nor a measurement says otherwise."""


@dataclass(frozen=True, config=_STRICT)
class Decode:
    """Which files are decoded, and at which scale."""

    max_bytes: Positive = 256 << 20
    """Larger files: failed/TOO_MANY_BYTES, without reading them."""
    max_pixels: Positive = 178_956_970
    """More pixels in the header: failed/TOO_MANY_PIXELS. Pillow draws its own line for bombs here."""
    max_side: Positive = 65_535
    """A longer side: failed/SIDE_TOO_LONG. JPEG cannot express more."""
    scale_above: Count = 1600
    """Pictures are kept at 1/2, 1/4 or 1/8 as long as the long side has this many pixels then; 0: always full size."""
    truncated: Literal["fail", "accept"] = "fail"
    """`accept` reads files that end early, with the missing part grey."""


@dataclass(frozen=True, config=_STRICT)
class Detect:
    """The face detector."""

    pack: str = "facebatch-detector"
    weights: str | None = None
    """The weights file itself, instead of looking it up."""
    score: Share | None = None
    """Faces below are dropped; the pack's own threshold when not set."""
    nms: Share | None = None
    """Boxes that overlap a better one by more than this IoU are dropped; the pack's own when not set."""
    close_up: bool = True
    """The second, small pass for faces that fill the frame."""
    tiles: bool | None = None
    """The further pass over parts of the picture, for small faces, at four times the cost; when not set, of those
    detectors whose canvas is small."""
    batch: Count = 0
    """Images in one call of the network; 0: 1 on a CPU, 32 on a GPU."""


@dataclass(frozen=True, config=_STRICT)
class Gate:
    """A cheap look before the face detector, which is spared where nothing is seen."""

    model: str | None = None
    """The pack that looks: ssdlite_mobilenet_v2 for people, or a face detector that is cheaper than the real one."""
    weights: str | None = None
    score: Share = 0.3
    """What scores less is not seen."""


@dataclass(frozen=True, config=_STRICT)
class Embed:
    """The face embedder."""

    pack: str = "facebatch-embedder"
    weights: str | None = None
    flip: bool = False
    """Each vector from the face and its mirror image, averaged: better by a point or two, for twice the work."""
    batch: Positive = 32
    """Faces, pooled across images, in one call of the network at most."""


@dataclass(frozen=True, config=_STRICT)
class Quality:
    """Where the words of `quality_reasons` begin. Faces are flagged, never dropped."""

    small_face: Count = 32
    """SMALL_BOUNDING_BOX below this shorter box side, in pixels. At 32 px embedders lose 2 to 3.5 points of TAR."""
    low_sharpness: float = 40.0
    """LOW_SHARPNESS below this variance of the Laplacian of the 112x112 luma."""
    low_brightness: Share = 0.15
    """LOW_BRIGHTNESS below this mean luma."""
    extreme_pose: float = 45.0
    """EXTREME_POSE above this absolute yaw or pitch, in degrees."""
    low_confidence: Share = 0.7
    """LOW_CONFIDENCE below this detector score."""


@dataclass(frozen=True, config=_STRICT)
class Rows:
    """What the columns of tables are, where they are inputs."""

    column: str | None = None
    """Of images or of URIs; found by its name when not set."""
    key: str | None = None
    """Of Parquet files with images: its values name the rows; their numbers in the file do when not set."""
    extra: tuple[str, ...] | None = None
    """Carried into the column `extra`; all of plain types when not set."""


@dataclass(frozen=True, config=_STRICT)
class Shards:
    """How loose files are grouped into shards."""

    files: Positive = 512
    bytes: Positive = 128 << 20


@dataclass(frozen=True, config=_STRICT)
class Run:
    """How the work is laid out on the machine. 0 means: the planner decides and says why."""

    layout: Literal["auto", "fused", "split"] = "auto"
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    io_binding: bool = False
    """On GPUs: inputs and outputs of networks are bound to memory of the GPU (`facebatch.binding`). Same results."""
    actors: Count = 0
    """Actors of the fused pool, or of each of the split pools."""
    threads: Count = 0
    """Threads of an actor."""
    calibrate: Count = 24
    """Images that a run of 32 times as many or more computes before it is laid out, to lay it out by what they take;
    0: none."""
    batch: Count = 0
    """Images handed to a stage at once; 0: 32, and more where images take little."""
    parcel_images: Count = 0
    """Images that go from one process to the next together, at most."""
    megapixels: Positive = 64
    """Decoded megapixels that an actor holds at once; one larger image is held alone."""
    commit_images: Count = 0
    """Images in one commit."""
    image_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Seconds that an image may take to decode, and four more for each megapixel. One that takes longer is tried again
    in a process of its own: failed/TIMEOUT."""
    restarts: Count = 64
    """Times that an actor is started again after its process or node was lost, and that a task is tried again."""
    unreadable: Share = 0.5
    """Of the images of a minute (256 or more), the share that storage may fail for before a run stops. Objects that are
    not there do not count; 1: it goes on whatever fails."""
    patience: Positive = 900
    """Seconds in which nothing moves before a run gives up. Longer than `storage.retries` take."""
    address: str | None = None
    """A Ray cluster; without it RAY_ADDRESS, else a Ray of its own on this machine."""
    labels: tuple[Annotated[str, Field(pattern=r"^[^=,!()]+=[^=,!()]+$")], ...] = ()
    """Of a cluster only nodes that carry all these labels, each KEY=VALUE, take part."""
    min_cpus: Count = 0
    """CPUs that must be there, and free, before a run is laid out. A cluster that scales is asked for them."""
    min_gpus: Count = 0
    scale_seconds: Positive = 600
    """Seconds that a cluster is given for them."""
    logs: Literal["text", "json"] = "text"
    """What a run says on stderr: sentences, or a JSON object in each line (`facebatch.logs`)."""
    retry: tuple[str, ...] = ()
    """Reasons whose rows are computed again (`facebatch.release`)."""


@dataclass(frozen=True, config=_STRICT)
class Storage:
    """How object storage is reached. Credentials come from the usual environment variables or a profile, never from
    here."""

    endpoint: str | None = None
    """Of an S3-compatible store, or of an emulator of GCS or Azure. For one kind alone among several:
    AWS_ENDPOINT_URL_S3, GOOGLE_BASE_URL, AZURE_STORAGE_ENDPOINT."""
    region: str | None = None
    """Of S3."""
    profile: str | None = None
    """A name in ~/.aws/credentials or ~/.aws/config: its keys, region and endpoint. Wins over keys in the environment;
    AWS_PROFILE counts where the environment has none."""
    anonymous: bool = False
    timeout: Positive = 60
    """Seconds for one request."""
    retries: Count = 8
    """Attempts after the first, with exponential backoff: 5xx, 429, timeouts, dropped connections."""


@dataclass(frozen=True, config=_STRICT)
class Config:
    """Everything a run needs to know."""

    inputs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    """Patterns: of loose files only those that match one of them. All when there is none."""
    exclude: tuple[str, ...] = ()
    """Patterns: nothing that matches one of them."""
    base_uri: str | None = None
    """Where identities begin: URIs in the dataset are relative to it. Absolute when not set."""
    output: str = ""
    decode: Decode = Decode()
    gate: Gate = Gate()
    detect: Detect = Detect()
    landmarks: str = "auto"
    """Which pack gives the five points that faces are aligned by. `auto`: the detector, where it does, else
    landmarks-regression-retail-0009. `none`: the detector, where it does, else faces are cut out by their boxes."""
    embed: Embed = Embed()
    quality: Quality = Quality()
    rows: Rows = Rows()
    shards: Shards = Shards()
    run: Run = Run()
    storage: Storage = Storage()


def load(
    file: str | None = None, words: Iterable[str] = (), recorded: Mapping[str, Any] | None = None, **given: Any
) -> Config:
    """The configuration of a run, as `settings` makes it. recorded: settings of an earlier run (`as_dict`)."""
    return settings(Config, file, words, recorded, **given)


def settings(
    cls: type[T],
    file: str | None = None,
    words: Iterable[str] = (),
    recorded: Mapping[str, Any] | None = None,
    **given: Any,
) -> T:
    """A tree of frozen dataclasses from a YAML file, then `key=value` words, then what the command line gave, the last
    one wins.

    recorded: settings over which all these are laid.
    Raises UsageError with one sentence for each mistake; an unknown key names the nearest one.
    """
    tree = laid_over(recorded or {}, _read_yaml(file) if file else {})
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is not of the form key=value, as in {list(_keys(cls))[-1]}=...")
        _put(tree, key.strip().split("."), _scalar(value), word)
    tree.update({key: value for key, value in given.items() if value})
    try:
        return TypeAdapter(cls).validate_python(tree)
    except ValidationError as error:
        source = f"{file}: " if file else ""
        raise UsageError("\n".join(source + _sentence(cls, e) for e in error.errors())) from None


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One tree of settings with another one's laid over it, key by key."""
    both = {key: laid_over(value, {}) if isinstance(value, Mapping) else value for key, value in below.items()}
    for key, value in above.items():
        inner = both.get(key)
        both[key] = laid_over(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return both


def as_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain values, for records and digests."""
    return dataclasses.asdict(config)


def words(settings: dict[str, Any], defaults: dict[str, Any] | None = None, prefix: str = "") -> list[str]:
    """The words of a command line that say what of these settings (`as_dict`) is not the default.

    Inputs, patterns, base and output as options, the rest as key=value.
    """
    found: list[str] = []
    for key, default in (as_dict(Config()) if defaults is None else defaults).items():
        value = settings.get(key, default)
        if isinstance(default, dict):
            found += words(value, default, f"{prefix}{key}.")
        elif prefix or key not in _OPTIONS:
            said = value if isinstance(value, str) and _scalar(value) == value else json.dumps(value)
            found += [f"{prefix}{key}={said}"] if _plain(value) != _plain(default) else []
        else:
            given = [value] if isinstance(value, str) else value or []
            found += [word for one in given if one for word in _option(_OPTIONS[key], one)]
    return found


_OPTIONS = {
    "inputs": "--input",
    "include": "--include",
    "exclude": "--exclude",
    "base_uri": "--base-uri",
    "output": "--output",
}


def _option(name: str, value: str) -> tuple[str, ...]:
    """A value that begins like an option has to be tied to its own."""
    return (f"{name}={value}",) if value.startswith("-") else (name, value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the configuration {file} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"the configuration {file} is no valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise UsageError(f"the configuration {file} holds {type(tree).__name__}, expected a mapping such as `run: ...`")
    return dict(tree)


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return text


def _put(tree: dict[str, Any], path: list[str], value: Any, word: str) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{word!r}: {name} is a value, not a group of settings")
    tree[path[-1]] = value


def _sentence(cls: type, error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "unexpected_keyword_argument":
        return f"there is no setting {key}; {_nearest(cls, key)}"
    return f"{key}: {error['msg'].lower()}, got {error['input']!r}"


def _nearest(cls: type, key: str) -> str:
    keys = list(_keys(cls))
    by_last_part = [k for k in keys if k.split(".")[-1] == key.split(".")[-1]]
    close = by_last_part or difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"the nearest is {close[0]}" if close else "the settings are: " + ", ".join(keys)


def _keys(cls: Any, prefix: str = "") -> Iterable[str]:
    for field in dataclasses.fields(cls):
        default = field.default
        if dataclasses.is_dataclass(default):
            yield from _keys(default, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
