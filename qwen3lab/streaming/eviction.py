"""How often units of weights are asked for, to tell which of them are worth their memory."""

import heapq
from collections.abc import Callable

Key = tuple[int, int]

HALF_LIFE = 16
"""An ask counts for half after so many later asks for each unit that is kept. (On replies of
tiny-moe 4 and 128 found a kept expert less often, by up to three in a hundred.)"""

LARGEST = 1e100


class UsageCounts:
    """Counts asks for units of one kind; those of long ago count for less.

    Old counts are not made smaller: later asks count for more.
    """

    def __init__(self) -> None:
        self._scores: dict[Key, float] = {}
        self._ask = 1.0
        # Of kept units, each with a score that it had once: scores only grow.
        self._kept: list[tuple[float, Key]] = []

    def ask(self, key: Key) -> float:
        """Count an ask; gives the unit's score before it.

        A newcomer is judged by that: where units are asked for in turn, this very ask would put
        it above the one whose turn comes next, and each would be thrown out just before its use.
        """
        self._ask *= 2 ** (1 / (HALF_LIFE * max(len(self._kept), 1)))
        if self._ask > LARGEST:
            self._rescale()
        before = self._scores.get(key, 0.0)
        self._scores[key] = before + self._ask
        return before

    def keep(self, key: Key) -> None:
        """From now on, the unit is one of those that are kept."""
        heapq.heappush(self._kept, (self._scores.get(key, 0.0), key))

    def replaceable(self, score: float, is_free: Callable[[Key], bool]) -> Key | None:
        """The kept unit of the lowest score, if that is below `score`; it is kept no longer.

        Args:
            score: of the unit that would take its place.
            is_free: whether a unit may go now.
        """
        passed_over, found = [], None
        while self._kept and self._kept[0][0] < score:
            then, key = self._kept[0]
            now = self._scores.get(key, 0.0)
            if now > then:
                heapq.heapreplace(self._kept, (now, key))
                continue
            heapq.heappop(self._kept)
            if is_free(key):
                found = key
                break
            passed_over.append((then, key))
        for entry in passed_over:
            heapq.heappush(self._kept, entry)
        return found

    def forget(self, key: Key) -> None:
        """The unit is kept no longer: it could not be read."""
        self._kept = [entry for entry in self._kept if entry[1] != key]
        heapq.heapify(self._kept)

    def _rescale(self) -> None:
        by, self._ask = self._ask, 1.0
        self._scores = {key: score / by for key, score in self._scores.items()}
        self._kept = [(score / by, key) for score, key in self._kept]
