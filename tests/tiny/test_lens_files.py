"""Fitting the lenses that ship with an embedded model."""

from shutil import copytree

import pytest

import qwen3lab
from qwen3lab import lenses
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.tiny import lens_files


@pytest.mark.slow
def test_writing_the_lenses_again_gives_lenses_that_ship(tmp_path, monkeypatch):
    folder = tmp_path / "tiny-dense"
    copytree(EMBEDDED / "tiny-dense", folder)
    monkeypatch.setattr(lens_files, "TUNED_STEPS", 2)
    monkeypatch.setattr(lens_files, "N_PROMPTS", 1)
    paths = lens_files.write_lenses(folder, progress=False)
    assert [path.name for path in paths] == ["tuned-lens.safetensors", "jacobian-lens.safetensors"]
    lenses.TunedLens.load(paths[0], qwen3lab.load(folder, device="cpu"))
    again = qwen3lab.load(folder, device="cpu", dtype="bfloat16")
    lenses.JacobianLens.load(paths[1], again)
