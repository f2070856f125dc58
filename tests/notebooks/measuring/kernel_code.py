"""Code that runs in the kernel of the measured notebooks, as text."""

TINY = """import qwen3lab
from qwen3lab.widgets import Workbench
lab = qwen3lab.load("tiny-moe")"""

SHOW = """bench = Workbench(lab, question="7+2*3-1*7+3=?")
bench"""

LARGE = """import qwen3lab
from qwen3lab.widgets import Workbench
lab = qwen3lab.load({folder!r}, device="cpu")
question = "The lamp is on the table, and the book is not. " * 60
ids = lab.tokenizer.encode(question)[:{prompt}]
question = lab.tokenizer.decode(ids)"""

SHOW_LARGE = """bench = Workbench(lab, question=question, max_new_tokens={reply})
bench"""

LONG = """import torch
import qwen3lab
from qwen3lab.widgets import Workbench
from tests.notebooks.measuring.long_chat import long_chat
chat = long_chat({tokens})"""

SHOW_LONG = """bench = Workbench(chat)
bench"""

MEMORY = """
def _memory():
    import ctypes, gc, json, sys, threading
    import ipywidgets, psutil, torch
    from qwen3lab.recording.recording import Recording
    from qwen3lab.widgets import Workbench
    gc.collect(); gc.collect()
    sizes = {}
    for each in gc.get_objects():
        kind = type(each)
        if issubclass(kind, torch.Tensor):
            storage = each.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    alive = [type(each) for each in gc.get_objects()]
    ctypes.CDLL(None).malloc_trim(0)
    found = {
        "workbenches": sum(issubclass(kind, Workbench) for kind in alive),
        "recordings": sum(issubclass(kind, Recording) for kind in alive),
        "widgets": len(ipywidgets.widgets.widget._instances),
        "threads": threading.active_count(),
        "objects": len(alive),
        "python_mib": tracemalloc_bytes() / 2**20,
        "tensors_mib": sum(sizes.values()) / 2**20,
        "rss_mib": psutil.Process().memory_info().rss / 2**20,
    }
    print(json.dumps(found))
def tracemalloc_bytes():
    import tracemalloc
    return tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
_memory()
del _memory, tracemalloc_bytes
"""
