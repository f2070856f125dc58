"""The most probable next tokens of every row and position of a lens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.lenses.places import Place
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class TopOfLens(EqualByValue, Displayed):
    """The most probable next tokens of every row and position, most probable first.

    Attributes:
        kind: of the lens.
        model_name: of the model.
        places: one for each row.
        positions: in the recording, one for each column.
        tokens: text of the token at each position.
        token_ids: of the predicted tokens.
        probabilities: of the predicted tokens.
        texts: of the predicted tokens, by id.
    """

    kind: str
    model_name: str
    places: tuple[Place, ...]
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    token_ids: Int[Tensor, "layer token k"]
    probabilities: Float[Tensor, "layer token k"]
    texts: Mapping[int, str]

    def text(self, row: int, column: int, rank: int = 0) -> str:
        """Text of a predicted token; it is the model's, and may hold any character."""
        return self.texts[int(self.token_ids[row, column, rank])]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table with a row for each prediction.

        Columns: place, layer, position, token, rank, token_id, predicted, probability.
        """
        import pandas

        n_places, n_tokens, k = self.token_ids.shape
        rows = [
            (place.name, place.layer, position, token, rank)
            for place in self.places
            for position, token in zip(self.positions, self.tokens, strict=True)
            for rank in range(k)
        ]
        assert len(rows) == n_places * n_tokens * k
        table = pandas.DataFrame(rows, columns=["place", "layer", "position", "token", "rank"])
        table["token_id"] = self.token_ids.flatten().numpy()
        table["predicted"] = [self.texts[each] for each in table.token_id.tolist()]
        table["probability"] = self.probabilities.flatten().numpy()
        return table

    def _summary(self) -> Summary:
        facts = {
            tr("of"): tr(
                "{counted} and {other}",
                counted=tr_count("{n:,} place", "{n:,} places", len(self.places)),
                other=tr_count("{n:,} token", "{n:,} tokens", len(self.positions)),
            ),
            tr("by"): self.model_name,
        }
        title = tr("Most probable next tokens, {kind}", kind=tr(self.kind))
        note = tr("the table is of the last token; to_pandas() has all of them")
        return Summary(title, facts, frame=self._of_last, note=note)

    def _of_last(self) -> "pandas.DataFrame":
        """A row for each place, with the predictions at the last position."""
        import pandas

        if not self.positions:
            return pandas.DataFrame()
        k = self.token_ids.shape[2]
        cells = [[self._cell(row, rank) for rank in range(k)] for row in range(len(self.places))]
        table = pandas.DataFrame(cells, columns=[str(rank + 1) for rank in range(k)])
        table.insert(0, "place", [place.name for place in self.places])
        return table

    def _cell(self, row: int, rank: int) -> str:
        probability = float(self.probabilities[row, -1, rank])
        return f"{one_line(self.text(row, -1, rank))} {probability:.2f}"
