"""Names of what a container holds, made unique."""

from __future__ import annotations

import hashlib


class Names:
    """The k-th repeat of a name gets `#k`, or the next k that no member has."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()  # digests: a name costs some 40 bytes here, however long it is
        self._repeats: dict[bytes, int] = {}

    def unique(self, name: str) -> str:
        digest = _digest(name)
        if digest not in self._seen:
            self._seen.add(digest)
            return name
        while True:
            k = self._repeats[digest] = self._repeats.get(digest, 0) + 1
            candidate = _digest(f"{name}#{k}")
            if candidate not in self._seen:
                self._seen.add(candidate)
                return f"{name}#{k}"


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
