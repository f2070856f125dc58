import json
import shutil
import socket
import sys
from dataclasses import asdict

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from qwen3lab import corpus
from qwen3lab.corpus.folder import check_pyarrow
from qwen3lab.corpus.ray_engine import PartWorker, _cause, _share_of, check_ray
from qwen3lab.corpus.source import open_source
from qwen3lab.errors import CorpusError
from tests.corpus.ray_workers import record
from tests.corpus.texts import same_tables


def test_a_ray_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
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
        ({"CPU": 2.0}, 2, (0.5, 0.0)),
        ({"CPU": 1.0}, 2, (0.0, 0.0)),
        ({"CPU": 64.0, "GPU": 8.0}, 8, (1.0, 1.0)),
        ({"CPU": 64.0, "GPU": 4.0}, 8, (1.0, 0.0)),
    ],
)
def test_workers_leave_a_processor_for_writing(resources, workers, share):
    assert _share_of(resources, workers) == share


TRACEBACK = """ray::MapBatches(PartWorker).submit() (pid=1, ip=127.0.0.1)
  File "part.py", line 3, in run_part
    raise CorpusError("Error: not this line")
qwen3lab.errors.CorpusError: part 3 cannot be written

The above exception was the direct cause of the following exception:

ray.exceptions.UserCodeException: UDF failed to process a data block."""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (TRACEBACK, "part 3 cannot be written"),
        ("Could not connect\nto 1.2.3.4\n", "to 1.2.3.4"),
        ("", "ValueError"),
    ],
)
def test_what_went_wrong_first_is_said_in_one_line(text, cause):
    assert _cause(ValueError(text)) == cause


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_worker_on_a_cpu_has_one_thread(tmp_path, one_thread):
    run = record(tmp_path / "run")
    torch.set_num_threads(2)
    PartWorker(str(run.folder), open_source(["3+4=?"], ["text"], part_rows=1, store_in=tmp_path))
    assert torch.get_num_threads() == 1


def test_a_worker_that_runs_every_part_twice_counts_what_one_process_counts(tmp_path, one_thread):
    """What Ray does with a worker, without a cluster: `test_ray.py` has one."""
    alone, run = record(tmp_path / "alone"), record(tmp_path / "run")
    journal = run.folder / "journal"
    shutil.rmtree(journal)
    journal.mkdir()
    assert not corpus.open(run.folder).is_complete
    source = open_source(run.folder / "source.jsonl", ["text", "kind"], part_rows=1)
    worker = PartWorker(str(run.folder), source)
    for part in (*source.parts, *source.parts[::-1]):
        noted = worker({"part": np.array([json.dumps(asdict(part))])})
        path = journal / f"{len(list(journal.iterdir()))}_000000.parquet"
        pyarrow.parquet.write_table(pyarrow.table(noted), path)
    again = corpus.open(run.folder)
    assert again.is_complete
    assert again.total("tokens") == alone.total("tokens")
    assert same_tables(again, alone)
