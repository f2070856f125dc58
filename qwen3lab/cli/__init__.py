"""The command line; `--help` does not import torch.

Exit codes: 0 done, 1 failed with one sentence on stderr, 2 wrong usage, 130 interrupted.
"""

import sys
from io import TextIOWrapper
from typing import NoReturn

from qwen3lab.cli.commands import app
from qwen3lab.cli.output import plain_text
from qwen3lab.translation import tr

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; expected errors print one sentence in place of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.isatty():
            # The default encoding of a file or pipe may lack most characters, as on Windows.
            stream.reconfigure(encoding="utf-8")
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(
            tr(
                "memory ran out: use fewer tokens or a smaller --dtype, or --memory or --quantise "
                "if the command has them"
            )
        )


def _fail(sentence: str) -> NoReturn:
    print(f"qwen3lab: {plain_text(sentence)}", file=sys.stderr)
    sys.exit(1)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    # On a CPU, torch raises a plain RuntimeError.
    is_known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_known or "DefaultCPUAllocator" in str(error)
