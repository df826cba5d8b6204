"""What running the leaders again with fresh seeds has shown, as values and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweeper.core.figures import number, plural

Finding = Literal["confirmed", "not distinguishable", "other is better", "too few runs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A leader next to the first one."""

    name: str
    score: float
    """Mean over its fresh seeds."""
    lead: float
    """How far the first lies ahead of it on the seeds that both finished, below 0 where it lies behind."""
    half_width: float
    """Half the 95% interval of ``lead``, for this pair on its own."""
    seeds: int
    """Fresh seeds that both finished, on which ``lead`` rests."""

    @property
    def low(self) -> float:
        return self.lead - self.half_width

    @property
    def high(self) -> float:
        return self.lead + self.half_width


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """Whether the winner of the grid is first with fresh seeds as well."""

    first: str
    """The winner of the grid, before it was run again."""
    score: float | None
    """Its mean over fresh seeds; None where none has ended."""
    half_width: float | None
    """Half the 95% interval of that mean."""
    runs: int
    rivals: tuple[Rival, ...]
    """The other leaders with at least two seeds in common with the first, nearest rival first."""
    unfinished: int = 0
    """Fresh runs that have not ended yet."""
    lost: tuple[str, ...] = ()
    """Names of fresh runs that failed or were ended by a guard."""

    @property
    def finding(self) -> Finding:
        """Return the verdict: ``confirmed`` where the first is ahead of every rival by more than the noise."""
        if not self.rivals:
            return "too few runs"
        if any(rival.high < 0 for rival in self.rivals):
            return "other is better"
        return "confirmed" if all(rival.low > 0 for rival in self.rivals) else "not distinguishable"

    @property
    def verdict(self) -> str:
        """Return ``confirmed``, ``not distinguishable from NAME``, ``NAME is better`` or ``too few runs``."""
        finding = self.finding
        if finding == "other is better":
            return f"{min(self.rivals, key=lambda rival: rival.lead).name} is better"
        if finding == "not distinguishable":
            close = [rival.name for rival in self.rivals if rival.low <= 0]
            return f"not distinguishable from {', '.join(close)}"
        return finding

    def lines(self) -> list[str]:
        """Return what is said of it, the verdict first."""
        said = [f"{self.first}: {self.verdict}"]
        if self.score is not None:
            said.append(f"mean {self._mean()}")
        said += [
            f"{number(rival.lead, 3)} ahead of {rival.name} ({number(rival.score)}), 95%: {number(rival.low, 3)} to "
            f"{number(rival.high, 3)}, {plural(rival.seeds, 'seed')}"
            for rival in self.rivals
        ]
        if self.lost:
            said.append(f"without a result: {', '.join(self.lost)}")
        if self.unfinished:
            said.append(f"{plural(self.unfinished, 'run')} with fresh seeds not ended: the same command goes on")
        return said

    def _mean(self) -> str:
        spread = "" if self.half_width is None else f" +- {number(self.half_width, 2)}"
        return f"{number(self.score)}{spread} over {plural(self.runs, 'fresh seed')}"
