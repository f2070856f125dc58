import sys

import pytest
import torch

from qwen3lab.device.grad_mode import with_grad, without_grad


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("decorate", "within"), [(without_grad, False), (with_grad, True)])
def test_the_mode_holds_within_the_function_and_is_restored(before, decorate, within):
    with torch.set_grad_enabled(before):
        assert decorate(torch.is_grad_enabled)() is within
        assert torch.is_grad_enabled() is before


def test_an_interrupt_at_any_event_leaves_gradients_on():
    """Each event of the interpreter within a call is interrupted in turn."""
    interrupted, n = True, 0
    while interrupted:
        n, left, interrupted = n + 1, n, False

        def watch(frame, event, argument):
            nonlocal left, interrupted
            left -= event in ("call", "c_return")
            if left < 0 and not interrupted:
                interrupted = True
                raise KeyboardInterrupt

        job = without_grad(lambda: torch.ones(2).sum())
        try:
            sys.setprofile(watch)
            job()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        assert torch.is_grad_enabled()
    assert n > 4
