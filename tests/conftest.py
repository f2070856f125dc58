import os
from pathlib import Path

import pytest

from qwen3lab.chat import open_tokenizer

REQUIRE_ALL = os.environ.get("QWEN3LAB_REQUIRE_ALL") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where all tests are required, one that is left out has failed, GPU tests aside."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        if not item.get_closest_marker("gpu"):
            report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def published_tokenizer():
    """The tokenizer published with Qwen3, which is not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "qwen3-tokenizer"
    folder = Path(os.environ.get("QWEN3LAB_TOKENIZER", beside))
    if not (folder / "tokenizer.json").exists():
        pytest.skip("the published Qwen3 tokenizer is absent: set QWEN3LAB_TOKENIZER to its folder")
    return open_tokenizer(folder)
