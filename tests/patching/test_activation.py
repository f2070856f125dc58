"""Every cell of a sweep equals one recorded run with an edit that is written by hand."""

import pytest
import torch

from qwen3lab import patching
from tests.patching.planted import CLEAN, CORRUPT, read_with, small_lab

METRIC = patching.logit_difference(20, 7)
N = len(CLEAN)
HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "neuron": "mlp.hook_post",
    "router": "mlp.hook_router_logits",
}
EXPERT_HOOKS = ("hook_expert_indices", "hook_expert_weights", "hook_expert_out")


@pytest.fixture(scope="module")
def moe(tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=True)


def recorded(lab, ids):
    return lab.record(ids, capture="all")


def by_hand(lab, base, hook, change):
    """The metric of a run in which a function changes a copy of one hook's activation."""

    def edit(value, name):
        return change(value[0].clone())[None]

    return read_with(lab, base, {hook: edit}, METRIC)


def swept(lab, site, **options):
    return patching.patch(
        lab, clean=CLEAN, corrupt=CORRUPT, metric=METRIC, site=site, progress=False, **options
    )


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_each_token_of_the_stream_equals_a_run_by_hand(moe, site, direction):
    base, other = (CORRUPT, CLEAN) if direction == "denoise" else (CLEAN, CORRUPT)
    theirs = recorded(moe, other)
    found = swept(moe, site, direction=direction)
    assert found.values.shape == (3, N) and found.axes == ("layer", "token")
    for layer in range(3):
        hook = f"blocks.{layer}.{HOOKS[site]}"
        for place in range(N):

            def change(value, hook=hook, place=place):
                value[place] = theirs[hook][place]
                return value

            expected = by_hand(moe, base, hook, change)
            assert float(found.raw[layer, place]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("site", ["z", "q", "k", "v"])
def test_each_head_equals_a_run_by_hand(moe, site):
    theirs = recorded(moe, CLEAN)
    whole, single = swept(moe, site), swept(moe, site, by="token")
    n_heads = 2 if site in "kv" else 4
    assert whole.values.shape == (3, n_heads) and single.values.shape == (3, n_heads, N)
    for layer in range(3):
        hook = f"blocks.{layer}.{HOOKS[site]}"
        for head in range(n_heads):

            def all_tokens(value, hook=hook, head=head):
                value[:, head] = theirs[hook][:, head]
                return value

            def one_token(value, hook=hook, head=head):
                value[2, head] = theirs[hook][2, head]
                return value

            for number, change in (
                (whole.raw[layer, head], all_tokens),
                (single.raw[layer, head, 2], one_token),
            ):
                expected = by_hand(moe, CORRUPT, hook, change)
                assert float(number) == pytest.approx(expected, abs=2e-5)


def test_each_pattern_equals_a_run_by_hand(moe):
    theirs = recorded(moe, CLEAN)
    whole, single = swept(moe, "pattern"), swept(moe, "pattern", by="token")
    for layer in range(3):
        hook = f"blocks.{layer}.attn.hook_pattern"
        for head in range(4):

            def all_queries(value, hook=hook, head=head):
                value[head] = theirs[hook][head]
                return value

            def last_query(value, hook=hook, head=head):
                value[head, -1] = theirs[hook][head, -1]
                return value

            pairs = (
                (whole.raw[layer, head], all_queries),
                (single.raw[layer, head, -1], last_query),
            )
            for number, change in pairs:
                expected = by_hand(moe, CORRUPT, hook, change)
                assert float(number) == pytest.approx(expected, abs=2e-5)


def test_each_neuron_of_a_dense_layer_equals_a_run_by_hand(moe):
    theirs = recorded(moe, CLEAN)["blocks.0.mlp.hook_post"]
    found = swept(moe, "neuron", layers=[0])
    assert found.values.shape == (1, moe.config.d_mlp) and found.layers == (0,)
    for neuron in range(0, moe.config.d_mlp, 7):

        def change(value, neuron=neuron):
            value[:, neuron] = theirs[:, neuron]
            return value

        expected = by_hand(moe, CORRUPT, "blocks.0.mlp.hook_post", change)
        assert float(found.raw[0, neuron]) == pytest.approx(expected, abs=2e-5)


class Routed:
    """Experts, weights and outputs of a recording, as plain dicts by token."""

    def __init__(self, recording, layer):
        indices, weights, out = (recording[f"blocks.{layer}.mlp.{hook}"] for hook in EXPERT_HOOKS)
        self.order = [list(map(int, row)) for row in indices]
        self.weights = [
            dict(zip(row, w.tolist(), strict=True))
            for row, w in zip(self.order, weights, strict=True)
        ]
        self.out = [dict(zip(row, o, strict=True)) for row, o in zip(self.order, out, strict=True)]

    def added(self, token, expert):
        if expert not in self.order[token]:
            return 0.0
        return self.weights[token][expert] * self.out[token][expert]


def weights_change(mine, theirs, tokens, expert):
    def change(value):
        for token in tokens:
            for slot, each in enumerate(mine.order[token]):
                if expert in (None, each):
                    value[token, slot] = theirs.weights[token].get(each, 0.0)
        return value

    return change


def out_change(mine, theirs, tokens, expert):
    def change(value):
        for token in tokens:
            for slot, each in enumerate(mine.order[token]):
                if expert in (None, each) and each in theirs.order[token]:
                    value[token, slot] = theirs.out[token][each]
        return value

    return change


def choice_change(mine, theirs, tokens, expert):
    def change(value):
        rows = [list(row) for row in mine.order]
        for token in tokens:
            if expert is None:
                rows[token] = list(theirs.order[token])
            elif expert in theirs.order[token] and expert not in rows[token]:
                rows[token].append(expert)
            elif expert in rows[token] and expert not in theirs.order[token]:
                rows[token].remove(expert)
        width = max(map(len, rows))
        return torch.tensor([row + [-1] * (width - len(row)) for row in rows])

    return change


CHANGES = {
    "expert_weight": ("hook_expert_weights", weights_change),
    "expert_out": ("hook_expert_out", out_change),
    "expert_choice": ("hook_expert_indices", choice_change),
}


@pytest.mark.parametrize("by", ["token", "expert"])
@pytest.mark.parametrize("site", CHANGES)
def test_each_part_of_the_routing_equals_a_run_by_hand(moe, site, by):
    ours, theirs = recorded(moe, CORRUPT), recorded(moe, CLEAN)
    found = swept(moe, site, by=by)
    assert found.layers == (1, 2) and found.values.shape == (2, 8 if by == "expert" else N)
    ending, make = CHANGES[site]
    moved = 0
    for row, layer in enumerate((1, 2)):
        pair = Routed(ours, layer), Routed(theirs, layer)
        for index in range(found.values.shape[1]):
            tokens, expert = (range(N), index) if by == "expert" else ([index], None)
            hook = f"blocks.{layer}.mlp.{ending}"
            expected = by_hand(moe, CORRUPT, hook, make(*pair, tokens, expert))
            assert float(found.raw[row, index]) == pytest.approx(expected, abs=2e-5)
            moved += abs(expected - found.corrupt) > 1e-3
    assert moved > 3


def test_what_an_expert_adds_equals_a_run_by_hand(moe):
    ours, theirs = recorded(moe, CORRUPT), recorded(moe, CLEAN)
    found, single = swept(moe, "expert"), swept(moe, "expert", by="token")
    for row, layer in enumerate((1, 2)):
        mine, other = Routed(ours, layer), Routed(theirs, layer)
        for expert in range(8):

            def change(value, mine=mine, other=other, expert=expert, tokens=range(N)):
                for token in tokens:
                    value[token] += other.added(token, expert) - mine.added(token, expert)
                return value

            hook = f"blocks.{layer}.hook_mlp_out"
            expected = by_hand(moe, CORRUPT, hook, change)
            assert float(found.raw[row, expert]) == pytest.approx(expected, abs=2e-5)
            last = by_hand(
                moe, CORRUPT, hook, lambda value, change=change: change(value, tokens=[N - 1])
            )
            assert float(single.raw[row, expert, -1]) == pytest.approx(last, abs=2e-5)


def test_the_router_decides_choice_and_weights(moe):
    theirs = recorded(moe, CLEAN)
    found = swept(moe, "router")
    for row, layer in enumerate((1, 2)):
        hook = f"blocks.{layer}.mlp.hook_router_logits"

        def change(value, hook=hook):
            value[-1] = theirs[hook][-1]
            return value

        assert float(found.raw[row, -1]) == pytest.approx(
            by_hand(moe, CORRUPT, hook, change), abs=2e-5
        )


def test_the_whole_last_stream_restores_the_clean_run(moe):
    found = swept(moe, "resid_post")
    assert float(found.values[-1, -1]) == pytest.approx(1, abs=1e-5)
    # Rows of a batch may be rounded otherwise than a run of its own: seen on a CPU without AVX-512.
    assert float(found.values[-1, :-1].abs().max()) < 1e-5
    assert (found.values[:, :2] == 0).all()  # Before the first different token, nothing differs.
    noised = swept(moe, "resid_post", direction="noise")
    assert float(noised.values[-1, -1]) == pytest.approx(0, abs=1e-5)
    assert float(noised.values[0, 0]) == 1 and float(noised.effects[0, 0]) == 0
    assert noised.clean == found.clean and noised.corrupt == found.corrupt


def test_values_are_the_share_of_the_difference_that_is_restored(moe):
    found = swept(moe, "z")
    expected = (found.raw - found.corrupt) / (found.clean - found.corrupt)
    torch.testing.assert_close(found.values, expected)
    assert found.clean == pytest.approx(read_with(moe, CLEAN, {}, METRIC), abs=1e-5)
    assert found.corrupt == pytest.approx(read_with(moe, CORRUPT, {}, METRIC), abs=1e-5)


def test_prompts_of_other_lengths_are_patched_at_the_tokens_that_correspond(moe):
    clean, corrupt = [5, *CLEAN], CORRUPT
    theirs = recorded(moe, clean)
    found = patching.patch(
        moe, clean=clean, corrupt=corrupt, metric=METRIC, site="v", align="tokens", progress=False
    )
    assert found.positions == tuple(range(N))
    hook = "blocks.1.attn.hook_v"

    def change(value):
        value[:, 1] = theirs[hook][1:, 1]
        return value

    expected = by_hand(moe, corrupt, hook, change)
    assert float(found.raw[1, 1]) == pytest.approx(expected, abs=2e-5)


def test_a_step_of_one_text_is_put_into_another_step(moe):
    found = patching.patch(
        moe, clean=CLEAN, corrupt=CORRUPT, metric=METRIC, align=[(2, 4)], progress=False
    )
    theirs = recorded(moe, CLEAN)["blocks.0.hook_resid_post"]

    def change(value):
        value[4] = theirs[2]
        return value

    expected = by_hand(moe, CORRUPT, "blocks.0.hook_resid_post", change)
    assert found.values.shape == (3, 1)
    assert float(found.raw[0, 0]) == pytest.approx(expected, abs=2e-5)
    assert found.positions == (4,) and len(found.clean_tokens) == 1


def test_tokens_of_an_answer_are_part_of_both_runs(moe):
    metric = patching.answer_log_probability("34")
    found = patching.patch(moe, clean=CLEAN, corrupt=CORRUPT, metric=metric, progress=False)
    answer = moe.token_ids("34")
    assert found.values.shape == (3, N + len(answer))
    logprobs = moe.record([*CLEAN, *answer]).logits.log_softmax(dim=-1)
    expected = sum(float(logprobs[N - 1 + n, token]) for n, token in enumerate(answer))
    assert found.clean == pytest.approx(expected, abs=1e-4)
    # The last token of the answer is not read.
    assert float(found.values[-1, :-1].sum()) == pytest.approx(1, abs=1e-4)


def test_small_batches_give_the_same_values(moe, monkeypatch):
    found = swept(moe, "z", by="token")
    monkeypatch.setattr("qwen3lab.patching.passes.MAX_POSITIONS", 2 * N)
    few = swept(moe, "z", by="token")
    torch.testing.assert_close(few.raw, found.raw, atol=1e-5, rtol=0)
    monkeypatch.setattr("qwen3lab.patching.passes.MAX_VALUES", 1)
    torch.testing.assert_close(swept(moe, "z").raw, swept(moe, "z").raw)


def test_an_interrupt_keeps_what_was_run(moe, monkeypatch):
    from qwen3lab.patching import sweep

    whole, calls = swept(moe, "resid_mid"), []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run_rows(*args)

    run_rows = sweep.run_rows
    monkeypatch.setattr(sweep, "run_rows", interrupted)
    found = swept(moe, "resid_mid")
    torch.testing.assert_close(found.raw[:2], whole.raw[:2])
    assert found.raw[2].isnan().all()
    assert len(found.to_pandas()) == 2 * N and "12 of 18 were run" in repr(found)
    calls.extend([()] * 1)
    monkeypatch.setattr(sweep, "run_rows", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        swept(moe, "resid_mid", layers=[2])


def test_the_table_names_layers_heads_and_tokens(moe):
    found = swept(moe, "z", by="token", layers=[-1])
    table = found.to_pandas()
    assert list(table.columns) == ["layer", "head", "token", "text", "raw", "value"]
    assert set(table.layer) == {2} and len(table) == 4 * N
    row = table[(table["head"] == 3) & (table.token == 5)].iloc[0]
    assert row.value == pytest.approx(float(found.values[0, 3, 5]))
    assert row.text == moe.tokenizer.decode([CORRUPT[5]])
    top = found.strongest(1).iloc[0]
    assert abs(top.value) == pytest.approx(float(found.values.abs().max()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "heads"}, "there is no site 'heads': choose from resid_pre"),
        ({"site": "z", "by": "neuron"}, "site 'z' has no by='neuron': choose from head, token"),
        ({"direction": "up"}, "there is no direction 'up': choose from denoise, noise"),
        ({"layers": [3]}, "layer 3 does not exist: small has layers 0 to 2"),
        ({"layers": []}, "layers is empty"),
        (
            {"site": "expert", "layers": [0]},
            "layer 0 has no site 'expert': layers that have it are 1, 2",
        ),
        ({"site": "neuron"}, "is for one layer at a time"),
        ({"corrupt": CLEAN}, "in both runs, so nothing can be restored"),
        ({"corrupt": [1, 2]}, "the clean prompt has 6 tokens and the corrupt one 2"),
        ({"metric": patching.logit(1536)}, "token 1536 does not exist"),
        ({"site": "pattern", "align": "tokens"}, "correspond token by token"),
        ({"metric": "logit"}, "metric is 'logit': expected Metric"),
    ],
)
def test_what_does_not_fit_is_refused(moe, options, message):
    given = {"clean": CLEAN, "corrupt": CORRUPT, "metric": METRIC, "progress": False}
    with pytest.raises(ValueError, match=message):
        patching.patch(moe, **(given | options))


def test_a_dense_model_has_no_experts(tiny_tokenizer):
    dense = small_lab(tiny_tokenizer, experts=False)
    with pytest.raises(ValueError, match="site 'expert' does not exist: small has no experts"):
        swept(dense, "expert")


def test_one_expert_for_each_token_cannot_be_removed(tiny_tokenizer):
    single = small_lab(tiny_tokenizer, experts=True, n_experts_per_token=1)
    with pytest.raises(ValueError, match="would leave tokens without an expert"):
        swept(single, "expert_choice", by="expert")
