"""The difference of two aligned runs."""

import plotly.graph_objects as go

from qwen3lab.analysis.differences import Difference
from qwen3lab.arguments import checked
from qwen3lab.figures.maps import DIVERGING, Side, labelled_map
from qwen3lab.figures.theme import empty_figure, escape, short_text
from qwen3lab.translation import tr

MAX_PAIRS = 512
"""Maximum aligned tokens of a figure; `Alignment.part` selects others of a long text."""

WIDTH = 24
"""Maximum characters of a token."""


@checked
def difference(found: Difference) -> go.Figure:
    """What differs between two runs, on a scale that is symmetric around 0.

    A label has the position and the text of a token in the first run, and where the second run has
    another token, that one, too.

    Args:
        found: from `analysis.differences`.

    Raises:
        ValueError: more aligned tokens than a figure can show.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab.analysis.alignment import alignment
        >>> from qwen3lab.analysis.differences import attention_difference
        >>> lab = qwen3lab.load("tiny-moe")
        >>> aligned = alignment(lab.record("3+4=?"), lab.record("3+5=?"), names=("four", "five"))
        >>> figure = qwen3lab.figures.difference(attention_difference(aligned, 3, 0))
        >>> figure.layout.title.text
        'Attention of layer 3, head 0: four minus five'
    """
    one, other = (escape(name) for name in found.aligned.names)
    n = len(found.aligned)
    if not n:
        return empty_figure(tr("There is nothing to compare: no token of one run is in the other."))
    if n > MAX_PAIRS:
        raise ValueError(
            tr(
                "{n:,} tokens are aligned, and a figure shows {max_pairs} at most: "
                "select some of them, as in aligned.part(0, 500)",
                n=n,
                max_pairs=MAX_PAIRS,
            )
        )
    labels, high = pair_labels(found), largest(found)
    rows = [escape(name) for name in found.rows] or labels
    what, unit = tr(found.what), tr(found.unit)
    row, column = (tr("query"), tr("key")) if not found.rows else (tr(found.row_unit), tr("token"))
    return labelled_map(
        found.values,
        Side(tr("{row} token", row=row) if not found.rows else row, rows),
        Side(tr("{column} token", column=column) if not found.rows else column, labels),
        title=tr(
            "{what}: {one} minus {other}",
            what=f"{what[:1].upper()}{what[1:]}",
            one=one,
            other=other,
        ),
        subtitle=tr(
            "red: higher in {one}; blue: higher in {other}; grey: {nothing}",
            one=one,
            other=other,
            nothing=tr(found.nothing),
        ),
        value=unit,
        hover=f"{row} %{{y}}<br>{column} %{{x}}<br>{unit} %{{z:+.4f}}",
        high=high,
        low=-high,
        palette=DIVERGING,
    )


def largest(found: Difference) -> float:
    """The largest size of a difference: the scale reaches from minus to plus this value."""
    known = found.values[~found.values.isnan()]
    return max(float(known.abs().max()), 1e-6) if known.numel() else 1e-6


def pair_labels(found: Difference) -> list[str]:
    """The labels of the aligned tokens: `12 ·4`, or `12 ·4 ≠ ·5` where the runs differ; escaped."""
    return [
        f"{i} {short_text(a, width=WIDTH)}" + ("" if a == b else f" ≠ {short_text(b, width=WIDTH)}")
        for (i, _), (a, b) in zip(found.aligned.pairs, found.aligned.tokens, strict=True)
    ]
