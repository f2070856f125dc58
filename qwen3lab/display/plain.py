"""Untrusted text for a terminal, with control characters escaped."""

_ONE_LINE = str.maketrans({"\n": "↵", "\r": "␍", "\t": "⇥"})


def one_line(text: str, *, width: int | None = None) -> str:
    """Text on one line, with control characters escaped, such as `\\x1b`.

    Args:
        text: of a model, a prompt or a file.
        width: maximum number of characters; a longer text ends in "…".
    """
    # Cut first: escaping all of a long text would be slow.
    part = text if width is None else text[: width + 1]
    shown = _visible(part.translate(_ONE_LINE))
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def several_lines(text: str) -> str:
    """Text with its line breaks and tabs; all other control characters are escaped."""
    return "".join(c if c in "\n\t" else _visible(c) for c in text.replace("\r\n", "\n"))


def shortened(text: str, width: int) -> str:
    """A text in at most `width` characters; " … " replaces the middle of a longer text."""
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[:half]} … {text[-half:]}"


def _visible(text: str) -> str:
    """Escapes unprintable characters: controls, bidirectional marks, lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
