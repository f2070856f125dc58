"""Runs blocks of a computation side by side, each on one CPU thread.

torch's own threads wait for each other after every product. On a busy machine each wait costs a
time slice, and a computation of ten thousand short products takes many times longer than on one
thread. Workers that go through different blocks do not wait for each other.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

Item = TypeVar("Item")


def run_in_workers(
    run: Callable[[Item], object],
    items: Sequence[Item],
    device: torch.device,
    done: Callable[[Item], object] = lambda _: None,
) -> None:
    """Run a function on each item.

    There are as many workers as torch has threads; a GPU has one. After an interrupt, the
    running items end, and no other item is begun.

    Args:
        run: called in a worker, where torch uses one thread and records operations for gradients.
        items: begun in this order.
        device: on which `run` computes.
        done: called in this thread with each item that is done.

    Raises:
        Exception: what `run` raised first.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1 or len(items) < 2:
        for item in items:
            run(item)
            done(item)
        return
    # A flag, not only cancelled futures: a second interrupt can end the waiting for workers.
    stopped: list[bool] = []
    pool = ThreadPoolExecutor(before, thread_name_prefix="qwen3lab-block")
    try:
        # Each worker takes the number over when it first uses torch.
        torch.set_num_threads(1)
        futures = {pool.submit(lambda item: stopped or run(item), item): item for item in items}
        for future in as_completed(futures):
            future.result()
            done(futures[future])
    finally:
        stopped.append(True)
        torch.set_num_threads(before)
        pool.shutdown(cancel_futures=True)
