"""Goes through the tokens of a run by how much their prediction differs from that of another."""

from qwen3lab.analysis.alignment import Alignment
from qwen3lab.analysis.differences import DIVERGENCE, prediction_difference
from qwen3lab.figures.theme import visible
from qwen3lab.translation import tr
from qwen3lab.widgets.explorers.find_compute import ordinal, ranked
from qwen3lab.widgets.workbench.state import WorkbenchState


class LargestChanges:
    """Picks the token whose prediction differs most; again, the next one.

    Args:
        state: gets the picked token.
    """

    def __init__(self, state: WorkbenchState) -> None:
        self.state = state
        self.clear()

    def clear(self) -> None:
        """Forget the runs, so that their recordings can be freed."""
        self.aligned: Alignment | None = None
        self.tokens: list[tuple[int, float]] = []
        self.rank = 0

    def jump(self, aligned: Alignment) -> str:
        """Pick the next token, and say how much its prediction differs.

        Tokens that correspond to none of the other run have no difference.

        Raises:
            ValueError: no token has one.
            RecordingError: a run was recorded without what its logits are made of.
        """
        if aligned is not self.aligned or self._picked() != self.state.token:
            self.aligned, self.tokens, self.rank = aligned, _by_change(aligned), 0
        if not self.tokens:
            raise ValueError(tr("no prediction can be compared: the runs share no token"))
        self.rank = self.rank % len(self.tokens) + 1
        token, value = self.tokens[self.rank - 1]
        self.state.token = token
        return _said(self.rank, token, aligned.one.tokens[token], value)

    def _picked(self) -> int:
        return self.tokens[self.rank - 1][0] if self.rank else -1


def _by_change(aligned: Alignment) -> list[tuple[int, float]]:
    """Tokens of the first run with the KL divergence of their predictions, the largest first."""
    found = prediction_difference(aligned)
    values = found.values[found.rows.index(DIVERGENCE)]
    return [(aligned.pairs[at][0], float(values[at])) for at in ranked(values)]


def _said(rank: int, token: int, text: str, value: float) -> str:
    which = tr("largest change") if rank == 1 else tr("{nth} largest change", nth=ordinal(rank))
    return tr(
        "{which}: token {token} “{text}”, KL {value:.3g} nats",
        which=which,
        token=token,
        text=visible(text),
        value=value,
    )
