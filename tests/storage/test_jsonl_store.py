"""Files of sweeps stay readable, and are written as before."""

import json
import os
import zlib
from dataclasses import replace

import pytest

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import ResultsError, StorageError
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


def with_checksums(*lines):
    """The lines with the checksums that the module's first sentences describe."""
    data, value = b"", 0
    for line in lines:
        text = line.encode()
        value_here = zlib.crc32(text, value)
        data += text[:-1] + f', "crc32": "{value_here:08x}"}}\n'.encode()
        value = value or value_here  # Each result continues the plan's.
    return data


def test_a_file_is_written_as_before_with_a_checksum_in_each_line(path, tmp_path):
    found = Sweep.load(path)
    store = Store(tmp_path / "again.jsonl", SweepPlan, Attempt)
    assert store.resume(found.plan) == []
    store.add(found.attempts)
    fields = json.loads(PLAN) | {"weights_and_tokens": "", "published_sampling": []}
    plan = json.dumps(fields, ensure_ascii=False)
    assert store.path.read_bytes() == with_checksums(plan, ATTEMPT.strip())
    assert Sweep.load(store.path) == found


@pytest.fixture
def checked(path, tmp_path):
    """The same sweep as a file with checksums."""
    found = Sweep.load(path)
    store = Store(tmp_path / "checked.jsonl", SweepPlan, Attempt)
    store.resume(found.plan)
    store.add(found.attempts)
    return store


def test_another_digit_in_a_line_is_found(checked):
    whole = checked.path.read_bytes()
    checked.path.write_bytes(whole.replace(b'"answer_tokens": 1,', b'"answer_tokens": 2,', 1))
    with pytest.raises(ResultsError, match=r"line 2 of checked.jsonl is damaged \(its checksum"):
        checked.results()
    checked.path.write_bytes(whole.replace(b'"seed": 3', b'"seed": 4'))
    with pytest.raises(ResultsError, match=r"does not begin .* \(its checksum"):
        checked.plan()


def test_a_line_of_another_run_is_found(checked, tmp_path):
    other = Store(tmp_path / "other.jsonl", SweepPlan, Attempt)
    other.resume(replace(checked.plan(), seed=4))
    other.add(checked.results())
    checked.path.write_bytes(checked.path.read_bytes() + other.path.read_bytes().split(b"\n")[1])
    assert len(checked.results()) == 1
    checked.path.write_bytes(checked.path.read_bytes() + b"\n")
    with pytest.raises(ResultsError, match=r"line 3 of checked\.jsonl is damaged"):
        checked.results()


def test_a_file_appended_to_itself_gives_each_result_once(checked):
    once = checked.results()
    checked.path.write_bytes(2 * checked.path.read_bytes())
    assert checked.results() == once == checked.resume(checked.plan())


@pytest.mark.parametrize(
    "change",
    [
        {"problem": 1},
        {"sample": -1},
        {"right": [True]},
        {"at_once": None},
        {"prompt_tokens": "14"},
        {"prompt_tokens": 14.5},
        {"right": [1, 0]},
        {"thinking": 3},
    ],
)
def test_a_line_that_does_not_fit_the_plan_is_named_and_the_file_stays(path, change):
    line = json.dumps(json.loads(ATTEMPT) | change)
    data = f'{PLAN}{ATTEMPT}{line}\n{{"cut'.encode()
    path.write_bytes(data)
    store = Store(path, SweepPlan, Attempt)
    with pytest.raises(ResultsError, match=r"line 3 of sweep.jsonl is damaged"):
        store.resume(store.plan())
    assert path.read_bytes() == data


def test_two_lines_that_contradict_each_other_are_refused(path):
    other = json.dumps(json.loads(ATTEMPT) | {"thinking": "other"})
    path.write_text(f"{PLAN}{ATTEMPT}{other}\n", "utf-8")
    with pytest.raises(ResultsError, match=r"line 3 .* contradicts an earlier line"):
        Sweep.load(path)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_first_line_that_a_kill_cut_is_written_anew(checked, kept):
    plan = checked.plan()
    first = checked.path.read_bytes().split(b"\n")[0] + b"\n"
    checked.path.write_bytes(first[:kept])
    with pytest.raises(ResultsError, match="does not begin"):
        checked.plan()
    assert checked.resume(plan) == []
    assert checked.path.read_bytes() == first


def test_a_second_writer_is_refused_until_the_first_has_ended(checked):
    plan = checked.plan()
    second = Store(checked.path, SweepPlan, Attempt)
    with checked.writing(plan) as done:
        assert len(done) == 1
        with (
            pytest.raises(StorageError, match="is being written by another run"),
            second.writing(plan),
        ):
            pass
    with second.writing(plan) as done:
        assert len(done) == 1


def test_a_text_with_half_a_surrogate_pair_is_kept(checked):
    (only,) = checked.results()
    checked.path.unlink()
    checked.resume(SweepPlan(**vars(Sweep.load(checked.path.with_name("sweep.jsonl")).plan)))
    checked.add([replace(only, level="\ud800")])
    assert checked.results() == [replace(only, level="\ud800")]


def test_a_pipe_is_no_file_of_results(checked, tmp_path):
    plan = checked.plan()
    os.mkfifo(tmp_path / "pipe")
    store = Store(tmp_path / "pipe", SweepPlan, Attempt)
    for read in (store.plan, store.results, lambda: store.resume(plan)):
        with pytest.raises(ResultsError, match="pipe is not a regular file"):
            read()
    with pytest.raises(ResultsError, match="not a regular file"), store.writing(plan):
        pass


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
