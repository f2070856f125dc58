"""The likeliest tokens at a place of a text, and how likely the one is that was written."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.on_disk import LOGITS
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


@dataclass(frozen=True, repr=False)
class Alternatives(Displayed):
    """The likeliest tokens at one position of a text, by the logits at the position before.

    Attributes:
        position: of the token, in the recording.
        token_ids: the likeliest tokens, the most likely first.
        probabilities: of these tokens, before sampling filters.
        written: the token that is in the text.
        probability: of the written token.
        rank: 1 if the written token is the most likely one.
    """

    position: int
    token_ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    written: int
    probability: float
    rank: int

    def _summary(self) -> Summary:
        listed = zip(self.token_ids, self.probabilities, strict=True)
        likeliest = ", ".join(f"{token} ({share:.3g})" for token, share in listed)
        written = tr(
            "{written} ({probability:.3g}), number {rank} by probability",
            written=self.written,
            probability=self.probability,
            rank=self.rank,
        )
        facts = {tr("likeliest token ids"): likeliest, tr("written"): written}
        return Summary(tr("Alternatives of token {position}", position=self.position), facts)


@checked
def alternatives(recording: Recording, position: int, k: Count = 5) -> Alternatives:
    """The `k` likeliest tokens at a position, and the probability of the token that is there.

    Args:
        recording: of the text, with logits. They are those of the run: edits that were in force
            have changed them.
        position: of the token, from 1 on: nothing predicts the first one.
        k: number of tokens, at most the vocabulary.

    Raises:
        ValueError: there is no such token, or it is the first one.
        RecordingError: as `Recording.logits`.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.analysis.alternatives import alternatives
        >>> recording = qwen3lab.load("tiny-moe").record("3+4=?")
        >>> len(alternatives(recording, 2).token_ids)
        5
    """
    n = len(recording)
    if position == 0:
        raise ValueError(tr("token 0 is the first one: nothing predicts it"))
    if not 0 < position < n:
        raise ValueError(
            tr(
                "token {position} does not exist: the text has tokens 0 to {last}",
                position=position,
                last=n - 1,
            )
        )
    logits = _logits_at(recording, position - 1)
    log = logits.log_softmax(dim=-1)
    top = log.topk(min(k, len(log)))
    written = int(recording.token_ids[position])
    return Alternatives(
        position=position,
        token_ids=tuple(top.indices.tolist()),
        probabilities=tuple(top.values.exp().tolist()),
        written=written,
        probability=float(log[written].exp()),
        rank=1 + int((log > log[written]).sum()),
    )


def _logits_at(recording: Recording, position: int) -> Float[Tensor, " vocab"]:
    """Logits of one position; `Recording.logits` would copy those of all."""
    if LOGITS in recording.activations:
        return recording.raw(LOGITS)[position].float()
    return recording.logits[position].float()
