"""A run on paper as a table: what was asked, what it rests on, and what comes out (`facebatch.scale`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from facebatch.costs import Measured
from facebatch.progress import clock
from facebatch.scale import NEGLECTED, Archive, Estimate, Fleet
from facebatch.summary import Row

_BUSY = 0.9
"""A run whose workers were busier than that was long enough to be measured by."""


def rows(archive: Archive, fleet: Fleet, measured: Measured, speedup: float | None, found: Estimate) -> Iterator[Row]:
    """The rows of the table. speedup: what was assumed of a GPU, None where nothing was."""
    packed = f", in {archive.containers:,} containers" if archive.containers else ""
    faces = f"{archive.faces:.2f} faces each"
    yield "images", f"{archive.images:,}", f"{amount(archive.bytes)} and {faces}{packed}"
    yield "fleet", f"{fleet.nodes:,}", f"node(s) of {fleet.cores:g} cores{_beside(fleet)}"
    yield "costs", "", measured.origin
    if measured.busy < _BUSY:
        why = "a longer run tells more of a long one, and a fleet may idle as much"
        yield "", "", f"its workers were at work for {100 * measured.busy:.0f} % of the time: {why}"
    if speedup is not None:
        yield "assumed", f"{speedup:g} x", "as fast as a core, a GPU runs the networks (--gpu-speedup); not measured"
    turns = ". In layout fused, GPU and cores wait for each other" if found.in_turn else ""
    yield "time", hours(found.seconds), f"with all of it busy all the time; longest: {found.bottleneck}{turns}"
    yield from _resources(archive, fleet, found)
    if measured.left_out is not None:
        why = f"{measured.left_out:.1f} s for {measured.archive.images:,} images are mostly start"
        yield "  planning", "?", f"not in the time: {why}, and do not tell how listing a large archive grows"
    yield from _spent(fleet, found)
    yield "read", amount(found.bytes_read), ""
    left = found.written
    yield "written", amount(left.bytes), f"tables {amount(left.table_bytes)}, records and plan the rest"
    yield "objects", f"{left.objects:,}", f"at most, of them {2 * left.records:,} tables"
    yield "records", f"{left.records:,}", f"{amount(left.record_bytes)}, one for each commit"
    yield "plan", f"{left.plans:,}", f"files of {amount(left.plan_bytes)} together: {left.shards:,} shards"
    yield "driver", amount(found.driver_bytes), "of memory on the node that `facebatch index` runs on, beside Ray's own"
    yield "neglected", "", NEGLECTED


def hours(seconds: float) -> str:
    """12.3 h; short ones as a clock shows them."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else clock(seconds)


def amount(bytes: float) -> str:
    """1.9 TB, with a thousand as the step."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if bytes < 1000:
            return f"{bytes:.0f} B" if unit == "B" else f"{bytes:.1f} {unit}"
        bytes /= 1000
    return f"{bytes:,.1f} PB"


def _beside(fleet: Fleet) -> str:
    gpus = f", {fleet.gpus:,} GPUs in all" if fleet.gpus else ""
    return gpus + (f", each reads {amount(fleet.bandwidth)}/s" if fleet.bandwidth else "")


def _resources(archive: Archive, fleet: Fleet, found: Estimate) -> Iterator[Row]:
    """How long each resource is busy, and with what."""
    remarks = {"cores": _shares(found.cores), "GPUs": _shares(found.gpus)}
    if found.gpus:
        remarks["cores"] += f"; of {fleet.nodes * fleet.cores:g} cores {fleet.gpus} feed the GPUs"
        balance = sum(found.cores.values()) / max(sum(found.gpus.values()), 1e-9) + 1
        remarks["GPUs"] += f"; {balance:.1f} cores for each keep up with it"
    if fleet.bandwidth:
        remarks["reading"] = f"{amount(found.bytes_read)} at {amount(fleet.nodes * fleet.bandwidth)}/s"
    for name, seconds in found.took.items():
        each = f"{1e6 * seconds / archive.images:.1f} microseconds an image, by the driver alone, before all else"
        yield f"  {name}", hours(seconds), remarks.get(name, each)
    if not fleet.bandwidth:
        yield "  reading", "?", "not in the time: say --bandwidth, the bytes a second that a node reads"


def _spent(fleet: Fleet, found: Estimate) -> Iterator[Row]:
    yield "core-hours", _total(found.cores), "at work, without those that feed GPUs"
    if found.gpus:
        yield "GPU-hours", _total(found.gpus), "at work"
    if found.price is not None:
        prices = {"a core": fleet.core_hour, "a GPU": fleet.gpu_hour if fleet.gpus else None}
        said = ", ".join(f"{price:g} {what}" for what, price in prices.items() if price is not None)
        yield "price", f"{found.price:,.2f}", f"of the whole fleet for that time; an hour costs {said}"


def _total(parts: Mapping[str, float]) -> str:
    """Hours of all parts; of few three digits."""
    whole = sum(parts.values()) / 3600
    return f"{whole:,.1f}" if whole >= 100 else f"{whole:.3g}"


def _shares(parts: Mapping[str, float]) -> str:
    """What the time goes into, the dearest first."""
    whole = max(sum(parts.values()), 1e-9)
    dearest = sorted(parts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{part} {100 * took / whole:.0f} %" for part, took in dearest if took >= 0.005 * whole)
