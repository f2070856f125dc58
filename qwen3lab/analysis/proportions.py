"""Proportions with confidence intervals."""

from dataclasses import dataclass

import scipy

from qwen3lab.display import Displayed, Summary
from qwen3lab.translation import tr


@dataclass(frozen=True, repr=False)
class Share(Displayed):
    """Hits out of a total, with the 95% Wilson interval of the proportion."""

    hits: int
    total: int

    def _summary(self) -> Summary:
        return Summary(
            str(self) if self.total else tr("no share"), {tr("counted"): self._counted()}
        )

    def _counted(self) -> str:
        return f"{self.hits:,} of {self.total:,}"

    @property
    def value(self) -> float:
        """Hits over total."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound of the interval (Wilson 1927)."""
        interval = scipy.stats.binomtest(self.hits, self.total).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)

    def __str__(self) -> str:
        low, high = self.interval
        return tr("{value:.3f} ({low:.3f} to {high:.3f})", value=self.value, low=low, high=high)
