"""Files of sweeps stay readable, and are written as before."""

import json

import pytest

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.storage.jsonl_store import Store
from qwen3lab.thinking.rewind import Answer
from qwen3lab.thinking.swept import Attempt, Sweep, SweepPlan

# A sweep as version 0.2.0 wrote it, before dataclasses went through cattrs.
PLAN = """\
{"kind": "qwen3lab attempts", "model": "tiny-moe", "weights": "float32", "config": {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 384, "vocab_size": 1536, "max_position_embeddings": 2048, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu", "attention_bias": false, "use_sliding_window": false, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 64, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": []}, "problems": "ec2f7bdaf00f611a", "n_problems": 1, "budgets": [3, 40], "samples": 1, "seed": 3, "sampling": null, "answer_tokens": 256, "at_once": true}
"""  # noqa: E501
ATTEMPT = """\
{"problem": 0, "sample": 0, "level": "2", "prompt_tokens": 14, "thinking": "6*3⑧+1⑨", "answers": [{"text": "⑨", "thinking_tokens": 3, "answer_tokens": 1, "reply_tokens": 18, "stop": "budget", "cut": true}, {"text": "⑨", "thinking_tokens": 8, "answer_tokens": 1, "reply_tokens": 14, "stop": "natural", "cut": false}], "right": [true, true], "at_once": {"text": "⑨", "thinking_tokens": 0, "answer_tokens": 1, "reply_tokens": 2, "stop": "natural", "cut": false}, "right_at_once": true, "prompt_tokens_at_once": 18}
"""  # noqa: E501


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sweep.jsonl"
    path.write_bytes((PLAN + ATTEMPT).encode())
    return path


def test_a_file_of_an_earlier_version_opens(path):
    found = Sweep.load(path)
    assert found.plan.budgets == (3, 40)
    assert isinstance(found.plan.config, Qwen3Config)
    assert (found.plan.config.n_experts, found.plan.sampling) == (16, None)
    only = found.attempts[0]
    assert (only.thinking, only.right) == ("6*3⑧+1⑨", (True, True))
    assert only.answers[0] == Answer("⑨", 3, 1, 18, "budget", True)
    assert only.at_once == Answer("⑨", 0, 1, 2, "natural", False)


def test_a_file_is_written_byte_for_byte_as_before(path, tmp_path):
    found = Sweep.load(path)
    store = Store(tmp_path / "again.jsonl", SweepPlan, Attempt)
    assert store.resume(found.plan) == []
    store.add(found.attempts)
    assert store.path.read_bytes() == path.read_bytes()


def test_a_partial_last_line_is_cut_and_the_rest_of_the_file_is_not_written_again(path):
    whole, inode = path.read_bytes(), path.stat().st_ino
    # The cut goes through the middle of a character.
    path.write_bytes(whole + '{"thinking": "⑦'.encode()[:-1])
    store = Store(path, SweepPlan, Attempt)
    assert len(store.results()) == 1
    assert len(store.resume(store.plan())) == 1
    assert path.read_bytes() == whole
    assert path.stat().st_ino == inode


@pytest.mark.parametrize(
    "damaged",
    ["not JSON", "[]", "{}", json.dumps(json.loads(ATTEMPT) | {"unknown": 1})],
)
def test_a_damaged_line_is_named(path, damaged):
    with path.open("a", encoding="utf-8") as file:
        file.write(damaged + "\n")
    with pytest.raises(ValueError, match=r"line 3 of sweep.jsonl is damaged"):
        Store(path, SweepPlan, Attempt).results()


@pytest.mark.parametrize("first", ["", "[]", "3", '"text"', '{"kind": "another"}'])
def test_a_file_of_another_kind_is_refused(tmp_path, first):
    path = tmp_path / "other.jsonl"
    path.write_text(first + "\n", "utf-8")
    with pytest.raises(ValueError, match=r"other.jsonl does not begin as a file of qwen3lab att"):
        Store(path, SweepPlan, Attempt).plan()


def test_a_plan_with_another_type_of_value_is_refused(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps(json.loads(PLAN) | {"budgets": 3}) + "\n", "utf-8")
    with pytest.raises(ValueError, match="does not begin as a file"):
        Store(path, SweepPlan, Attempt).plan()
