import threading

import pytest
import torch

from qwen3lab.device import threads as thread_rule
from qwen3lab.hooks.taps import Keep
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config


class Watch(Keep):
    """A tap that notes the number of threads at every hook."""

    def __init__(self):
        super().__init__([])
        self.seen = set()

    def __call__(self, name, value):
        self.seen.add(torch.get_num_threads())
        return value


@pytest.fixture
def two_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(thread_rule, "_core_counts", lambda: frozenset({2}))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("most_work_alone", "expected"), [(1e12, 1), (1.0, 2)])
def test_the_size_of_a_pass_decides_on_its_threads(
    two_cores, monkeypatch, most_work_alone, expected
):
    monkeypatch.setattr(thread_rule, "MIN_PRODUCTS_PER_THREAD", most_work_alone)
    model = Qwen3(small_config())
    model.init_weights(torch.Generator().manual_seed(0))
    watch = Watch()
    model(torch.arange(5)[None], tap=watch)
    assert watch.seen == {expected}
    assert torch.get_num_threads() == 2


def test_the_number_comes_back_after_an_error(two_cores):
    class Failing(Watch):
        def __call__(self, name, value):
            raise RuntimeError(name)

    with pytest.raises(RuntimeError):
        Qwen3(small_config())(torch.arange(5)[None], tap=Failing())
    assert torch.get_num_threads() == 2


def test_another_threads_number_stays_as_it_is(two_cores):
    seen, inside, done = [], threading.Event(), threading.Event()

    def other():
        torch.get_num_threads()
        inside.wait(60)
        seen.append(torch.get_num_threads())
        done.set()

    class Waiting(Watch):
        def __call__(self, name, value):
            inside.set()
            assert done.wait(60)
            return super().__call__(name, value)

    thread = threading.Thread(target=other)
    thread.start()
    waiting = Waiting()
    Qwen3(small_config())(torch.arange(5)[None], tap=waiting)
    thread.join()
    assert (waiting.seen, seen) == ({1}, [2])
