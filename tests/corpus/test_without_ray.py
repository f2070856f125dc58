import sys

import pytest

from qwen3lab.corpus.folder import check_pyarrow
from qwen3lab.corpus.ray_engine import check_ray


def test_a_ray_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    with pytest.raises(ImportError, match=r'ray is not installed: pip install "qwen3lab\[ray\]"'):
        check_ray()


def test_a_missing_pyarrow_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        check_pyarrow()
