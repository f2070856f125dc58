"""The options that several commands share, and the checks of their values."""

import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from qwen3lab.translation import tr


def usable_device(text: str | None) -> str | None:
    """The device unchanged, after an allocation on it has succeeded.

    Raises:
        ValueError: torch cannot use the device on this machine.
    """
    if text is not None:
        from qwen3lab.device.dtypes import device_of as checked

        checked(text)
    return text


def known_home(text: str | None) -> str | None:
    """The model's name unchanged, after a leading `~` or `~user` has been resolved.

    Raises:
        ValueError: there is no such user on this machine.
    """
    try:
        Path(text or "").expanduser()
    except RuntimeError as error:
        raise ValueError(
            tr(
                "{text!r} starts with the home folder of an unknown user: give the full path",
                text=text,
            )
        ) from error
    return text


def writable_file(path: Path | None) -> Path | None:
    """The path unchanged, after checking that its folder exists and is writable.

    Raises:
        ValueError: the path is a folder, or its parent is missing or not writable.
    """
    if path is None:
        return None
    if path.is_dir():
        raise ValueError(tr("{path} is a folder: give the name of a file to write", path=path))
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(
            tr(
                "{path} cannot be written: {parent} is not a writable folder; create it first, or "
                "choose another",
                path=path,
                parent=path.parent,
            )
        )
    return path


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Seed = Annotated[int | None, typer.Option(help="Random seed; makes the sampling repeatable.")]
Model = Annotated[
    str, typer.Argument(callback=known_home, help="An embedded model, a folder, or a hub id.")
]
Device = Annotated[
    str | None,
    typer.Option(callback=usable_device, help="Such as cpu or cuda; default: the fastest."),
]
ThisDevice = Annotated[str, typer.Option(callback=usable_device, help="Such as cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Memory = Annotated[
    str | None,
    typer.Option(help="Limit, such as 24GB; a model that does not fit whole is streamed."),
]
Quantise = Annotated[
    str | None,
    typer.Option(help="int8 or int4; auto: if --memory asks for it; keep: packed as it is stored."),
]


class Suite(str, Enum):
    """A suite of `qwen3lab bench`."""

    forward = "forward"
    record = "record"
    decode = "decode"
    overhead = "overhead"
    compiled = "compiled"
    experts = "experts"
    sweep = "sweep"
    stream = "stream"
    quantised = "quantised"
    circuits = "circuits"
    patching = "patching"
    corpus = "corpus"
    serve = "serve"
    busy = "busy"
    class_ = "class"
    growth = "growth"
    llama = "llama"
    gpu = "gpu"


class Tab(str, Enum):
    """A view of the workbench."""

    text = "text"
    attention = "attention"
    routing = "routing"
    thinking = "thinking"
    why = "why"
    compare = "compare"
    raw = "raw"


def token_counts(text: str) -> list[int]:
    """The numbers in a list such as "512,1024".

    Raises:
        ValueError: the text is not such a list.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(tr("--tokens is {text!r}: expected lengths such as 512,1024", text=text))
    return [int(part) for part in parts]


def reductions(texts: Iterable[str]) -> dict[str, str]:
    """What is kept of each hook, from texts such as "blocks.3.hook_resid_post=mean".

    Raises:
        ValueError: a text is not of this form.
    """
    found = {}
    for text in texts:
        hook, sign, how = text.rpartition("=")
        if not (hook and sign and how):
            raise ValueError(
                tr("--reduce is {text!r}: expected HOOK=mean, HOOK=last or HOOK=0,-1", text=text)
            )
        found[hook] = how
    return found
