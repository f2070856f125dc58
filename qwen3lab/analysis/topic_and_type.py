"""Specialisation by topic of the text told apart from specialisation by type of the token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.specialisation import mutual_information
from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas

MEASURES = ("topic", "kind", "topic_within_type", "type_within_topic")


@dataclass(frozen=True, repr=False, eq=False)
class TopicAndType(EqualByValue, Displayed):
    """What the chosen expert tells about the topic of the text and the type of the token, in nats.

    Topic and type depend on each other (some types occur in one topic only). What the expert tells
    about one while the other is known is therefore the figure to compare.

    Attributes:
        layers: layers with experts; the rows of the tensors.
        names: of the two labels, topic and type.
        topic: mutual information of expert and topic.
        kind: mutual information of expert and type.
        topic_within_type: that of expert and topic among tokens of one type, averaged over types.
        type_within_topic: that of expert and type among tokens of one topic, averaged over topics.
    """

    layers: tuple[int, ...]
    names: tuple[str, str]
    topic: Float[Tensor, " layer"]
    kind: Float[Tensor, " layer"]
    topic_within_type: Float[Tensor, " layer"]
    type_within_topic: Float[Tensor, " layer"]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table: layer, and the four values in nats."""
        import pandas

        values = {name: getattr(self, name).numpy() for name in MEASURES}
        return pandas.DataFrame({"layer": self.layers, **values})

    def _summary(self) -> Summary:
        topic, kind = self.names
        facts = {
            tr("{kind}, within one {topic}", kind=kind, topic=topic): _nats(self.type_within_topic),
            tr("{topic}, within one {kind}", kind=kind, topic=topic): _nats(self.topic_within_type),
        }
        title = tr(
            "Experts by {kind} and by {topic}, means over {counted}",
            kind=kind,
            topic=topic,
            counted=tr_count("{n:,} layer", "{n:,} layers", len(self.layers)),
        )
        return Summary(title, facts, frame=self.to_pandas)


def _nats(values: Tensor) -> str:
    return tr("{value:.3f} nats", value=float(values.mean()))


@checked
def topic_and_type(
    counts: Float[Tensor, "layer topic type expert"],
    *,
    layers: Sequence[int],
    names: tuple[str, str] = ("topic", "type"),
) -> TopicAndType:
    """Mutual information of the expert with the topic and the type, each alone and conditionally.

    Args:
        counts: tokens of each topic and type that are routed to each expert.
        layers: number of each row's layer.
        names: of the two labels.

    Raises:
        ValueError: nothing was counted, or another number of layers.

    Source: Cover and Thomas, Elements of Information Theory, equations 2.28 and 2.61: the
    conditional mutual information I(E; T | S) is the mean of I(E; T) within each value of S,
    weighted by its probability.
    """
    if len(layers) != len(counts):
        raise ValueError(f"counts have {len(counts)} layers: expected {len(layers)}")
    rows = [
        (
            mutual_information(layer.sum(dim=1)),
            mutual_information(layer.sum(dim=0)),
            _within(layer.transpose(0, 1)),
            _within(layer),
        )
        for layer in counts.double()
    ]
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(MEASURES)).T
    return TopicAndType(tuple(layers), names, *values.float())


def _within(counts: Float[Tensor, "given label expert"]) -> float:
    """The mutual information of label and expert given another label."""
    shares = counts.sum(dim=(1, 2)) / counts.sum()
    used = [(share, each) for share, each in zip(shares.tolist(), counts, strict=True) if share > 0]
    return sum(share * mutual_information(each) for share, each in used)
