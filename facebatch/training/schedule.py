"""How fast a network learns, step by step: rising, steady, falling.

Source: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024: as good as a
cosine, and training goes on from the end of the steady part when there is more time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """steps: all of them; rise: the first, in which the rate grows from 0; fall: the share of all at the end in which
    it goes to 0, as 1 - sqrt."""

    steps: int
    peak: float
    rise: int = 200
    fall: float = 0.25

    @property
    def steady_until(self) -> int:
        return round(self.steps * (1 - self.fall))

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.rise:
            return self.peak * (step + 1) / self.rise
        if step < self.steady_until:
            return self.peak
        done = (step - self.steady_until) / max(1, self.steps - self.steady_until)
        return self.peak * max(0.0, 1.0 - float(done**0.5))
