import os
import threading

import pytest
import torch

from qwen3lab.device import threads as module
from qwen3lab.device.threads import MIN_PRODUCTS_PER_THREAD, MIN_TOKENS, paying_threads


@pytest.fixture
def on_cores(monkeypatch):
    """Makes torch's number of threads, and that of the machine's cores, what the test says."""
    before = torch.get_num_threads()

    def use(n_threads, cores=None, **environment):
        monkeypatch.setattr(module, "_core_counts", lambda: frozenset({cores or n_threads}))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        torch.set_num_threads(n_threads)

    yield use
    torch.set_num_threads(before)


def threads_inside(n_tokens, products_per_token):
    with paying_threads(n_tokens, products_per_token) as n:
        assert torch.get_num_threads() == n
        return n


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
def test_a_pass_takes_one_thread_for_each_share_of_work(
    on_cores, tokens, share_of_a_thread, expected
):
    on_cores(4)
    assert threads_inside(tokens, share_of_a_thread * MIN_PRODUCTS_PER_THREAD) == expected
    assert torch.get_num_threads() == 4


def test_a_number_of_threads_that_is_not_torchs_own_is_kept(on_cores):
    on_cores(3, cores=8)
    assert threads_inside(1, 1.0) == 3


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_of_threads_set_in_the_environment_is_kept(on_cores, name):
    on_cores(2, **{name: "2"})
    assert threads_inside(1, 1.0) == 2


def test_the_number_comes_back_after_an_error(on_cores):
    on_cores(2)
    with pytest.raises(RuntimeError), paying_threads(1, 1.0):
        raise RuntimeError
    assert torch.get_num_threads() == 2


def test_another_threads_number_stays_as_it_is(on_cores):
    on_cores(2)
    seen, inside, done = [], threading.Event(), threading.Event()

    def other():
        torch.get_num_threads()
        inside.wait(60)
        seen.append(torch.get_num_threads())
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with paying_threads(1, 1.0):
        inside.set()
        assert done.wait(60)
    thread.join()
    assert seen == [2]


def test_the_cores_of_this_process_count_as_torchs_own():
    assert len(os.sched_getaffinity(0)) in module._core_counts()
