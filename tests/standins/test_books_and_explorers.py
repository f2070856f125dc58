"""Every notebook and every explorer runs on each stand-in, within a limit of memory."""

import json
import subprocess
import sys

import pytest

from tests.standins.limited_books import run_book

pytestmark = [pytest.mark.standins, pytest.mark.slow]
STANDINS = ("dense-28", "experts-48x128", "thinks")
BOOKS = ("00_start_here", "01_attention", "02_expert_routing", "03_thinking_budget", "05_why")
"""Those that load a model of choice; `04_how_it_grows` trains its own."""
MAX_BYTES = {"dense-28": 8 * 10**9, "experts-48x128": 6 * 10**9, "thinks": 6 * 10**9}
MAX_NEW_TOKENS = {"dense-28": 200, "experts-48x128": 200, "thinks": 800}
"""Replies of the random models do not end."""
EXPLORERS = (
    "Workbench",
    "Explorer",
    "AttentionExplorer",
    "RoutingExplorer",
    "ThinkingExplorer",
    "WhyExplorer",
)
EXPLORE = "tests.standins.explore"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("name", STANDINS)
def test_a_notebook_runs_within_the_memory(standin_folder, name, book):
    run = run_book(book, standin_folder(name), max_bytes=MAX_BYTES[name])
    print(f"{book} on {name}: {run}")
    assert not run.failures, str(run)
    assert run.peak_bytes < MAX_BYTES[name], str(run)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("explorer", EXPLORERS)
@pytest.mark.parametrize("name", STANDINS)
def test_an_explorer_answers_and_follows_every_pick(standin_folder, name, explorer):
    command = [sys.executable, "-W", "error::UserWarning", "-m", EXPLORE]
    command += [explorer, str(standin_folder(name))]
    command += [str(MAX_NEW_TOKENS[name]), str(MAX_BYTES[name])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    print(f"{explorer} on {name}: {found}")
    if explorer == "RoutingExplorer" and name != "experts-48x128":
        assert "is dense: it has no experts" in found["errors"][0]
        return
    assert found["errors"] == []
    assert found["tokens"] > 0 and found["peak_bytes"] < MAX_BYTES[name]
