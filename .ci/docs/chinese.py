"""The Chinese edition of the notebooks: the code of the English ones, with prose of its own.

`make format` copies code cells from `notebooks/` to `notebooks/zh/`, and keeps the Chinese prose
there. Each cell of Chinese prose carries a digest of the English prose that it translates, and a
test compares both, so that no translation goes stale. Whoever has read the Chinese prose of a
notebook against the English one says so:

    python .ci/docs/chinese.py --accept 00_start_here
"""

import argparse
import hashlib
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

ENGLISH = Path(__file__).resolve().parents[2] / "notebooks"
CHINESE = ENGLISH / "zh"
KEY = "english"
"""Name of the digest in the metadata of a Chinese cell."""


def digest(prose: str) -> str:
    """Of prose, however its lines are broken."""
    return hashlib.sha256(" ".join(prose.split()).encode()).hexdigest()[:12]


def pairs(english: NotebookNode, chinese: NotebookNode) -> list[tuple[NotebookNode, NotebookNode]]:
    """English cells of prose with their translations.

    A cell whose digest is that of the English prose comes first, then one of the same id.
    """
    prose = [cell for cell in english.cells if cell.cell_type != "code"]
    left = [cell for cell in chinese.cells if cell.cell_type != "code"]
    found = {}
    for matches in (_translates, _same_id):
        for cell in [cell for cell in prose if cell.id not in found]:
            candidates = [each for each in left if matches(cell, each)]
            if candidates:
                found[cell.id] = candidates[0]
                left.remove(candidates[0])
    return [(cell, found[cell.id]) for cell in prose if cell.id in found]


def _translates(english: NotebookNode, chinese: NotebookNode) -> bool:
    return chinese.metadata.get(KEY) == digest(english.source)


def _same_id(english: NotebookNode, chinese: NotebookNode) -> bool:
    return chinese.id == english.id


def merged(english: NotebookNode, chinese: NotebookNode) -> NotebookNode:
    """The English notebook with Chinese prose where there is some."""
    prose = {cell.id: translation for cell, translation in pairs(english, chinese)}
    book = nbformat.from_dict(english)
    for cell in book.cells:
        if translation := prose.get(cell.id):
            cell.source = translation.source
            if KEY in translation.metadata:
                cell.metadata[KEY] = translation.metadata[KEY]
    return book


def stale(english: NotebookNode, chinese: NotebookNode) -> list[str]:
    """The first lines of Chinese cells whose English prose has changed, or was not translated."""
    return [
        translation.source.partition("\n")[0]
        for cell, translation in pairs(english, chinese)
        if not _translates(cell, translation)
    ]


def accept(english: NotebookNode, chinese: NotebookNode) -> None:
    """Note in each Chinese cell that it translates the English prose as it is now.

    Raises:
        SystemExit: a cell still has the English prose.
    """
    for cell, translation in pairs(english, chinese):
        if cell.source == translation.source:
            raise SystemExit(f"not translated yet: {cell.source}")
        translation.metadata[KEY] = digest(cell.source)


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _write(book: NotebookNode, path: Path) -> None:
    """Write a notebook and its paired script, if they changed."""
    texts = {path: nbformat.writes(book) + "\n"}
    texts[path.with_suffix(".py")] = jupytext.writes(book, fmt="py:percent")
    for each, text in texts.items():
        if not each.exists() or each.read_text("utf-8") != text:
            each.write_text(text, "utf-8")


def main(accepted: list[str]) -> None:
    """Bring every Chinese notebook up to date, and print which of its prose is not."""
    CHINESE.mkdir(exist_ok=True)
    for path in sorted(ENGLISH.glob("*.ipynb")):
        english, target = _read(path), CHINESE / path.name
        book = merged(english, _read(target) if target.exists() else english)
        if path.stem in accepted:
            accept(english, book)
        _write(book, target)
        for line in stale(english, book):
            print(f"notebooks/zh/{path.name}: the English prose has changed beside: {line}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--accept", nargs="+", default=[], metavar="NOTEBOOK")
    main(parser.parse_args().accept)
