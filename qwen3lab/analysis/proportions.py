"""Proportions with confidence intervals."""

from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class Share:
    """Hits out of a total, with the 95% Wilson interval of the proportion."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """Hits over total."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end (Wilson 1927)."""
        found = binomtest(self.hits, self.total).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} ({low:.3f} to {high:.3f})"
