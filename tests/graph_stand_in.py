"""CUDA graphs emulated on the CPU.

Capture logs the operations of one run, with the tensors that they read and write. Replay executes
the logged operations on the same memory, without running the model's Python code.
"""

from contextlib import contextmanager, nullcontext
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Pretended(Tensor):
    """A CPU tensor that reports a CUDA device."""

    is_cuda = True
    device = torch.device("cuda:0")


class Notes(TorchDispatchMode):
    """Logs the operations of a run, and executes them again on the same memory."""

    def __init__(self):
        super().__init__()
        self.noted, self.before, self.made = [], [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, (
            "reading a value on the host would synchronise with the GPU"
        )
        kwargs = kwargs or {}
        named = {each.name: each for each in func._schema.arguments}
        given = dict(zip(named, args, strict=False)) | kwargs
        changed = [given[n] for n, each in named.items() if (of := each.alias_info) and of.is_write]
        self.before += [(each, each.clone()) for each in changed]
        out = func(*args, **kwargs)
        self.noted.append((func, args, kwargs, out))
        read = {place_of(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        self.made += [each for each in tree_leaves(out) if place_of(each) not in read]
        return out

    def undo(self):
        """Restores what the run wrote, as capture executes nothing; results become NaN or 0."""
        for each, value in reversed(self.before):
            each.copy_(value)
        for each in self.made:
            each.fill_(torch.nan if each.is_floating_point() else 0)

    def again(self):
        """Executes the logged operations and writes the results to the original tensors."""
        for func, args, kwargs, out in self.noted:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def place_of(value):
    return value.untyped_storage().data_ptr()


class Count:
    """Captures as a CUDA graph does, and counts captures and replays."""

    def __init__(self):
        self.captured = self.replayed = 0

    def __call__(self, run, reset):
        run()
        reset()
        self.captured += 1
        with Notes() as notes:
            out = run()

        def replay():
            self.replayed += 1
            notes.again()
            return out

        return replay


class Graph:
    """Stand-in for `torch.cuda.CUDAGraph`; `factor` scales replayed results, to emulate errors."""

    replayed, factor, captured = 0, 1.0, WeakSet()

    def pool(self):
        return self.memory

    def replay(self):
        Graph.replayed += 1
        self.notes.again()
        for each in self.notes.made:
            if each.is_floating_point():
                each.mul_(Graph.factor)

    @classmethod
    @contextmanager
    def capture(cls, graph, *, stream, capture_error_mode, pool=None):
        assert capture_error_mode == "thread_local" and stream != torch.cuda.current_stream()
        # A memory pool lives as long as one of its graphs.
        assert pool is None or any(other.memory is pool for other in cls.captured)
        graph.memory = pool or object()
        with Notes() as graph.notes:
            yield
        graph.notes.undo()
        cls.captured.add(graph)


class Stream:
    """Stand-in for a CUDA stream whose work is always complete."""

    def wait_stream(self, other):
        assert other is not self


def pretend(monkeypatch):
    """Patches `torch.cuda` so that it captures on the CPU with `Graph`."""
    here = Stream()
    pretence = {
        "device": lambda device: nullcontext(),
        "Stream": Stream,
        "current_stream": lambda: here,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": Graph.capture,
    }
    for name, stands_in in pretence.items():
        monkeypatch.setattr(torch.cuda, name, stands_in)
    monkeypatch.setattr(Graph, "replayed", 0)
