"""Variants of config.json: the logits of transformers on the same folder, or a refusal.

Each variant changes fields of a checkpoint that transformers wrote; `ABSENT` removes a field.
"""

import json
import shutil
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM

from qwen3lab.errors import Qwen3LabError
from qwen3lab.loading import load_model
from tests.reference import YARN, gap, tokens

ABSENT = "absent"
THETA = {"rope_type": "default", "rope_theta": 10_000.0}


def yarn(*absent, **changes):
    return {"rope_parameters": {k: v for k, v in (YARN | changes).items() if k not in absent}}


def rope(**changes):
    return {"rope_parameters": THETA | changes}


SAME = {
    "as written": {},
    "no eps": {"rms_norm_eps": ABSENT},
    "no context": {"max_position_embeddings": ABSENT},
    "no activation": {"hidden_act": ABSENT},
    "no tying": {"tie_word_embeddings": ABSENT},
    "yarn": yarn(),
    "yarn with its attention scaled": yarn(attention_factor=1.7),
    "yarn without the original length": yarn("original_max_position_embeddings"),
    "yarn, factor null": yarn(factor=None),
    "yarn, betas": yarn(beta_fast=4, beta_slow=2),
    "yarn, betas the wrong way round": yarn(beta_fast=4, beta_slow=8),
    "yarn, betas null": yarn(beta_fast=None, beta_slow=None),
    "yarn, original length beside it": {
        **yarn("original_max_position_embeddings"),
        "original_max_position_embeddings": 32,
    },
    "older yarn": {
        "rope_parameters": ABSENT,
        "rope_theta": 1e4,
        "rope_scaling": {"type": "yarn", "factor": 2.0},
    },
    "older theta": {"rope_parameters": ABSENT, "rope_theta": 5e5},
    "theta twice, the same": {"rope_theta": 1e4},
    "a sliding window that is not used": {"sliding_window": 4, "use_sliding_window": False},
    "another architecture's name": {"architectures": ["AnotherNameForCausalLM"]},
    "a layer before the first": {"mlp_only_layers": [-1]},
}
WARNED = {
    "attn_factor": yarn(attn_factor=0.3),
    "a factor of plain rope": rope(factor=2.0),
    "an unknown scale": {"logit_scale": 3.0},
    "bidirectional attention by another name": {"use_bidirectional_attention": True},
    "tied, with an unembedding": {"tie_word_embeddings": True},
    "no theta": {"rope_parameters": ABSENT},
    "yarn, no theta": yarn("rope_theta"),
    "older yarn, no theta": {
        "rope_parameters": ABSENT,
        "rope_scaling": {"type": "yarn", "factor": 2.0},
    },
}
MESSAGES = r"are used neither here nor|ties the embeddings, but|has no rope_theta: 10000 is used"
REFUSED = {
    "theta null": {"rope_parameters": ABSENT, "rope_theta": None},
    "theta null in its group": rope(rope_theta=None),
    "two thetas": {"rope_theta": 5e5},
    "yarn of factor 1 that scales": yarn(factor=1.0, attention_factor=2.0),
    "yarn with mscale": yarn(mscale=0.7, mscale_all_dim=0.5),
    "yarn not truncated": yarn(truncate=False),
    "yarn, truncation null": yarn(truncate=None),
    "yarn, two original lengths": {**yarn(), "original_max_position_embeddings": 32},
    "linear scaling": rope(rope_type="linear", factor=2.0),
    "rope by kind of layer": {"rope_parameters": {"full_attention": YARN}},
    "half of a head rotated": {"partial_rotary_factor": 0.5},
    "a sliding window": {"use_sliding_window": True, "sliding_window": 4},
    "sliding layers": {"layer_types": ["sliding_attention"] * 3},
    "biases": {"attention_bias": True},
    "another activation": {"hidden_act": "gelu"},
    "attention to later tokens": {"is_causal": False},
    "no eps at all": {"rms_norm_eps": 0.0},
    "another number of heads": {"num_attention_heads": 2},
    "a head of null": {"head_dim": None},
    "a classifier without scores": {"architectures": ["Qwen3ForSequenceClassification"]},
}


def variant(saved, tmp_path, name, changes):
    folder = tmp_path / "variant"
    shutil.copytree(saved[name], folder)
    fields = json.loads((folder / "config.json").read_text()) | changes
    fields = {key: value for key, value in fields.items() if value is not ABSENT}
    if not name.startswith("experts"):
        fields.pop("mlp_only_layers", None)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@torch.no_grad()
def compared(folder):
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # 100 tokens, beyond the 64 for which the yarn of `reference` was trained.
    ids = tokens(batch=1, length=100)
    return gap(load_model(folder, dtype="float32")(ids), theirs(ids).logits)


@pytest.mark.parametrize("name", ["dense", "experts"])
@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_a_variant_gives_the_logits_of_transformers(saved, tmp_path, name, changes):
    assert compared(variant(saved, tmp_path, name, changes)) < 1e-5


@pytest.mark.parametrize("name", ["dense", "experts"])
@pytest.mark.parametrize("changes", WARNED.values(), ids=WARNED)
def test_a_variant_with_a_warning_gives_the_logits_of_transformers(saved, tmp_path, name, changes):
    folder = variant(saved, tmp_path, name, changes)
    with pytest.warns(UserWarning, match=MESSAGES):
        assert compared(folder) < 1e-5


@pytest.mark.parametrize("name", ["dense", "experts"])
@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_a_variant_that_would_give_other_numbers_is_refused(saved, tmp_path, name, changes):
    folder = variant(saved, tmp_path, name, changes)
    with pytest.raises(Qwen3LabError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_model(folder, dtype="float32")
