"""Where identities begin: with `--base-uri` paths are relative to it, and an archive that moves keeps its ids.

Inside a run every URI is absolute. What is planned and written is not: here is the step between the two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from facebatch.storage import Object, absolute, join, scheme


@dataclass(frozen=True, slots=True)
class Base:
    """A folder or prefix; '' where identities are absolute."""

    uri: str = ""

    @classmethod
    def at(cls, uri: str | None) -> Base:
        """The base that the user names, or none."""
        return cls(absolute(uri).rstrip("/") or "/") if uri else cls()

    def holds(self, uri: str) -> bool:
        """Whether something lies below the base."""
        return bool(self.uri) and uri.startswith(self.uri.rstrip("/") + "/")

    def relative(self, uri: str) -> str:
        """The identity of something: its path below the base, or itself where it lies elsewhere."""
        rest = uri[len(self.uri.rstrip("/")) + 1 :] if self.holds(uri) else ""
        return uri if not rest or is_absolute(rest) else rest

    def located(self, found: Object) -> Object:
        """The object of such an identity, where it now is."""
        if not self.uri or is_absolute(found.uri):
            return found
        raw = None if found.raw is None else os.path.join(os.fsencode(self.uri), found.raw)
        return replace(found, uri=join(self.uri, found.uri), raw=raw)

    def identified(self, found: Object) -> Object:
        """The object by its identity, as it is planned; `located` undoes it."""
        shown = self.relative(found.uri)
        if shown == found.uri:
            return found
        raw = None if found.raw is None else os.path.relpath(found.raw, os.fsencode(self.uri))
        return replace(found, uri=shown, raw=raw)


def is_absolute(uri: str) -> bool:
    """Whether a URI means the same wherever it is read."""
    return uri.startswith("/") or bool(scheme(uri))
