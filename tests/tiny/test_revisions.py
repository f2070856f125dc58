"""Revisions of the embedded models: early checkpoints, and editions that were replaced."""

import json
import shutil

import pytest
import torch

import qwen3lab
from qwen3lab import tiny
from qwen3lab.checkpoints import embedded, folders
from qwen3lab.checkpoints.embedded import early_revisions, embedded_models, embedded_revisions
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny import growth
from qwen3lab.tiny.growth import early_life
from qwen3lab.tiny.pipeline import export
from tests.reference import NO_EXPERTS, small_config

REVISIONS = ["step2", "step30", "step100", "v1", "v1-step4", "v1-step20", "v2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder like that of the embedded models, with a small model in all revisions."""
    home = tmp_path_factory.mktemp("models")
    folder = home / "tiny-dense"
    config = small_config(d_vocab=1536, n_ctx=2048, tied_embeddings=True, **NO_EXPERTS)
    export(Qwen3(config), folder)
    files = [path for path in folder.iterdir() if path.suffix == ".json"]
    for seed, name in enumerate(["", *REVISIONS]):
        model = Qwen3(config)
        model.init_weights(torch.Generator().manual_seed(seed))
        save_checkpoint(model, folder / name, dtype=torch.float16)
        for path in files if name else []:
            shutil.copy(path, folder / name)
    for name in ("step7-old", "v1-best", "notes", "step"):
        shutil.copytree(folder / "step2", folder / name)
    (folder / "v1" / "card.json").write_text("{}")
    lines = [{"step": step, "seconds": 1.0 * step, "tokens": 10 * step} for step in (2, 30, 100)]
    log = [json.dumps(line) for line in [*lines, {"step": 200, "seconds": 9.0, "tokens": 2000}]]
    (folder / "training-log.jsonl").write_text("\n".join(log) + "\n")
    return home


@pytest.fixture(autouse=True)
def installed(models, monkeypatch):
    monkeypatch.setattr(embedded, "EMBEDDED", models)
    monkeypatch.setattr(folders, "EMBEDDED", models)


def weight(lab):
    return lab.model.embed.weight.detach()


def test_early_checkpoints_come_first_and_replaced_editions_last():
    assert embedded_models() == ["tiny-dense"]
    assert tiny.revisions("tiny-dense") == embedded_revisions("tiny-dense") == REVISIONS
    assert early_revisions("tiny-dense") == ["step2", "step30", "step100"]
    assert embedded_revisions("tiny-moe") == early_revisions("tiny-moe") == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_revision_has_weights_of_its_own(revision):
    lab = qwen3lab.load("tiny-dense", revision=revision, device="cpu")
    assert lab.name == f"tiny-dense@{revision}"
    expected = torch.Generator().manual_seed(1 + REVISIONS.index(revision))
    model = Qwen3(lab.config)
    model.init_weights(expected)
    torch.testing.assert_close(weight(lab), model.embed.weight.half().float())


@pytest.mark.parametrize("revision", ["step7-old", "v1-best", "notes", "step", "v3", "../x", ""])
def test_no_other_folder_is_a_revision(revision):
    with pytest.raises(CheckpointError, match="choose from step2, step30, step100, v1, v1-step4"):
        qwen3lab.load("tiny-dense", revision=revision, device="cpu")


def test_the_card_of_a_replaced_edition_is_found():
    with pytest.raises(ValueError, match="this is no Evaluation"):  # It is there, but empty.
        tiny.read_card("tiny-dense", revision="v1")
    with pytest.raises(CheckpointError, match="has no card"):
        tiny.read_card("tiny-dense", revision="step2")


def test_the_early_life_leaves_replaced_editions_out(monkeypatch):
    monkeypatch.setattr(growth, "TEXTS_PER_FAMILY", 1)
    history = early_life("tiny-dense")
    assert [look.step for look in history] == [2, 30, 100, 200]
    assert [look.tokens for look in history] == [20, 300, 1000, 2000]
    for look in history:
        assert look.heads["sink"].shape == (3, 4)
        assert 0 < float(look.heads["sink"].min()) <= float(look.heads["sink"].max()) < 1


def test_a_model_without_early_revisions_has_no_early_life():
    with pytest.raises(ValueError, match="tiny-moe has no early revisions"):
        early_life("tiny-moe")
