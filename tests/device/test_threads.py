import os

import pytest

from qwen3lab.device import threads as module
from qwen3lab.device.threads import MIN_PRODUCTS_PER_THREAD, MIN_TOKENS, paying_threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(module, "_core_counts", lambda: frozenset({4, 2}))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("tokens", "share_of_a_thread", "expected"),
    [
        (1, 1e-4, 1),
        (512, 1 / 512, 1),
        (512, 1.99 / 512, 1),
        (512, 2 / 512, 2),
        (512, 3.5 / 512, 3),
        (512, 1.0, 4),
        (1, 2 / MIN_TOKENS, 2),
    ],
)
def test_a_pass_takes_one_thread_for_each_share_of_work(tokens, share_of_a_thread, expected):
    assert paying_threads(4, tokens, share_of_a_thread * MIN_PRODUCTS_PER_THREAD) == expected


def test_a_number_of_threads_that_is_not_torchs_own_is_kept():
    assert paying_threads(3, 1, 1.0) == 3


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_of_threads_set_in_the_environment_is_kept(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    assert paying_threads(2, 1, 1.0) == 2


def test_the_cores_of_this_process_count_as_torchs_own(monkeypatch):
    monkeypatch.undo()
    module._core_counts.cache_clear()
    assert (os.cpu_count() or 1) in module._core_counts()
