"""Folders with the config and the tokenizer of a GGUF file, as other checkpoints have them."""

import atexit
import json
import shutil
import tempfile
from pathlib import Path

from qwen3lab.checkpoints.gguf_file import GgufFile
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

SUFFIX = ".gguf"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_FILES: dict[Path, GgufFile] = {}
"""The GGUF file that each folder describes; its header takes seconds to read, so it is kept."""


def is_gguf(path: Path) -> bool:
    """True for the name of a GGUF file."""
    return path.suffix.lower() == SUFFIX


def folder_of(path: Path) -> Path:
    """A temporary folder with config.json and tokenizer of a GGUF file, removed at exit.

    The tokenizer comes from tokenizer.json beside the file, if there is one, else from the file.

    Raises:
        CheckpointError: the file cannot be read, or has no tokenizer that transformers opens.
    """
    path = path.resolve()
    for folder, known in _FILES.items():
        if path in known.paths and known.is_unchanged() and folder.is_dir():
            return folder
    try:
        file = GgufFile(path)
        config = file.config()
    except ImportError as error:
        raise CheckpointError(
            f"{path} is a GGUF file, which the package gguf reads: pip install 'qwen3lab[gguf]'"
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="qwen3lab-gguf-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_tokenizer(file.path, folder)
    _FILES[folder] = file
    return folder


def gguf_of(folder: Path) -> GgufFile | None:
    """The GGUF file that a folder describes; None for any other folder."""
    return _FILES.get(folder.resolve())


def _write_tokenizer(path: Path, folder: Path) -> None:
    if (path.parent / TOKENIZER_FILES[0]).is_file():
        for name in TOKENIZER_FILES:
            if (path.parent / name).is_file():
                shutil.copyfile(path.parent / name, folder / name)
        return
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(path.parent), gguf_file=path.name, trust_remote_code=False, local_files_only=True
        )
        tokenizer.save_pretrained(folder)
    except Exception as error:  # Whatever a damaged vocabulary makes transformers raise.
        shutil.rmtree(folder, ignore_errors=True)
        reason = one_line(str(error), width=200)
        raise CheckpointError(
            f"{path} has no tokenizer that transformers opens ({reason}): put tokenizer.json and "
            "tokenizer_config.json of the model beside it"
        ) from error
