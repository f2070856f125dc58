import os
from pathlib import Path

import pytest
import torch

import qwen3lab
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.world.tokenizer import write_tokenizer
from tests.reference import CASES, hf_random

DEVICE = os.environ.get("QWEN3LAB_DEVICE", "cpu")
"""Where the embedded models run that tests share."""

REQUIRE_ALL = os.environ.get("QWEN3LAB_REQUIRE_ALL") == "1"
NEEDS_MORE_THAN_SOFTWARE = ("gpu", "published", "scratch")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: so do they, and the kernels that they start.
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    torch.set_num_threads(share)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where all tests are required, one left out has failed, if software could have run it."""
    report = yield
    excused = any(item.get_closest_marker(name) for name in NEEDS_MORE_THAN_SOFTWARE)
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and not excused:
        report.outcome = "failed"
    return report


def pytest_collection_modifyitems(items):
    for item in items:
        if "published_tokenizer" in item.fixturenames:
            item.add_marker("published")


@pytest.fixture(scope="session")
def published_tokenizer():
    """The tokenizer published with Qwen3, which is not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "qwen3-tokenizer"
    folder = Path(os.environ.get("QWEN3LAB_TOKENIZER", beside))
    if not (folder / "tokenizer.json").exists():
        pytest.skip("the published Qwen3 tokenizer is absent: set QWEN3LAB_TOKENIZER to its folder")
    return open_tokenizer(folder)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folders that `save_pretrained` wrote, one for each of the reference's `CASES`."""
    folders = {}
    for name in CASES:
        folders[name] = tmp_path_factory.mktemp("checkpoint")
        hf_random(name).save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory):
    """The embedded models' tokenizer, made anew."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return open_tokenizer(folder)


@pytest.fixture(scope="session")
def tiny_lab():
    """The embedded mixture of experts, which thinks."""
    return qwen3lab.load("tiny-moe", device=DEVICE, dtype="float32")
