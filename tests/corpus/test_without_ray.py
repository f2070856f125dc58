import socket
import sys

import pytest

from qwen3lab.corpus.folder import check_pyarrow
from qwen3lab.corpus.ray_engine import _share_of, check_ray
from qwen3lab.errors import CorpusError


def test_a_ray_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    with pytest.raises(ImportError, match=r'ray is not installed: pip install "qwen3lab\[ray\]"'):
        check_ray()


def test_a_missing_pyarrow_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        check_pyarrow()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_does_not_answer_is_named(scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(CorpusError, match=f"cluster at {address} does not answer"):
            check_ray(address)


@pytest.mark.parametrize(
    ("resources", "workers", "share"),
    [
        ({"CPU": 2.0}, 2, {"num_cpus": 0.5, "num_gpus": 0.0}),
        ({"CPU": 1.0}, 2, {"num_cpus": 0.0, "num_gpus": 0.0}),
        ({"CPU": 64.0, "GPU": 8.0}, 8, {"num_cpus": 1.0, "num_gpus": 1.0}),
        ({"CPU": 64.0, "GPU": 4.0}, 8, {"num_cpus": 1.0, "num_gpus": 0.0}),
    ],
)
def test_workers_leave_a_processor_for_writing(resources, workers, share):
    assert _share_of(resources, workers) == share
