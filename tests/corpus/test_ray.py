"""Runs on a real Ray cluster on this machine, which the tests share: a start takes long."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray", reason="ray has no build for this machine")

from qwen3lab.corpus import ray_engine
from qwen3lab.errors import CorpusError
from tests.corpus import ray_workers
from tests.corpus.ray_workers import MAX_SECONDS, record
from tests.corpus.texts import GOOD, ROWS, same_tables

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(2 * MAX_SECONDS),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    """A cluster as the engine starts it, whose workers find the tests; its address."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 starves workers beside other tests.
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        before = signal.getsignal(signal.SIGTERM)
        assert ray_engine._join(None)
        assert signal.getsignal(signal.SIGTERM) is before
        import ray

        yield ray.get_runtime_context().gcs_address
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


def test_a_killed_driver_that_is_started_again_loses_nothing_and_counts_nothing_twice(
    cluster, alone, tmp_path
):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "tests.corpus.ray_workers", str(out), cluster]
    driver = subprocess.Popen(command, cwd=ROOT)
    try:
        until = time.monotonic() + MAX_SECONDS
        while time.monotonic() < until and not list((out / "journal").glob("*.parquet")):
            assert driver.poll() is None, "the driver ended before it was killed"
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = sorted((out / "journal").glob("*.parquet"))
    assert 0 < len(before) < len(ROWS)
    run = record(out, ray=True, resume=True)
    assert run.is_complete
    assert set(before) < set((out / "journal").glob("*.parquet"))
    assert same_tables(run, alone)


def test_what_went_wrong_on_a_worker_is_said_in_one_sentence(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "PartWorker", ray_workers.FailingWorker)
    with pytest.raises(CorpusError) as raised:
        record(tmp_path / "run", ray=True)
    expected = "the run on Ray failed: the weights on this worker are others"
    assert str(raised.value) == expected


def test_a_cluster_that_takes_too_long_to_start_is_said_in_one_sentence(monkeypatch):
    import ray

    def late(**options):
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(CorpusError, match=r"the Ray cluster at local does not answer .*: start it"):
        ray_engine._join(None)


@pytest.mark.parametrize(("address", "started"), [(None, True), ("127.0.0.1:1", False)])
def test_a_cluster_on_this_machine_is_started_again_if_its_node_ended(
    monkeypatch, address, started
):
    import ray

    asked = []

    def init(address, **options):
        asked.append(address)
        if len(asked) < ray_engine.START_ATTEMPTS:
            raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    if started:
        assert ray_engine._join(address)
        assert asked == ["local"] * ray_engine.START_ATTEMPTS
        return
    with pytest.raises(CorpusError, match="does not answer"):
        ray_engine._join(address)
    assert asked == [address]


def test_ray_sends_no_statistics_of_its_use(cluster):
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
