"""A thinking text as foldable paragraphs of sentences, with a marker that keys and clicks move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anywidget
import traitlets

from qwen3lab.widgets.components.scripts import script

MAX_PARAGRAPH = 12
"""Largest number of sentences of a paragraph."""

MAX_ANSWER_CHARACTERS = 80
"""Longest answer in a row; the whole answer at the marker is shown below the text."""


@dataclass(frozen=True)
class Thought:
    """One sentence of a thinking text.

    Attributes:
        tokens: the texts of its tokens.
        counts: number of thinking tokens up to and including each of them.
    """

    tokens: Sequence[str]
    counts: Sequence[int]


class Thoughts(anywidget.AnyWidget):
    """Shows a thinking text, the place of the marker, and the early answers so far.

    Attributes:
        thinking: the sentences, and the index of the first one of each paragraph.
        answers: the answer after a number of thinking tokens, and whether it is the final one.
        marker: number of thinking tokens kept; -1 for none.
        asking: number of thinking tokens after which the model is asked now; -1 for none.
        picked: number of tokens where the person moved the marker; `on_pick` resets it to -1.
    """

    _esm = script("thoughts.js")
    thinking = traitlets.Dict({"steps": [], "paragraphs": []}).tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)
    marker = traitlets.Int(-1).tag(sync=True)
    asking = traitlets.Int(-1).tag(sync=True)
    picked = traitlets.Int(-1).tag(sync=True)

    def show(self, thoughts: Sequence[Thought]) -> None:
        """Show another thinking text; an empty one hides the widget."""
        steps = [
            {"kept": each.counts[-1], "tokens": list(each.tokens), "counts": list(each.counts)}
            for each in thoughts
        ]
        texts = ["".join(each.tokens) for each in thoughts]
        self.thinking = {"steps": steps, "paragraphs": paragraph_starts(texts)}

    def show_answers(self, answers: Mapping[int, tuple[str, bool]]) -> None:
        """Show the early answers, shortened: text, and whether it is the final answer."""
        self.answers = {str(kept): [_short(text), same] for kept, (text, same) in answers.items()}


def paragraph_starts(sentences: Sequence[str]) -> list[int]:
    """The index of the first sentence of each paragraph.

    A paragraph ends with an empty line; one of many sentences is split.
    """
    starts: list[int] = []
    for index in range(len(sentences)):
        after_blank = index > 0 and _ends_paragraph(sentences[index - 1])
        if not starts or after_blank or index - starts[-1] >= MAX_PARAGRAPH:
            starts.append(index)
    return starts


def _ends_paragraph(sentence: str) -> bool:
    return sentence[len(sentence.rstrip()) :].count("\n") >= 2


def _short(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= MAX_ANSWER_CHARACTERS:
        return line
    return f"{line[: MAX_ANSWER_CHARACTERS - 1]}…"
