"""Vocabulary specialisation: the tokens that are routed to an expert."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from qwen3lab.analysis.structure import chosen
from qwen3lab.arguments import Count, checked
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


class Served(NamedTuple):
    """A token's text and how often it was routed to an expert.

    Attributes:
        text: of the token.
        served: number of occurrences routed to the expert.
        seen: number of occurrences.
    """

    text: str
    served: int
    seen: int


@checked
def served_vocabulary(
    recordings: Sequence[Recording], layer: int, expert: int, *, at_least: Count = 1
) -> list[Served]:
    """The tokens routed to an expert, by vocabulary specialisation, highest first.

    The vocabulary specialisation of a token is `served / seen`; frequent tokens first among ties.

    Args:
        recordings: of one model.
        layer: with experts.
        expert: in the layer.
        at_least: minimum number of occurrences of a token.

    Raises:
        RecordingError: the layer has no experts.
        ValueError: no such expert.

    Source: OLMoE (arXiv 2409.02060), equation 8, on the input token.
    """
    seen: Counter[str] = Counter()
    served: Counter[str] = Counter()
    for recording in recordings:
        routing, n_experts = recording.routing.layer(layer), recording.config.n_experts
        if not 0 <= expert < n_experts:
            raise ValueError(
                tr(
                    "expert {expert} does not exist: the layer has experts 0 to {last}",
                    expert=expert,
                    last=n_experts - 1,
                )
            )
        table = chosen(routing.experts, n_experts)[:, expert]
        seen.update(recording.tokens)
        served.update(t for t, is_served in zip(recording.tokens, table, strict=True) if is_served)
    tokens = [Served(text, n, seen[text]) for text, n in served.items() if seen[text] >= at_least]
    return sorted(tokens, key=lambda one: (-one.served / one.seen, -one.seen, one.text))
