"""Export to other packages and to files."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from qwen3lab.arguments import checked
from qwen3lab.figures.theme import visible
from qwen3lab.recording.recording import Recording
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.translation import tr

PICTURES = (".png", ".svg", ".pdf")


@checked
def to_circuitsvis(recording: Recording, layer: int) -> Any:
    """The attention patterns of one layer as a `circuitsvis` view.

    Raises:
        ImportError: `circuitsvis` or a package that it imports is not installed.
        RecordingError: no such layer, or attention was not recorded.
    """
    patterns = recording.attention.pattern(layer)
    circuitsvis = _imported("circuitsvis.attention")
    return circuitsvis.attention_patterns(tokens=_harmless(recording.tokens), attention=patterns)


@checked
def to_bertviz(recording: Recording) -> Any:
    """The attention patterns of all layers in the head view of `bertviz`.

    Raises:
        ImportError: `bertviz` or a package that it imports is not installed.
        RecordingError: attention was not recorded.
    """
    attention = recording.attention
    patterns = tuple(attention.pattern(layer)[None] for layer in attention.layers)
    return _imported("bertviz").head_view(patterns, _harmless(recording.tokens))


def _harmless(tokens: Sequence[str]) -> list[str]:
    """Tokens without `<`: in the scripts of these packages, `</script>` would end the script."""
    return [visible(token).replace("<", "‹") for token in tokens]


def _imported(module: str) -> Any:
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            tr(
                "{package} cannot be imported ({error}): pip install {package}",
                package=package,
                error=error,
            )
        ) from error


@checked
def save(figure: go.Figure, path: str | Path) -> Path:
    """Write a figure as HTML that opens without a network, or as PNG, SVG or PDF.

    Args:
        figure: of this package.
        path: its suffix selects the format; pictures need the `export` extra and a browser.

    Raises:
        ValueError: another suffix.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".html", *PICTURES):
        kinds = ", ".join((".html", *PICTURES))
        raise ValueError(
            tr(
                "{name} ends in {suffix!r}: choose from {kinds}",
                name=path.name,
                suffix=path.suffix,
                kinds=kinds,
            )
        )
    with whole_file(path) as part:
        if path.suffix == ".html":
            figure.write_html(part, include_plotlyjs=True)
        else:
            figure.write_image(part, format=path.suffix[1:])
    return path
