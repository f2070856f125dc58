"""What the guide, CONTRIBUTING, CHANGELOG and CITATION say about the code is true of it."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import qwen3lab
from qwen3lab.analysis import corpus
from qwen3lab.recording import layerwise, recording
from qwen3lab.storage import Store
from qwen3lab.thinking import Attempt
from qwen3lab.thinking.swept import SweepPlan
from tests.translated_page import guide_pages

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "notebooks" / "guide"
CHANGES = (ROOT / "CHANGELOG.md").read_text("utf-8")
PAGES = [ROOT / "CONTRIBUTING.md", *guide_pages()]
DOTTED = re.compile(r"\bqwen3lab(?:\.\w+)+(?![\w/])")


@pytest.fixture(scope="module")
def tables():
    """The module that makes the tables, which is not a part of the package."""
    sys.path.insert(0, str(ROOT / ".ci" / "docs"))
    try:
        yield importlib.import_module("tables")
    finally:
        sys.path.remove(str(ROOT / ".ci" / "docs"))


def test_tables_and_picture_are_those_that_the_code_gives_now(tables):
    stale = [
        path
        for path in tables.PAGES
        if tables.filled(path.read_text("utf-8")) != path.read_text("utf-8")
    ]
    assert not stale, "run `make format`"
    assert tables.LAYERS_PICTURE.read_text("utf-8") == tables.layers_svg(), "run `make format`"


def test_every_package_has_a_layer_and_says_what_it_is_for(tables):
    named = sorted(name for layer in tables.layers() for name in layer)
    package = Path(qwen3lab.__file__).parent
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    files = {path.stem for path in package.glob("*.py") if not path.stem.startswith("_")}
    assert named == sorted(folders | files)
    assert all(tables.summary(name) for name in named)


def resolves(dotted: str) -> bool:
    """Whether an import path or an attribute of one exists."""
    found: object = qwen3lab
    parts = dotted.split(".")[1:]
    for place, part in enumerate(parts):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(["qwen3lab", *parts[: place + 1]]))
            except ImportError:
                return False
        found = getattr(found, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_of_the_package_that_a_page_mentions_exist(page):
    names = set(DOTTED.findall(page.read_text("utf-8")))
    assert [name for name in sorted(names) if not resolves(name)] == []


def test_names_that_the_changelog_says_are_there_exist():
    text = re.sub(r"<!-- table: .*?<!-- end of table -->", "", CHANGES, flags=re.DOTALL)
    names = set(DOTTED.findall(text))
    assert "qwen3lab.Qwen3LabError" in names
    assert [name for name in sorted(names) if not resolves(name)] == []


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_and_paths_of_a_page_lead_somewhere(page):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    paths = re.findall(r"`((?:qwen3lab|tests|notebooks)/[\w./-]+)`", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_table_of_file_formats_has_the_numbers_of_the_code():
    rows = re.findall(r"^\| [^|]+ \| `([\w. -]+)` \| (\d+|none) \| (.+) \|$", CHANGES, re.MULTILINE)
    stated = {maker: number for maker, number, _ in rows}
    assert stated["qwen3lab.Recording.save"] == str(recording.FORMAT)
    assert stated["qwen3lab.Lab.record_to_disk"] == str(layerwise.FORMAT)
    assert stated["qwen3lab.analysis.corpus.RoutingCorpus.save"] == str(corpus.FORMAT)
    numbered = sum(number != "none" for number in stated.values())
    sources = [path.read_text("utf-8") for path in Path(qwen3lab.__file__).parent.rglob("*.py")]
    assert numbered == sum(len(re.findall(r"^FORMAT = ", text, re.MULTILINE)) for text in sources)


def test_a_sweeps_file_begins_as_the_table_says(tmp_path):
    problems = qwen3lab.tiny.problems("arithmetic", n=1, steps=1)
    lab, path = qwen3lab.load("tiny-moe", device="cpu"), tmp_path / "sweep.jsonl"
    qwen3lab.thinking.sweep(lab, problems, budgets=(0,), path=path, progress=False)
    assert '"kind": "qwen3lab attempts"' in path.read_text("utf-8").splitlines()[0]
    assert "`qwen3lab attempts`" in CHANGES
    assert Store(path, SweepPlan, Attempt).plan().budgets == (0,)


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= cited.keys()  # what the format requires
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'\nversion = "{cited["version"]}"\n' in settings
    assert f'\nlicense = "{cited["license"]}"\n' in settings


def test_the_changelog_knows_this_version(tables):
    assert f"{tables.version()}." in CHANGES or f"## [{tables.version()}]" in CHANGES


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["lab", "test", "check", "format", "docs"])
def test_what_contributing_tells_make_to_do_it_can(target):
    assert f"make {target}" in PAGES[0].read_text("utf-8")
    ran = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=False)
    assert ran.returncode == 0


def test_every_promise_names_modules_and_tests_that_exist():
    text = (GUIDE / "promises.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 5][2:]
    assert len(rows) > 10
    for _, _, _, modules, tests, _ in rows:
        for name in re.findall(r"`([\w.]+)`", modules):
            importlib.import_module(f"qwen3lab.{name}")
        for path in re.findall(r"`([\w./]+)`", tests):
            assert (ROOT / path).exists(), path
