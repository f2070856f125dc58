"""The benchmarks of a busy machine and of a class, on a small model."""

import os
import subprocess
import time

import pytest

from qwen3lab import bench
from qwen3lab.bench import BenchPlan
from qwen3lab.bench.fresh_process import in_fresh_processes, wait_for_others
from qwen3lab.bench.memory import own_and_shared_bytes
from qwen3lab.bench.neighbours import busy_neighbours
from qwen3lab.bench.suites import busy
from qwen3lab.errors import BenchError
from tests.reference import hf_random


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    hf_random("experts").save_pretrained(path)
    return BenchPlan(model=str(path), tokens=(24,), decode=3, repeats=1)


def test_decoding_beside_a_neighbour_stands_beside_the_quiet_rate(plan):
    report = bench.run_busy(plan, neighbours=1, progress=False)
    assert [row.unit for row in report.rows] == ["tokens/s", "tokens/s", "%"] * 2
    peers = [set(row.measured) - {"qwen3lab"} for row in report.rows]
    assert peers == [{"transformers"}] * 3 + [{busy.ONE_THREAD}] * 3
    for quiet, beside, kept in (report.rows[:3], report.rows[3:]):
        for side, (share,) in kept.measured.items():
            wanted = 100 * beside.measured[side][0] / quiet.measured[side][0]
            assert share == pytest.approx(wanted)
    assert "1 busy neighbours" in report.title


def test_neighbours_compute_within_the_block_and_end_with_it(monkeypatch):
    started, real = [], subprocess.Popen

    def popen(*given, **options):
        started.append(real(*given, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with busy_neighbours(2):
        assert [each.poll() for each in started] == [None, None]
    assert all(each.poll() is not None for each in started)


def met(n_rounds):
    """When a process and the others have come together, and its number."""
    times = []
    for _ in range(n_rounds):
        wait_for_others()
        times.append(time.time())
    return os.getpid(), times


def test_processes_wait_for_each_other():
    (one, first), (other, second) = in_fresh_processes(2, met, 3)
    assert one != other
    # No process begins a round before the other has ended the round before it.
    for before, after in ((first, second), (second, first)):
        assert all(a <= b for a, b in zip(before, after[1:], strict=False))


def fails():
    raise BenchError("this one fails")


def test_an_error_in_a_process_reaches_the_caller():
    with pytest.raises(BenchError, match="this one fails"):
        in_fresh_processes(1, fails)


def test_a_class_has_rates_and_memory_of_each_number_of_students(plan):
    report = bench.run_class(plan, students=(2,), sides=("qwen3lab",), progress=False)
    assert [(row.tokens, row.unit) for row in report.rows] == [
        (2, "replies/min"),
        (2, "s"),
        (2, "MiB"),
        (2, "MiB"),
    ]
    rates, seconds, own, shared = (row.measured["qwen3lab"] for row in report.rows)
    assert len(rates) == 1 and len(seconds) == 2
    assert rates[0] <= 120 / max(seconds), "both replies are there after the longer one"
    assert "students" in str(report)
    if own_and_shared_bytes() is not None:
        # torch alone is more than 50 MiB; its libraries are mapped by both processes.
        assert len(own) == len(shared) == 2 and min(own) > 50 and min(shared) > 20
