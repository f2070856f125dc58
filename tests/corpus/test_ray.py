"""Runs on a real Ray cluster of two workers on this machine: each test starts one."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from qwen3lab.corpus import ray_engine
from qwen3lab.errors import CorpusError
from tests.corpus import ray_workers
from tests.corpus.ray_workers import record
from tests.corpus.texts import GOOD, same_tables

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]
SECONDS = 240
"""Until a driver has noted its first part; it starts a cluster and loads the model before."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """A cluster of two processors that sends nothing, and workers that find the tests."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def cluster():
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same run in this process, with one thread as a worker has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield record(tmp_path_factory.mktemp("alone") / "run")
    torch.set_num_threads(threads)


def test_counts_of_two_workers_equal_those_of_one_process(cluster, alone, tmp_path):
    run = record(tmp_path / "run", ray=True, workers=2)
    assert run.is_complete
    assert run.total("texts") == len(GOOD)
    assert same_tables(run, alone)
    assert run.counts.equals(alone.counts)


def test_a_killed_worker_loses_nothing_and_counts_nothing_twice(
    cluster, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_engine, "PartWorker", ray_workers.DyingWorker)
    run = record(tmp_path / "run", ray=True, workers=2)
    assert (tmp_path / "killed").exists()
    assert run.is_complete
    assert same_tables(run, alone)


def test_a_killed_driver_loses_nothing_and_counts_nothing_twice(alone, tmp_path):
    out = tmp_path / "run"
    driver = subprocess.Popen([sys.executable, "-m", "tests.corpus.ray_workers", out], cwd=ROOT)
    try:
        for _ in range(SECONDS * 10):
            if list((out / "journal").glob("*.parquet")) or driver.poll() is not None:
                break
            time.sleep(0.1)
        assert driver.poll() is None, "the driver ended before it was killed"
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    run = record(out, resume=True)
    assert run.is_complete
    assert same_tables(run, alone)


def test_a_cluster_goes_on_with_what_one_process_began(cluster, alone, tmp_path):
    begun = record(tmp_path / "run")
    for path in sorted((begun.folder / "journal").glob("*.parquet"))[2:]:
        path.unlink()
    run = record(tmp_path / "run", ray=True, resume=True)
    assert run.is_complete
    assert same_tables(run, alone)


def test_what_went_wrong_on_a_worker_is_said_in_one_sentence(cluster, tmp_path, monkeypatch):
    def other(model):
        return "0" * 64

    monkeypatch.setattr("qwen3lab.corpus.recorder.fingerprint", other)
    with pytest.raises(CorpusError, match="other weights on a worker") as raised:
        record(tmp_path / "run", ray=True)
    assert "\n" not in str(raised.value)
