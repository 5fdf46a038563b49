"""All objects below a folder, with many folders listed at a time.

One listing after the other is slow wherever each waits for an answer: network disks, and object storage with deep
trees. Here threads take folders from a stack, so that what is pending stays as small as the tree is deep and its
folders are wide, and stop when the consumer is behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from facebatch.storage import Object, Storage

_PAGE = 1000
"""Objects handed over at once."""


def walk(storage: Storage, uri: str, threads: int = 16) -> Iterator[Object]:
    """The objects of `storage.objects(uri)`, in no order. Raises what a listing raises; then nothing more comes."""
    crew = _Crew(storage, uri, threads)
    try:
        while (page := crew.next_page()) is not None:
            yield from page
    finally:
        crew.end()


class _Crew:
    """Threads that list folders, and the pages that they have ready."""

    def __init__(self, storage: Storage, uri: str, threads: int) -> None:
        self._storage = storage
        self._change = threading.Condition()
        self._pending = [uri]
        self._ready: deque[list[Object]] = deque()
        self._room = 2 * threads
        self._busy = 0
        self._error: BaseException | None = None
        self._ended = False
        self._threads = [threading.Thread(target=self._work, name=f"walk-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def next_page(self) -> list[Object] | None:
        """Objects, as soon as there are some; None when all have been given."""
        with self._change:
            self._change.wait_for(lambda: self._ready or self._error or self._is_done())
            if self._error:
                raise self._error
            page = self._ready.popleft() if self._ready else None
            self._change.notify_all()
            return page

    def end(self) -> None:
        """Let no thread live on. A listing under way is waited for; no further one starts."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _is_done(self) -> bool:
        return not self._pending and not self._busy

    def _work(self) -> None:
        while (folder := self._take()) is not None:
            try:
                objects, folders = self._storage.folder(folder)
            except BaseException as error:  # noqa: BLE001 - it is raised in the consumer
                self._fail(error)
                return
            self._give(objects, folders)

    def _take(self) -> str | None:
        with self._change:
            self._change.wait_for(lambda: self._pending or self._ended or self._is_done())
            if self._ended or not self._pending:
                return None
            self._busy += 1
            return self._pending.pop()

    def _give(self, objects: list[Object], folders: list[str]) -> None:
        with self._change:
            self._pending.extend(folders)
            self._change.notify_all()
            for start in range(0, len(objects), _PAGE):
                self._change.wait_for(lambda: len(self._ready) < self._room or self._ended)
                if self._ended:
                    break
                self._ready.append(objects[start : start + _PAGE])
                self._change.notify_all()
            self._busy -= 1
            self._change.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._change:
            self._error = self._error or error
            self._busy -= 1
            self._change.notify_all()
