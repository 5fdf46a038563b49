"""The gate: a cheap network that looks at each image first, so that the detector is spared where there is nobody.

Of SSDLite's 1.5 GFLOPs people are seen at any size and from behind, which no face detector of that cost does. An image
in which it sees nobody ends as no_face with reason GATED: faces without a body in sight are lost, so it is never the
default.
"""

from __future__ import annotations

from facebatch import config
from facebatch.detect import Detector, Settings, timed
from facebatch.packs import Model
from facebatch.reasons import Reason
from facebatch.session import Session
from facebatch.work import Work


class Gate:
    """A network that sees people, or faces cheaply, and from which score on it is believed."""

    def __init__(self, session: Session, chosen: config.Gate, batch: int = 0) -> None:
        gate: Model = session.model
        self._look = Detector(session, Settings.of_gate(chosen, gate.pack), batch)
        self._counts = gate.pack.finds == "people"
        self._nobody = f"{gate.pack.name} has seen nothing that scores {chosen.score:g} or more (gate.score)"

    def __call__(self, works: list[Work]) -> None:
        """End those in which nobody is seen. Of the others note how many people are, if it is people that it finds."""
        seen = [work for work in works if work.glance]
        shown = [[work.glance] for work in seen if work.glance]
        found, each = timed(self._look, shown, [(work.width or 0, work.height or 0) for work in seen])
        for work, people in zip(seen, found, strict=True):
            work.glance, work.glance_seconds = None, each
            work.n_persons = len(people) if self._counts else None
            if not len(people):
                work.end(Reason.GATED, self._nobody)
