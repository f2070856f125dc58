"""The numbers of the view that is shown, as CSV."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.errors import RecordingError
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.explorers.chat_compute import token_parts
from qwen3lab.widgets.explorers.raw_compute import as_rows
from qwen3lab.widgets.explorers.text_compute import of_reply
from qwen3lab.widgets.explorers.why_compute import lens_heatmap
from qwen3lab.widgets.workbench.keep.restoring import KeptBench, shown_recording
from qwen3lab.widgets.workbench.parts.capture import CapturePart


@runtime_checkable
class TabledBench(KeptBench, Protocol):
    """The part of a `Workbench` whose views have tables."""

    @property
    def raw(self) -> CapturePart:
        """Hooks that the run did not keep."""
        ...


@dataclass(frozen=True)
class Table:
    """Rows of numbers and texts.

    Attributes:
        about: what the numbers are.
        columns: name of each column.
        rows: from the top; None for no value.
    """

    about: str
    columns: list[str]
    rows: Iterable[Sequence[int | float | str | None]]


def view_csv(bench: TabledBench) -> str:
    """The numbers of the tab that is shown, as CSV: a line that says what they are, then a table.

    Texts of tokens are in JSON's quotes: no program takes one for a formula.

    Raises:
        RecordingError: there is no finished run, or the view has no numbers yet.
    """
    recording = shown_recording(bench)
    table = TABLES[bench.state.tab](bench, recording)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f"{table.about}; {bench.name}"])
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return out.getvalue()


def quoted(text: str) -> str:
    """A text as JSON, in quotes."""
    return json.dumps(text, ensure_ascii=False)


def _named(recording: Recording, first: int, end: int) -> list[str]:
    """The tokens of a range as names of columns."""
    return [f"{at} {quoted(recording.tokens[at])}" for at in range(first, end)]


def _text(bench: TabledBench, recording: Recording) -> Table:
    """One row for each token, with its surprisal and entropy where they are known."""
    columns, values = list[str](), list[list[float | None]]()
    for name in ("surprisal", "entropy"):
        try:
            shades = of_reply(recording, bench.state.current, name)
        except RecordingError:  # The logits were not recorded.
            continue
        columns.append(f"{name} (nats)")
        values.append(_known(shades.values))
    parts = token_parts(recording)
    about = tr(
        "surprisal and entropy of the {n} tokens, in nats",
        n=len(recording),
    )
    rows = (
        [at, quoted(text), parts[at], *(column[at] for column in values)]
        for at, text in enumerate(recording.tokens)
    )
    return Table(about, ["token", "text", "part", *columns], rows)


def _attention(bench: TabledBench, recording: Recording) -> Table:
    """The weights of the picked head, in the window of its map that is shown."""
    state, n = bench.state, len(recording)
    top, bottom, left, right = state.window
    if not (0 <= top < bottom <= n and 0 <= left < right <= n):
        top, bottom, left, right = 0, n, 0, n
    values = recording.attention.pattern(
        state.layer, queries=slice(top, bottom), heads=slice(state.head, state.head + 1)
    )[0, :, left:right]
    about = tr(
        "attention weights of layer {layer}, head {head}: a row for each query",
        layer=state.layer,
        head=state.head,
    )
    rows = (
        [top + row, quoted(recording.tokens[top + row]), *map(float, values[row])]
        for row in range(bottom - top)
    )
    return Table(about, ["query", "text", *_named(recording, left, right)], rows)


def _routing(bench: TabledBench, recording: Recording) -> Table:
    """The experts and weights of each token in the picked layer, best first."""
    layer = bench.state.routing_layer
    found = recording.routing.layer(layer)
    ranks = range(found.experts.shape[1])
    experts, weights = found.experts.tolist(), found.weights.tolist()
    columns = [f"{what} {rank}" for rank in ranks for what in ("expert", "weight")]
    rows = (
        [
            at,
            quoted(text),
            *(value for rank in ranks for value in (experts[at][rank], weights[at][rank])),
        ]
        for at, text in enumerate(recording.tokens)
    )
    about = tr(
        "experts and routing weights of each token in layer {layer}, best first", layer=layer
    )
    return Table(about, ["token", "text", *columns], rows)


def _thinking(bench: TabledBench, recording: Recording) -> Table:
    """The answer after each number of thinking tokens that was asked for."""
    answers = bench.state.answers
    if not answers:
        raise RecordingError(
            tr("there are no early answers yet: ask for some in the thinking view")
        )
    rows = ([kept, quoted(answers[kept].text)] for kept in sorted(answers))
    return Table(
        tr("early answers, by the number of thinking tokens kept"), ["kept", "answer"], rows
    )


def _why(bench: TabledBench, recording: Recording) -> Table:
    """The probability of the explained token at each layer and token."""
    found = bench.state.explained
    if found is None:
        raise RecordingError(tr("no token is explained yet: pick one in the why view"))
    shown = lens_heatmap(found)
    first = shown.columns.first
    rows = ([layer, *_known(values)] for layer, values in enumerate(shown.values))
    columns = ["layer", *_named(recording, first, first + shown.values.shape[1])]
    return Table(tr("{title}; a row for each layer", title=shown.title), columns, rows)


def _raw(bench: TabledBench, recording: Recording) -> Table:
    """The values of the chosen hook, a row for each token."""
    hook = bench.state.hook
    value = bench.raw.value(hook)
    if value is None:
        raise RecordingError(tr("{hook} was not recorded: press Record in the raw view", hook=hook))
    values = as_rows(hook, value).float()
    rows = ([at, quoted(text), *_known(values[at])] for at, text in enumerate(recording.tokens))
    columns = ["token", "text", *map(str, range(values.shape[1]))]
    return Table(tr("values of {hook}: a row for each token", hook=hook), columns, rows)


TABLES: dict[str, Callable[[Any, Recording], Table]] = {
    "text": _text,
    "attention": _attention,
    "routing": _routing,
    "thinking": _thinking,
    "why": _why,
    "raw": _raw,
}


def _known(values: Float[Tensor, " n"]) -> list[float | None]:
    """The numbers; None for one that is not finite."""
    finite = torch.isfinite(values).tolist()
    return [value if known else None for value, known in zip(values.tolist(), finite, strict=True)]
