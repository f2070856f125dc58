"""An answer as HTML: paragraphs as written, code in monospace, marked where it differs."""

import html
from collections.abc import Sequence

from qwen3lab.widgets.explorers.comparison import CODE, Range


def answer_html(answer: str, marked: Sequence[Range] = ()) -> str:
    """The text with its line breaks; what a model wrote is escaped, its Markdown is not rendered.

    Args:
        answer: the text.
        marked: ranges of characters to mark, in order.
    """
    blocks, start = [], 0
    for code in CODE.finditer(answer):
        blocks += [("div", "q3-prose", start, code.start()), ("pre", "q3-code", *code.span())]
        start = code.end()
    blocks.append(("div", "q3-prose", start, len(answer)))
    return "".join(_block(answer, marked, *block) for block in blocks)


def _block(answer: str, marked: Sequence[Range], tag: str, name: str, start: int, end: int) -> str:
    # The line breaks at the ends are the distance between blocks.
    while start < end and answer[start] == "\n":
        start += 1
    while end > start and answer[end - 1].isspace():
        end -= 1
    if start == end:
        return ""
    parts, here = [], start
    for first, last in marked:
        first, last = max(first, here), min(last, end)
        if first >= last:
            continue
        parts += [
            html.escape(answer[here:first]),
            f"<mark>{html.escape(answer[first:last])}</mark>",
        ]
        here = last
    parts.append(html.escape(answer[here:end]))
    return f'<{tag} class="{name}" dir="auto">{"".join(parts)}</{tag}>'
