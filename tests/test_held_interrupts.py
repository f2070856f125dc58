import signal
import threading

import pytest

from qwen3lab.interrupts import HeldInterrupts


@pytest.fixture(autouse=True)
def raises_keyboard_interrupt():
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, usual)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_comes_when_the_block_has_ended():
    done = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupts():
        interrupt()
        done.append(1)
    assert done == [1]


def test_the_innermost_block_does_not_let_an_interrupt_into_the_outer_one():
    done = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupts():
        with HeldInterrupts():
            interrupt()
        done.append(1)
    assert done == [1]


def test_an_error_in_the_block_comes_out_with_the_handler_restored():
    with pytest.raises(ValueError, match="mine"), HeldInterrupts():
        raise ValueError("mine")


def test_a_released_interrupt_comes_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupts() as held:
        interrupt()
        done.append(1)
        held.release()
        done.append(2)
    assert done == [1]


def test_the_last_interrupt_is_dropped_if_the_result_is_kept():
    with HeldInterrupts(at_once=False, keep=True) as held:
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        held.hold()
        held.hold()
        interrupt()


def test_an_own_handler_is_called_afterwards():
    got = []
    signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    with HeldInterrupts():
        interrupt()
        assert got == []
    assert got == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with HeldInterrupts():
        interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_leave_the_handler_alone():
    found = []

    def work():
        with HeldInterrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
