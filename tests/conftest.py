import os
from pathlib import Path

import pytest
import torch

import qwen3lab
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.world.tokenizer import write_tokenizer
from tests.peers.versions import versions
from tests.reference import CASES, hf_random
from tests.standins import qwen_tokenizer
from tests.standins.made_once import made

DEVICE = os.environ.get("QWEN3LAB_DEVICE", "cpu")
"""Device of the embedded models that tests share."""

# English, whatever the locale of this machine; kernels that tests start inherit it.
os.environ["QWEN3LAB_LANG"] = "en"

REQUIRE_ALL = os.environ.get("QWEN3LAB_REQUIRE_ALL") == "1"
NEEDS_MORE_THAN_SOFTWARE = ("gpu", "scratch", "llama", "int8_cpu")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker, and each Jupyter kernel that it starts, uses its share of the cores.
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    torch.set_num_threads(share)


def pytest_report_header():
    """The versions of what the tests compare with."""
    return "compared: " + ", ".join(f"{name} {found}" for name, found in versions().items())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With QWEN3LAB_REQUIRE_ALL=1, a skipped test fails unless it needs more than software."""
    report = yield
    excused = any(item.get_closest_marker(name) for name in NEEDS_MORE_THAN_SOFTWARE)
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail") and not excused:
        report.outcome = "failed"
    return report


def pytest_collection_modifyitems(items):
    for item in items:
        if "published_tokenizer" in item.fixturenames:
            item.add_marker("published")


@pytest.fixture
def chinese():
    """Shows Chinese in one test."""
    qwen3lab.set_language("zh")
    yield
    qwen3lab.set_language("en")


@pytest.fixture(scope="session")
def standins_folder(request, tmp_path_factory):
    """The folder that keeps stand-ins between runs: QWEN3LAB_STANDINS, or in pytest's cache."""
    if "QWEN3LAB_STANDINS" in os.environ:
        return Path(os.environ["QWEN3LAB_STANDINS"])
    cache = getattr(request.config, "cache", None)  # Absent with `-p no:cacheprovider`.
    return cache.mkdir("standins") if cache else tmp_path_factory.mktemp("standins")


@pytest.fixture(scope="session")
def published_folder(standins_folder):
    """The folder of the published tokenizer: found, or built from the data of two packages."""
    if (folder := qwen_tokenizer.published_folder()) is not None:
        return folder
    if not qwen_tokenizer.can_build():
        pytest.skip("the published Qwen3 tokenizer is absent: `make test` installs its data")
    return made("tokenizer", qwen_tokenizer.write_built, standins_folder)


@pytest.fixture(scope="session")
def published_tokenizer(published_folder):
    """The tokenizer published with Qwen3; the project does not contain it."""
    return open_tokenizer(published_folder)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Checkpoint folders written by `save_pretrained`, one for each of `reference.CASES`."""
    folders = {}
    for name in CASES:
        folders[name] = tmp_path_factory.mktemp("checkpoint")
        hf_random(name).save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory):
    """The embedded models' tokenizer, built from the code."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return open_tokenizer(folder)


@pytest.fixture(scope="session")
def tiny_lab():
    """The embedded mixture-of-experts model, loaded once for all tests of a worker."""
    return qwen3lab.load("tiny-moe", device=DEVICE, dtype="float32")
