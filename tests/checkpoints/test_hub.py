"""Downloads from the hub and from ModelScope, with stand-ins for both libraries."""

import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub
import pytest
import torch

import qwen3lab
from qwen3lab.checkpoints import hub
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.hub_gguf import HubGguf, chosen_files, gguf_of_hub
from qwen3lab.errors import CheckpointError
from tests.checkpoints.test_gguf import a_third, write_gguf

IDS = [5, 60, 7, 812, 9, 33]
ROOM = 10**9


class Hub:
    """A hub with the files of one folder; notes what was fetched."""

    def __init__(self, repository, cache):
        self.repository, self.cache, self.fetched, self.calls = repository, cache, [], []

    def names(self):
        return sorted(path.name for path in self.repository.iterdir() if path.is_file())

    def fetch(self, patterns):
        self.cache.mkdir(exist_ok=True)
        for name in self.names():
            is_wanted = any(fnmatch(name, pattern) for pattern in patterns)
            if is_wanted and not (self.cache / name).exists():
                self.fetched.append(name)
                shutil.copyfile(self.repository / name, self.cache / name)
        return str(self.cache)

    def missing(self, patterns):
        """What a dry run of the library lists."""
        return [
            SimpleNamespace(
                filename=name,
                file_size=(self.repository / name).stat().st_size,
                will_download=not (self.cache / name).exists(),
            )
            for name in self.names()
            if any(fnmatch(name, pattern) for pattern in patterns)
        ]


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    shutil.copytree(EMBEDDED / "tiny-dense", folder, ignore=shutil.ignore_patterns("step*"))
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    return folder


@pytest.fixture
def hugging_face(repository, tmp_path, monkeypatch):
    held = Hub(repository, tmp_path / "cache")

    def snapshot_download(hub_id, *, revision, allow_patterns, dry_run=False):
        held.calls.append((hub_id, revision))
        return held.missing(allow_patterns) if dry_run else held.fetch(allow_patterns)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: held.names())
    return held


@pytest.fixture
def modelscope(repository, tmp_path, monkeypatch):
    """Stands in for the package modelscope."""
    held = Hub(repository, tmp_path / "cache")

    def snapshot_download(model_id, *, allow_patterns, revision=None, local_files_only=False):
        held.calls.append((model_id, revision))
        if local_files_only:
            if not held.cache.is_dir():
                raise ValueError("Cannot find the requested files in the cached path")
            return str(held.cache)
        return held.fetch(allow_patterns)

    class HubApi:
        def get_model_files(self, model_id, *, recursive, revision=None):
            paths = [repository / name for name in held.names()]
            files = [{"Path": p.name, "Size": p.stat().st_size, "Type": "blob"} for p in paths]
            return [*files, {"Path": "folder", "Size": 0, "Type": "tree"}]

    modules = {"modelscope": {}, "modelscope.hub": {}, "modelscope.hub.api": {"HubApi": HubApi}}
    modules["modelscope.hub.snapshot_download"] = {"snapshot_download": snapshot_download}
    for name, members in modules.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return held


def free(monkeypatch, n_bytes):
    usage = SimpleNamespace(total=10**12, used=0, free=n_bytes)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage)


def test_a_download_that_does_not_fit_the_disk_is_refused_before_it_begins(
    hugging_face, repository, monkeypatch
):
    free(monkeypatch, 10**6)
    with pytest.raises(CheckpointError, match=r"Some/Model needs 0.0 GB more .* set HF_HOME to"):
        qwen3lab.load("Some/Model", device="cpu")
    assert "model.safetensors" not in hugging_face.fetched
    size = (repository / "model.safetensors").stat().st_size
    free(monkeypatch, size - 1)
    with pytest.raises(CheckpointError, match="make room"):
        hub.fetch("Some/Model", None, ["model.safetensors"])
    free(monkeypatch, size)
    hub.fetch("Some/Model", "main", ["model.safetensors"])
    assert hugging_face.calls[-1] == ("Some/Model", "main")
    free(monkeypatch, 0)  # What is cached needs no room.
    assert hub.fetch("Some/Model", None, ["model.safetensors"]) == hugging_face.cache


def test_a_dry_run_without_network_leaves_the_answer_to_the_download(monkeypatch, tmp_path):
    def snapshot_download(hub_id, *, revision, allow_patterns, dry_run=False):
        if dry_run:
            raise huggingface_hub.errors.LocalEntryNotFoundError("offline")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert hub.fetch("Some/Model", None, ["*"]) == tmp_path


@pytest.mark.parametrize("how", ["argument", "USE_MODELSCOPE_HUB", "VLLM_USE_MODELSCOPE"])
def test_a_model_of_modelscope_is_what_the_folder_is(modelscope, monkeypatch, how):
    free(monkeypatch, ROOM)
    options = {"source": "modelscope"} if how == "argument" else {}
    if how != "argument":
        monkeypatch.setenv(how, "True" if how.startswith("V") else "1")
    lab = qwen3lab.load("Some/Model", device="cpu", dtype="float32", revision="v1", **options)
    own = qwen3lab.load("tiny-dense", device="cpu", dtype="float32")
    assert torch.equal(lab.record(IDS).logits, own.record(IDS).logits)
    assert set(modelscope.calls) == {("Some/Model", "v1")}
    first = modelscope.fetched.index("model.safetensors")
    assert "config.json" in modelscope.fetched[:first]
    assert not [name for name in modelscope.fetched if name.endswith(".py")]


def test_modelscope_asks_for_room_and_opens_its_cache_without_network(modelscope, monkeypatch):
    free(monkeypatch, 10**6)
    with pytest.raises(CheckpointError, match=r"needs .* GB more .* set MODELSCOPE_CACHE to"):
        find_folder("Some/Model", source="modelscope")
    assert modelscope.fetched == []
    free(monkeypatch, ROOM)
    folder = find_folder("Some/Model", source="modelscope")
    free(monkeypatch, 0)
    assert find_folder("Some/Model", source="modelscope") == folder

    def offline(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(sys.modules["modelscope.hub.api"].HubApi, "get_model_files", offline)
    assert find_folder("Some/Model", source="modelscope") == folder
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="could not be fetched from ModelScope"):
        find_folder("Some/Model", source="modelscope")


def test_without_the_package_modelscope_the_way_to_it_is_named(monkeypatch):
    for name in ("modelscope", "modelscope.hub", "modelscope.hub.api"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CheckpointError, match=r"pip install 'qwen3lab\[modelscope\]'"):
        qwen3lab.load("Some/Model", source="modelscope")


def test_an_unknown_source_is_refused(monkeypatch):
    with pytest.raises(CheckpointError, match="source is 'elsewhere': choose from huggingface, mo"):
        qwen3lab.load("Some/Model", source="elsewhere")
    for value, expected in (("1", "modelscope"), ("true", "modelscope"), ("0", "huggingface")):
        monkeypatch.setenv("USE_MODELSCOPE_HUB", value)
        assert hub.source_of(None) == expected
        assert hub.source_of("huggingface") == "huggingface"


LISTED = [
    "README.md",
    "Model-Q4_K_M.gguf",
    "Model-UD-Q4_K_XL.gguf",
    "Model-Q8_0-00001-of-00002.gguf",
    "Model-Q8_0-00002-of-00002.gguf",
    "BF16/Model-BF16-00001-of-00002.gguf",
    "BF16/Model-BF16-00002-of-00002.gguf",
    "mmproj-F16.gguf",
    "Other-Q6_K.gguf",
    "Model-Q6_K.gguf",
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("o/n:Q4_K_M", ["Model-Q4_K_M.gguf"]),
        ("o/n:q4_k_m", ["Model-Q4_K_M.gguf"]),
        ("o/n:UD-Q4_K_XL", ["Model-UD-Q4_K_XL.gguf"]),
        ("o/n:Q8_0", LISTED[3:5]),
        ("o/n:BF16", LISTED[5:7]),
        ("o/n/Model-Q6_K.gguf", ["Model-Q6_K.gguf"]),
        ("o/n/BF16/Model-BF16-00002-of-00002.gguf", LISTED[5:7]),
    ],
)
def test_the_file_that_is_meant_is_chosen_with_all_of_its_parts(name, expected):
    wanted = gguf_of_hub(name)
    assert wanted is not None and wanted.model_id == "o/n"
    assert chosen_files(wanted, LISTED) == expected


@pytest.mark.parametrize(
    ("wanted", "listed", "message"),
    [
        (HubGguf("o/n", tag="Q2_K"), LISTED, "no GGUF file that 'Q2_K' means, of Model-BF16, Mod"),
        (HubGguf("o/n", tag="Q6_K"), LISTED, "several GGUF files that 'Q6_K' means, of Model-Q6_K"),
        (HubGguf("o/n", file="x.gguf"), LISTED, "no GGUF file that 'x.gguf'"),
        (HubGguf("o/n", tag="Q8_0"), ["README.md"], "holds no GGUF files: leave 'Q8_0' out"),
    ],
)
def test_a_file_that_is_not_certain_is_refused(wanted, listed, message):
    with pytest.raises(CheckpointError, match=message):
        chosen_files(wanted, listed)


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-0.6B", "tiny-moe", "a/b/c", "C:/a/b", "a:b", "/a/b:c", "a/b.gguf"]
)
def test_other_names_mean_no_gguf_file_of_a_hub(name):
    assert gguf_of_hub(name) is None


def test_parts_of_a_hub_are_fetched_and_read(hugging_face, repository, monkeypatch):
    write_gguf(repository / "Model-Q8_0.gguf", "tiny-dense", split=a_third("tiny-dense"))
    free(monkeypatch, ROOM)
    lab = qwen3lab.load("Some/Model:Q8_0", device="cpu", dtype="float32")
    own = qwen3lab.load(write_gguf(repository.parent / "whole.gguf", "tiny-dense"), device="cpu")
    assert torch.equal(lab.record(IDS).logits, own.record(IDS).logits)
    assert lab.name == "Some/Model:Q8_0"
    parts = [name for name in hugging_face.fetched if name.endswith(".gguf")]
    assert set(parts) == {f"Model-Q8_0-0000{n}-of-00003.gguf" for n in (1, 2, 3)}
    assert "model.safetensors" not in hugging_face.fetched


def test_a_hub_without_network_lists_what_is_cached(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise ConnectionError

    (tmp_path / "BF16").mkdir()
    (tmp_path / "BF16" / "a.gguf").write_bytes(b"")
    monkeypatch.setattr(huggingface_hub, "list_repo_files", offline)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert hub.listed_files("o/n", None) == [str(Path("BF16") / "a.gguf")]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match="o/n is not in the local cache and could not be"):
        hub.listed_files("o/n", None)
