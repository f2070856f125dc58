"""Tables of the guide that are made from the code, and written into the Markdown pages.

A page holds a table between `<!-- table: NAME -->` and `<!-- end of table -->`. `make format` and
`make docs` write the tables again, and a test compares them, so that no page goes stale.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "qwen3lab"
GUIDE = ROOT / "notebooks" / "guide"
LAYERS_PICTURE = GUIDE / "images" / "layers.svg"
PAGES = (
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(page for page in sorted(GUIDE.rglob("*.md")) if "." not in page.parent.name),
)
CHINESE = Path(__file__).with_name("chinese_tables.json")
"""The words of the tables on the Chinese pages, by table and English words."""
Say = Callable[[str], str]
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def version() -> str:
    """Of the package in this folder, whichever is installed."""
    return _settings()["project"]["version"]


def layers() -> list[list[str]]:
    """The layers of the import contract, from the top; packages of one layer stand together."""
    contracts = _settings()["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    return [layer.replace("(", "").replace(")", "").split(" | ") for layer in layers]


def module_file(name: str) -> Path:
    """The source of a module or a package, by its path below `qwen3lab`."""
    path = PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def summary(name: str) -> str:
    """The first line of a module's docstring, which is read without an import."""
    text = ast.get_docstring(ast.parse(module_file(name).read_text("utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ").removesuffix(".")


def submodules(package: str) -> list[str]:
    """Modules and packages right below a package, by name; private ones are left out."""
    folder = PACKAGE.joinpath(*package.split("."))
    found = [path.parent.name for path in folder.glob("*/__init__.py")]
    found += [path.stem for path in folder.glob("*.py")]
    return sorted(name for name in found if not name.startswith("_"))


def _grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


@cache
def _chinese() -> dict[str, dict[str, str]]:
    return json.loads(CHINESE.read_text("utf-8"))


def in_chinese(table: str, text: str) -> str:
    """The Chinese words for some of a table's English ones.

    Raises:
        KeyError: there are none yet.
    """
    if text not in _chinese()[table]:
        raise KeyError(f"{CHINESE.name} has no Chinese for {text!r}: add it to {table!r}")
    return _chinese()[table][text]


def rooms() -> str:
    """What each package is for, from the top layer to the bottom."""
    rows = [(_code(name), summary(name)) for layer in layers() for name in layer]
    return _grid(("package", "what it is for"), rows)


def modules() -> str:
    """Every module of every package, with its summary."""
    lines = []
    for layer in layers():
        for name in layer:
            lines.append(f"- **{name}**: {summary(name)}\n")
            if not module_file(name).name.startswith("__init__"):
                continue
            for inner in submodules(name):
                lines.append(f"  - `{name}.{inner}`: {summary(f'{name}.{inner}')}\n")
    return "".join(lines)


def hooks(say: Say = str) -> str:
    """The hook points, with the names that two other libraries give to the same tensors."""
    from qwen3lab.hooks import HOOK_POINTS

    only = {"all": "", "dense": "dense layers", "moe": "layers with experts"}
    rows = []
    for point in HOOK_POINTS:
        notes = [only[point.where], "on request" if point.on_request else ""]
        noted = [say("; *{}*").format(say(note)) for note in notes if note]
        meaning = "".join((say(point.meaning), *noted))
        lens = point.transformer_lens
        rows.append(
            (
                _code(point.pattern),
                f"{meaning} [{point.axes}]",
                say("the same") if lens == point.pattern else _code(lens),
                _code(point.interp_engine),
            )
        )
    head = ("hook", "meaning [axes]", "TransformerLens 4", "interp-engine")
    return _grid(map(say, head), rows)


def moved() -> str:
    """Module paths of before 0.2, and where their names are now."""
    from qwen3lab._moved import MOVED

    rows = [
        (_code(f"qwen3lab.{old}"), ", ".join(_code(f"qwen3lab.{place}") for place in new))
        for old, new in MOVED.items()
    ]
    return _grid(("before 0.2", "now"), rows)


def renamed() -> str:
    """Names that changed within their module."""
    from qwen3lab._moved import RENAMED

    rows = [
        (_code(f"qwen3lab.{place}"), _code(old), _code(new))
        for place, names in RENAMED.items()
        for old, new in names.items()
    ]
    return _grid(("module", "before 0.2", "now"), rows)


def fits(say: Say = str) -> str:
    """What fits in how much memory, as `load(memory=, quantise="auto")` picks it."""
    from qwen3lab.config.catalog import PUBLISHED
    from qwen3lab.config.placement import SIZES, fits as ways

    rows = [(name, *map(say, ways(config).values())) for name, config in PUBLISHED.items()]
    return _grid((say("model"), *SIZES), rows)


TABLES: dict[str, Callable[[], str]] = {
    "rooms": rooms,
    "modules": modules,
    "hooks": hooks,
    "moved": moved,
    "renamed": renamed,
    "fits": fits,
    "hooks_zh": partial(hooks, partial(in_chinese, "hooks")),
    "fits_zh": partial(fits, partial(in_chinese, "fits")),
}


def filled(text: str) -> str:
    """A page with its tables as the code has them now.

    Raises:
        KeyError: the page asks for a table that does not exist.
    """
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


BOX = {"width": 132, "height": 34, "gap": 10, "step": 46, "margin": 16}
WIDEST = 3
"""Packages in one layer at most; the picture is made that wide."""


def layers_svg() -> str:
    """The layers as a picture: imports go down, never up."""
    stacked = layers()
    widest = max(WIDEST, *map(len, stacked))
    width = 2 * BOX["margin"] + widest * (BOX["width"] + BOX["gap"])
    height = 2 * BOX["margin"] + len(stacked) * BOX["step"]
    parts = [
        _box(name, place, len(layer), level, width)
        for level, layer in enumerate(stacked)
        for place, name in enumerate(layer)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" '
        'aria-label="The packages of qwen3lab, layer by layer; each imports only those below">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{"".join(parts)}</svg>\n'
    )


def _box(name: str, place: int, n_places: int, level: int, width: int) -> str:
    row = n_places * BOX["width"] + (n_places - 1) * BOX["gap"]
    x = (width - row) // 2 + place * (BOX["width"] + BOX["gap"])
    y = BOX["margin"] + level * BOX["step"]
    centre, base = x + BOX["width"] // 2, y + BOX["height"] // 2 + 5
    return (
        f'<rect x="{x}" y="{y}" width="{BOX["width"]}" height="{BOX["height"]}" rx="6" '
        'fill="#e8f1f8" stroke="#0072b2"/>'
        f'<text x="{centre}" y="{base}" text-anchor="middle" font-family="sans-serif" '
        f'font-size="14" fill="#24292f">{name}</text>\n'
    )


def write(paths: Iterable[Path] = PAGES) -> list[Path]:
    """Write the tables into the pages, and the picture; gives the files that changed."""
    wanted: dict[Path, Any] = {path: filled(path.read_text("utf-8")) for path in paths}
    wanted[LAYERS_PICTURE] = layers_svg()
    changed = [p for p, text in wanted.items() if not p.exists() or p.read_text("utf-8") != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], "utf-8")
    return changed


if __name__ == "__main__":
    for path in write():
        print(f"written: {path.relative_to(ROOT)}")
