import base64
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qwen3lab import corpus
from qwen3lab.analysis.specialisation import choice_overlap
from qwen3lab.errors import CorpusError
from tests.corpus.engine_example import encoded, sglang, vllm

PROMPT = 3


@pytest.fixture(scope="module")
def rec(tiny_lab):
    return tiny_lab.record("3+4*2-1=?")


@pytest.fixture
def taken(rec):
    """Experts as vLLM counts them: token, layer with experts, k."""
    return rec.routing.experts.numpy().transpose(1, 0, 2).astype(np.int16)


def ids(rec):
    found = rec.token_ids.tolist()
    return {"prompt_token_ids": found[:PROMPT], "token_ids": found[PROMPT:]}


LAYOUTS = {
    "one array, without the last token": lambda a: {"routed_experts": a[:-1]},
    "prompt and reply": lambda a: {
        "prompt_routed_experts": a[:PROMPT],
        "routed_experts": a[PROMPT:],
    },
    "nested lists of HTTP": lambda a: {
        "prompt_routed_experts": a[:PROMPT].tolist(),
        "routed_experts": a[PROMPT:-1].tolist(),
    },
    "base64 of HTTP": lambda a: {
        "prompt_routed_experts": encoded(a[:PROMPT]),
        "routed_experts": encoded(a[PROMPT:].astype(np.uint8)),
    },
    "a prompt that was cut": lambda a: {
        "prompt_routed_experts": a[2:PROMPT],
        "routed_experts": a[PROMPT:],
        "routed_experts_prompt_start": 2,
    },
    "cached positions as -1": lambda a: {
        "routed_experts": np.concatenate([np.full_like(a[:2], -1), a[2:]])
    },
    "unread positions as 0": lambda a: {
        "routed_experts": np.concatenate([a[:-1], np.zeros_like(a[-1:])])
    },
}


def routes(run, config):
    table = run.table("routes").to_table()
    return [table[f"experts.{layer}"].to_pylist() for layer in config.moe_layers]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_of_vllm_reads_back_to_the_recording(name, rec, taken, tiny_lab, tmp_path):
    run = corpus.from_routed_experts(
        [ids(rec) | LAYOUTS[name](taken)], lab=tiny_lab, out=tmp_path / "run"
    )
    assert run.skipped.empty
    expected = rec.routing.experts.tolist()
    for found, layer in zip(routes(run, tiny_lab.config), expected, strict=True):
        known = [(a, b) for a, b in zip(found, layer, strict=True) if a is not None]
        assert all(a == b for a, b in known)
        assert len(known) == run.total("routed") >= len(layer) - 2


def test_sglang_reads_back_to_the_recording(rec, taken, tiny_lab, tmp_path):
    reply = sglang(rec, taken, tiny_lab.config, PROMPT)
    run = corpus.from_routed_experts(
        [reply], lab=tiny_lab, out=tmp_path / "run", engine="sglang", labels={"kind": ["sum"]}
    )
    found = torch.tensor([layer[:-1] for layer in routes(run, tiny_lab.config)])
    own = rec.routing.experts[:, :-1]
    assert found.equal(own)
    assert choice_overlap(found, own).eq(1).all()
    assert all(layer[-1] is None for layer in routes(run, tiny_lab.config))
    assert set(run.counts.tokens) == {len(rec) - 1}


def test_a_reply_of_vllm_over_http_is_read(rec, taken, tiny_lab, tmp_path):
    run = corpus.from_routed_experts([vllm(rec, taken, PROMPT)], lab=tiny_lab, out=tmp_path / "run")
    found = torch.tensor([layer[:-1] for layer in routes(run, tiny_lab.config)])
    assert found.equal(rec.routing.experts[:, :-1])


def test_an_object_of_the_python_interface_is_read(rec, taken, tiny_lab, tmp_path):
    fields = ids(rec)
    reply = SimpleNamespace(token_ids=tuple(fields["token_ids"]), routed_experts=taken[:-1])
    output = SimpleNamespace(prompt_token_ids=fields["prompt_token_ids"], outputs=[reply])
    run = corpus.from_routed_experts([output], lab=tiny_lab, out=tmp_path / "run")
    assert run.total("routed") == len(rec) - 1


def test_counts_are_those_of_the_recording_and_weights_are_not_known(
    rec, taken, tiny_lab, tmp_path
):
    run = corpus.from_routed_experts(
        [ids(rec) | {"routed_experts": taken}] * 2,
        lab=tiny_lab,
        out=tmp_path / "run",
        labels={"kind": ["a", "b"]},
    )
    config, table = tiny_lab.config, run.counts
    for at, layer in enumerate(config.moe_layers):
        own = np.bincount(rec.routing.experts[at].flatten().numpy(), minlength=config.n_experts)
        for label in "ab":
            found = table[(table.layer == layer) & (table.label == label)]
            assert found.slots.tolist() == own.tolist()
    assert table.weight.isna().all()
    with pytest.raises(CorpusError, match="from vllm, which does not export weights"):
        run.top("blocks.0.mlp.hook_expert_weights", 0)
    text = "".join(run.tokens(config.moe_layers[0], int(rec.routing.experts[0, 0, 0])).text)
    assert rec.tokens[0] in text


def changed(array, at, value):
    array = array.copy()
    array[at] = value
    return array


def wrong_outputs(rec, taken, config):
    """Outputs that no router gives, or that do not fit the tokens, with the reason."""
    good, n = ids(rec), len(taken)
    yield good | {"routed_experts": taken[: n - 2]}, "a prefix cache may have cut"
    yield (
        good | {"prompt_routed_experts": taken[1:PROMPT], "routed_experts": taken[PROMPT:]},
        "prompt_routed_experts has 2 rows for 3 tokens",
    )
    twice = changed(taken, (1, 0), 3)
    yield good | {"routed_experts": twice}, "routed to the same expert twice"
    yield (
        good | {"routed_experts": changed(taken, (1, 0, 0), config.n_experts)},
        f"expert {config.n_experts} does not exist",
    )
    yield good | {"routed_experts": changed(taken, (1, 0), 0)}, "token 1 has no experts in layer"
    yield good | {"routed_experts": np.zeros_like(taken)}, "none of its tokens has a route"
    yield good | {"routed_experts": taken[:, :-1]}, "its routes have the shape"
    yield good | {"routed_experts": taken.astype(np.float32)}, "expected integers"
    yield good | {"routed_experts": [[[1, 2], [1]]]}, "rows of different lengths"
    yield good, "no routed_experts"
    yield good | {"routed_experts": encoded(taken) | {"dtype": "object"}}, "no known dtype"
    yield good | {"routed_experts": encoded(taken) | {"shape": [2, 2, 2]}}, "its shape is"
    yield good | {"routed_experts": encoded(taken) | {"data": "?"}}, "no base64"
    yield good | {"routed_experts": taken, "token_ids": [10**6] * (n - PROMPT)}, "token 1000000"
    yield {"routed_experts": taken}, "no list of token ids in 'prompt_token_ids'"
    yield good | {"routed_experts": taken, "routed_experts_prompt_start": -1}, "prompt_start is -1"
    yield 3, "no output of an engine"
    yield good | {"choices": [{}, {}]}, "it has 2 replies: give an output for each"


def test_wrong_outputs_are_named_and_the_others_are_kept(rec, taken, tiny_lab, tmp_path):
    wrong = list(wrong_outputs(rec, taken, tiny_lab.config))
    outputs = [*(output for output, _ in wrong), ids(rec) | {"routed_experts": taken}]
    run = corpus.from_routed_experts(outputs, lab=tiny_lab, out=tmp_path / "run")
    assert run.total("texts") == 1
    for (_, expected), reason in zip(wrong, run.skipped.reason, strict=True):
        assert expected in reason


def test_wrong_replies_of_sglang_are_named(rec, taken, tiny_lab, tmp_path):
    good = sglang(rec, taken, tiny_lab.config, PROMPT)
    short = base64.b64encode(b"\0" * 12).decode()
    outputs = [
        good | {"meta_info": {"routed_experts": short}},
        good | {"meta_info": {}},
        good | {"output_ids": [1] * 40},
    ]
    run = corpus.from_routed_experts(outputs, lab=tiny_lab, out=tmp_path / "run", engine="sglang")
    found = run.skipped.reason.tolist()
    for reason, expected in zip(found, ("no multiple", "no text of base64", "cut"), strict=True):
        assert expected in reason


def test_what_does_not_fit_together_is_refused(rec, taken, tiny_lab, tmp_path):
    output, out = ids(rec) | {"routed_experts": taken}, tmp_path / "run"
    with pytest.raises(CorpusError, match="engine is 'tgi': choose from vllm, sglang"):
        corpus.from_routed_experts([output], lab=tiny_lab, out=out, engine="tgi")
    with pytest.raises(CorpusError, match="1 outputs and other labels in 'kind'"):
        corpus.from_routed_experts([output], lab=tiny_lab, out=out, labels={"kind": []})
    with pytest.raises(CorpusError, match="leave top out"):
        corpus.from_routed_experts([output], lab=tiny_lab, out=out, keep=("top",))
