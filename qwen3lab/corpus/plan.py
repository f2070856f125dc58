"""The plan of a corpus run: what is read, by which model, and what is kept. It is plain data."""

from dataclasses import dataclass, field
from itertools import product, starmap

from qwen3lab.arguments import check_fields
from qwen3lab.errors import CorpusError
from qwen3lab.translation import tr

KEEP = ("counts", "top", "routes", "saliency")
"""What can be kept of the routing; activations are named by their hooks."""
TOO_LONG = ("cut", "skip")
REDUCTIONS = ("mean", "last")

PART_ROWS = 256
"""Rows of the data set in a part: what an interrupt loses at most."""
BATCH_TOKENS = {"cpu": 1024, "gpu": 16_384}
"""Positions of a batch, padding included; on a CPU, larger ones leave its caches."""
TOP = 10
CONTEXT_TOKENS = 12
"""Tokens before and after the one of a top example that are kept with it."""


@dataclass(frozen=True)
class CorpusPlan:
    """What a run reads and keeps. It decides every number of the result but for rounding.

    Attributes:
        model: name, folder or hub id of the model.
        load: further arguments of `qwen3lab.load`, by name; None values are left out.
        column: of the texts, chats or token ids.
        labels: columns whose values group the counts.
        token_labels: columns with a list of one label for each token, which group the counts, too.
        cross: group by every pair of a label and a token label, too.
        id: column that names a row; "" names rows by their number.
        keep: of `KEEP`.
        top_hooks: hooks whose heads or features get top examples, beside the experts.
        reduce: hooks of which one value per text is kept, with "mean", "last", or positions.
        full: hooks that are kept for every token.
        top: number of top examples of each expert, head or feature.
        max_tokens: longest text; the model's context if it is 0.
        too_long: "cut" keeps the first `max_tokens` tokens of a longer text, "skip" leaves it out.
        thinking: of chats, as in `Lab.record`.
        part_rows: rows of a part, which is run and stored as a whole.
        batch_tokens: positions of a batch, padding included; 0 is replaced by that of
            `BATCH_TOKENS` for the model's device.
    """

    model: str
    column: str = "text"
    labels: tuple[str, ...] = ()
    token_labels: tuple[str, ...] = ()
    cross: bool = False
    id: str = ""
    keep: tuple[str, ...] = ("counts",)
    top_hooks: tuple[str, ...] = ()
    reduce: dict[str, str] = field(default_factory=dict)
    full: tuple[str, ...] = ()
    top: int = TOP
    max_tokens: int = 0
    too_long: str = "cut"
    thinking: bool | None = None
    part_rows: int = PART_ROWS
    batch_tokens: int = 0
    load: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def groupings(self) -> tuple[str, ...]:
        """Names of what the counts are grouped by, the first of which `CorpusRun.load` uses."""
        names = (*self.labels, *self.token_labels)
        return (*names, *starmap(pair_of, self.pairs))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The columns whose labels are crossed."""
        return tuple(product(self.labels, self.token_labels)) if self.cross else ()

    def check(self) -> None:
        """Raises `CorpusError` for a plan that no run can have."""
        unknown = [name for name in self.keep if name not in KEEP]
        if unknown:
            raise CorpusError(
                tr(
                    "keep names {unknown!r}: choose from {choices}",
                    unknown=unknown[0],
                    choices=", ".join(KEEP),
                )
            )
        if not (self.keep or self.reduce or self.full):
            raise CorpusError(
                tr("nothing is kept: give keep={kept}, reduce= or full=", kept=KEEP[:1])
            )
        if self.top_hooks and "top" not in self.keep:
            raise CorpusError(tr('top_hooks are given without top examples: add "top" to keep'))
        if self.too_long not in TOO_LONG:
            raise CorpusError(
                tr('too_long is {too_long!r}: expected "cut" or "skip"', too_long=self.too_long)
            )
        for name in ("top", "part_rows"):
            if getattr(self, name) < 1:
                raise CorpusError(
                    tr(
                        "{name} is {given}: expected 1 or more",
                        name=name,
                        given=getattr(self, name),
                    )
                )
        for name in ("max_tokens", "batch_tokens"):
            if getattr(self, name) < 0:
                raise CorpusError(
                    tr(
                        "{name} is {given}: expected 1 or more, or 0",
                        name=name,
                        given=getattr(self, name),
                    )
                )
        columns = (self.column, *self.labels, *self.token_labels)
        if len(set(columns)) != len(columns):
            raise CorpusError(tr("a column is named twice: give the texts' and each label's once"))
        if self.cross and not (self.labels and self.token_labels):
            raise CorpusError(tr("cross counts pairs of labels: give label= and token_label=, too"))
        for hook, how in self.reduce.items():
            positions_of(hook, how)


def pair_of(first: str, second: str) -> str:
    """The name of a pair of labels, or of columns of labels."""
    return f"{first} × {second}"


def positions_of(hook: str, how: str) -> tuple[int, ...] | None:
    """The positions that a reduction keeps; None for the mean.

    Raises:
        CorpusError: neither "mean", "last", nor integers separated by commas.
    """
    if how == "mean":
        return None
    if how == "last":
        return (-1,)
    try:
        positions = tuple(int(each) for each in how.split(","))
    except ValueError:
        raise CorpusError(
            tr(
                '{hook} is reduced by {how!r}: expected "mean", "last", or positions such as '
                '"0,-1"',
                hook=hook,
                how=how,
            )
        ) from None
    return positions
