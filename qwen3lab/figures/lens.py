"""The map of a lens: what each layer predicts at each token."""

from dataclasses import replace
from itertools import accumulate
from unicodedata import east_asian_width

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.display import one_line
from qwen3lab.figures.maps import Side, labelled_map
from qwen3lab.figures.sizes import LABEL_HEIGHT, LETTER_WIDTH, PLOT_WIDTH, plot_height
from qwen3lab.figures.theme import SEQUENTIAL, escape, short_text, token_labels, traces
from qwen3lab.lenses.lens import Lens
from qwen3lab.lenses.top_of_lens import TopOfLens
from qwen3lab.metrics.metric import Token, quoted, token_id
from qwen3lab.translation import tr

MAX_TOKENS = 512
"""Maximum number of tokens of a map."""

ROW_HEIGHT, HOVER_TOKENS, HOVER_WIDTH = 26, 5, 20
COLOURS = ("probability", "rank", "entropy", "kl")


@checked
def lens_map(lens: Lens, answer: Token | None = None, *, colour: str = "probability") -> go.Figure:
    """What each layer predicts at each token: the most probable token in each cell.

    Cells are bold where the answer leads. Hover text has the five most probable tokens.

    Args:
        lens: from `lenses.logit_lens`, `tuned_lens` or `jacobian_lens`.
        answer: text of one token, or its id, whose probability or rank is the colour; None for the
            probability of each cell's most probable token.
        colour: "probability" or "rank" of the answer, or "entropy" of the distribution, or its
            "kl" divergence from the model's own.

    Raises:
        ValueError: the model has no such token, or the colour is none of these.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import figures, lenses
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", capture=lenses.NEEDED)
        >>> figure = figures.lens_map(lenses.logit_lens(lab, rec), "7")
        >>> figure.layout.title.text
        'Logit lens, probability of “7” · tiny-moe'
    """
    if colour not in COLOURS:
        raise ValueError(
            tr(
                "there is no colour {colour!r}: choose from {colours}",
                colour=colour,
                colours=", ".join(COLOURS),
            )
        )
    if colour == "rank" and answer is None:
        raise ValueError(tr('colour="rank" is that of an answer: give answer=, such as "7"'))
    n_tokens, chosen = len(lens.positions), None if answer is None else token_id(lens.lab, answer)
    lens = replace(lens, positions=lens.positions[:MAX_TOKENS])
    top = lens.top(min(HOVER_TOKENS, lens.lab.config.d_vocab))
    what, values = _values(lens, chosen, colour, top)
    name = "" if chosen is None else escape(quoted(lens.lab, chosen))
    kind, shown = tr(lens.kind), tr("{what} of {name}", what=what, name=name) if name else what
    title = tr("{one}, {other}", one=f"{kind[:1].upper()}{kind[1:]}", other=shown)
    figure = labelled_map(
        values,
        _rows(lens),
        Side(tr("token"), _columns(lens)),
        title=f"{title} · {escape(one_line(lens.recording.model_name))}",
        subtitle=_subtitle(n_tokens),
        value=what,
        hover=tr("%{y}, after %{x}<br>%{customdata}"),
        high=_high(values, colour),
        palette=f"{SEQUENTIAL}_r" if colour == "rank" else SEQUENTIAL,
        about=_hovers(lens, top, chosen, colour, values),
        row_height=ROW_HEIGHT,
        adapts=False,
    )
    traces(figure)[0].update(text=_texts(top, chosen), texttemplate="%{text}", textfont_size=12)
    return figure


def _values(
    lens: Lens, chosen: int | None, colour: str, top: TopOfLens
) -> tuple[str, Float[Tensor, "layer token"]]:
    """Name and unit of the colour, and its values."""
    if colour == "entropy":
        return tr("entropy in nats"), lens.entropy().float()
    if colour == "kl":
        return tr("KL divergence to the output in nats"), lens.kl().float()
    if chosen is None:
        return tr("probability of the most probable token"), top.probabilities[..., 0]
    if colour == "rank":
        return tr("log10 (1 + rank)"), (1.0 + lens.rank(chosen)).log10()
    return tr("probability"), lens.probability(chosen).float()


def _high(values: Float[Tensor, "layer token"], colour: str) -> float:
    return 1.0 if colour == "probability" else float(values.max())


def _subtitle(n_tokens: int) -> str:
    cut = (
        tr(
            "; the first {max_tokens} of {n_tokens:,} tokens",
            max_tokens=MAX_TOKENS,
            n_tokens=n_tokens,
        )
        if n_tokens > MAX_TOKENS
        else ""
    )
    return tr("cells name the most probable next token{cut}", cut=cut)


def _rows(lens: Lens) -> Side:
    """Numbers of layers where each has one row, else the rows' names."""
    if {place.name for place in lens.places} == {f"layer {layer}" for layer in lens.layers}:
        return Side(tr("layer"), [str(layer) for layer in lens.layers])
    return Side(tr("place"), [escape(name) for name in lens.names])


def _columns(lens: Lens) -> list[str]:
    pairs = zip(lens.positions, lens.tokens, strict=True)
    return [token_labels([token], first=position)[0] for position, token in pairs]


def _texts(top: TopOfLens, chosen: int | None) -> list[list[str]]:
    """The most probable token of each cell, as much of it as fits; bold if it is the answer."""
    n_rows, n_columns, _ = top.token_ids.shape
    letters = int(PLOT_WIDTH / n_columns / LETTER_WIDTH)
    if plot_height(n_rows, ROW_HEIGHT) / n_rows < LABEL_HEIGHT or not letters:
        return [[""] * n_columns] * n_rows
    texts = {each: _fitting(text, letters) for each, text in top.texts.items()}
    if chosen in texts:
        texts[chosen] = f"<b>{texts[chosen]}</b>"
    return [[texts[each] for each in row] for row in top.token_ids[..., 0].tolist()]


def _fitting(text: str, room: int) -> str:
    """A token in a room of so many letters; nothing if only dots would be left of it."""
    ends = list(accumulate(1 + (east_asian_width(letter) in "WF") for letter in text))
    is_whole = not ends or ends[-1] <= room
    shown = short_text(text, width=room if is_whole else 1 + sum(end < room for end in ends))
    return "" if shown == "…" else shown


def _hovers(
    lens: Lens, top: TopOfLens, chosen: int | None, colour: str, values: Tensor
) -> list[list[str]]:
    """Hover text of each cell: what the colour is, and the most probable tokens."""
    texts = {each: short_text(text, width=HOVER_WIDTH) for each, text in top.texts.items()}
    first = _first_lines(lens, chosen, colour, values)
    ids, shares = top.token_ids.tolist(), top.probabilities.tolist()
    return [
        [
            first[row][column]
            + "<br>".join(
                f"{share:.3f} {texts[each]}"
                for each, share in zip(ids[row][column], shares[row][column], strict=True)
            )
            for column in range(len(ids[row]))
        ]
        for row in range(len(ids))
    ]


def _first_lines(lens: Lens, chosen: int | None, colour: str, values: Tensor) -> list[list[str]]:
    if chosen is None and colour == "probability":
        return [[""] * values.shape[1]] * len(values)
    name = "" if chosen is None else escape(quoted(lens.lab, chosen))
    if colour == "rank":
        ranks = (10.0 ** values.double() - 1).round().to(torch.long).tolist()
        return [
            [tr("rank of {name}: {rank:,}<br>", name=name, rank=rank) for rank in row]
            for row in ranks
        ]
    label = (
        tr("probability of {name}", name=name)
        if colour == "probability"
        else tr("{colour} in nats", colour=tr(colour))
    )
    return [
        [tr("{label}: {value:.3f}<br>", label=label, value=value) for value in row]
        for row in values.tolist()
    ]
