"""Knock-outs on random models, compared with transformers' loss and with experts without tokens."""

import pytest
import torch
import torch.nn.functional as F

from qwen3lab import Sampling, figures, tiny
from qwen3lab.errors import HookError
from qwen3lab.experiments.controls import compare_with_others, sets_of_like_load
from qwen3lab.experiments.effects import Text, error_rates, expert_loads, group_losses
from qwen3lab.experiments.knockout import knock_out
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import hf_random, small_config, tokens

A, B = [40, 41, 42, 43, 44, 45], [60, 61, 62, 63]


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer), n_experts_per_token=2))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer)


@pytest.fixture(scope="module")
def found(lab):
    texts = [Text("a", A), Text("a", A[::-1]), Text("b", B)]
    return knock_out(lab, texts, progress=False)


def test_the_loss_of_a_group_equals_that_of_transformers(tiny_tokenizer):
    hf = hf_random("experts")
    lab = Lab.from_transformers(hf, tiny_tokenizer)
    rows = tokens(batch=3, length=9).tolist()
    rows[1] = rows[1][:5]
    losses = group_losses(lab, [Text("x", rows[0]), Text("y", rows[1]), Text("x", rows[2])])
    with torch.no_grad():
        each = [float(hf(torch.tensor([row]), labels=torch.tensor([row])).loss) for row in rows]
    assert losses == pytest.approx({"x": (each[0] + each[2]) / 2, "y": each[1]}, rel=1e-4)


def test_only_counted_tokens_contribute_to_the_loss(lab):
    counts = [False, False, True, False, True, False]
    logits = lab.record(A).logits.log_softmax(dim=-1)
    expected = -(logits[1, A[2]] + logits[3, A[4]]) / 2
    assert group_losses(lab, [Text("a", A, counts)])["a"] == pytest.approx(
        float(expected), rel=1e-5
    )


def test_switching_off_an_expert_without_tokens_does_not_change_the_loss(lab, found):
    routing = lab.record(B).routing.experts[-1]
    idle = [expert for expert in range(8) if not (routing == expert).any()]
    busy = [expert for expert in range(8) if expert not in idle]
    assert idle and busy
    # In the last layer, an expert's output reaches no other router.
    assert found.added[-1, idle, 1].abs().max() < 1e-6
    assert found.added[-1, busy, 1].abs().min() > 1e-4


def test_added_loss_is_the_difference_of_loss_with_the_expert_off_and_on(lab, found):
    texts = [Text("b", B)]
    off = group_losses(lab, texts, edits=rerouting.off(3, layers=2))["b"]
    plain = group_losses(lab, texts)["b"]
    # Losses of about 8 nats have a float32 precision of 1e-6; both sides round twice.
    assert float(found.added[1, 3, 1]) == pytest.approx(off - plain, abs=4e-6)
    assert found.layers == (1, 2) and found.groups == ("a", "b")
    torch.testing.assert_close(found.load.sum(dim=1), torch.ones(2))


def test_the_table_has_every_case_once_and_the_largest_added_loss_first(found):
    table = found.to_pandas()
    assert len(table) == 2 * 8 * 2
    assert table.added.is_monotonic_decreasing
    row = table[(table.layer == 2) & (table.expert == 5) & (table.group == "a")].iloc[0]
    assert row.added == pytest.approx(float(found.added[1, 5, 0]))
    assert row.load == pytest.approx(float(found.load[1, 5]))
    assert row.base == pytest.approx(float(found.base[0]))


def test_control_sets_have_the_nearest_load(lab):
    load = torch.tensor([0.30, 0.10, 0.12, 0.02, 0.28, 0.08, 0.05, 0.05])
    # Of all pairs of other experts, 4 with 2 comes nearest to 0.40, then 4 with 5 or 1.
    sets = sets_of_like_load(load, [0, 1], n=2)
    assert sets == [(2, 4), (4, 5)]
    assert sets_of_like_load(load, [0], n=1) == [(4,)]


def test_a_set_is_compared_with_control_sets_of_its_layer(lab):
    texts = [Text("a", A), Text("b", B)]
    found = compare_with_others(lab, texts, [0, 1], layer=2, n_controls=5, progress=False)
    assert len(found.controls) == 5 and all(not {0, 1} & set(chosen) for chosen in found.controls)
    base, off = (group_losses(lab, texts, edits=e) for e in (None, rerouting.off([0, 1], layers=2)))
    assert found.added == pytest.approx({group: off[group] - base[group] for group in base})
    reached = sum(other >= found.added["a"] for other in found.control_added["a"])
    assert found.p_value("a") == (1 + reached) / 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lab: knock_out(lab, []), "there is no text to read"),
        (lambda lab: knock_out(lab, [Text("a", A)], layers=[0]), "layer 0 has no experts"),
        (lambda lab: knock_out(lab, [Text("a", A, [False] * 6)]), "no token of group 'a' counts"),
        (lambda lab: knock_out(lab, [Text("a", A, [True])]), "6 tokens has 1 marks"),
        (
            lambda lab: sets_of_like_load(torch.ones(4), [0, 1, 2], n=1),
            "the set has 3 of 4 experts",
        ),
    ],
)
def test_invalid_texts_layers_and_sets_are_refused(lab, call, message):
    with pytest.raises((ValueError, HookError), match=message):
        call(lab)


def test_loads_of_several_layers_are_returned_in_the_given_order(lab):
    texts = [Text("a", A), Text("b", B)]
    found = expert_loads(lab, texts, [2, 1])
    experts = torch.cat([lab.record(ids).routing.experts for ids in (A, B)], dim=1)
    for row, layer in zip(found, (1, 0), strict=True):
        counts = torch.bincount(experts[layer].flatten(), minlength=8)
        torch.testing.assert_close(row, counts / counts.sum())


def test_errors_are_counted_by_group_and_an_intervention_changes_them(tiny_lab):
    problems = {
        "sums": tiny.problems("arithmetic", n=6, steps=3, seed=1),
        "stories": tiny.problems("stories", n=4, steps=2, seed=1),
    }
    found = error_rates(tiny_lab, problems, thinking=False, max_new_tokens=64)
    for group, questions in problems.items():
        wrong = [
            not problem.grade(
                tiny_lab.chat(problem.question, thinking=False, sampling=Sampling.greedy()).answer
            )
            for problem in questions
        ]
        assert found[group] == sum(wrong) / len(wrong)
    # With four experts in the first layer, almost no answer is right.
    edits = rerouting.off(range(12), layers=0)
    without = error_rates(tiny_lab, problems, edits=edits, thinking=False, max_new_tokens=24)
    assert without["sums"] > 0.5


def test_with_problems_a_set_is_compared_by_its_errors(tiny_lab):
    problems = {"sums": tiny.problems("arithmetic", n=4, steps=2, seed=1)}
    found = compare_with_others(
        tiny_lab, [Text("a", A)], [3], layer=0, problems=problems, n_controls=2, progress=False
    )
    off = error_rates(tiny_lab, problems, edits=rerouting.off(3, layers=0))
    assert found.added["sums"] == off["sums"] - found.base["sums"]
    assert found.base == error_rates(tiny_lab, problems)
    assert len(found.control_added["sums"]) == 2


@pytest.mark.parametrize(
    ("problems", "message"), [({}, "there is no problem"), ({"a": []}, "group 'a' has no problems")]
)
def test_groups_without_problems_are_refused(tiny_lab, problems, message):
    with pytest.raises(ValueError, match=message):
        error_rates(tiny_lab, problems)


def test_an_interrupted_knock_out_returns_the_experts_that_were_done(lab, found, monkeypatch):
    texts, module = [Text("a", A), Text("a", A[::-1]), Text("b", B)], "qwen3lab.experiments"
    real, calls = group_losses, []

    def interrupted(*arguments, **options):
        calls.append(options)
        if len(calls) == 5:  # The first measures the loss with all experts.
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(f"{module}.knockout.group_losses", interrupted)
    part = knock_out(lab, texts, progress=False)
    done = part.added.isnan().any(dim=-1).logical_not() & (found.load > 0)
    assert int(done.sum()) == 3
    assert torch.equal(part.added[done], found.added[done])
    assert torch.equal(part.load, found.load) and torch.equal(part.base, found.base)
    run = part.added.isnan().any(dim=-1).logical_not()
    assert len(part.ranked()) == int(run.sum()) == len(part.to_pandas()) / 2
    assert f"{int(run.sum())} of 16 experts" in repr(part)
    assert figures.knock_out(part).data
    calls[:] = [None] * 3
    with pytest.raises(KeyboardInterrupt):
        knock_out(lab, texts, progress=False)


def test_an_interrupted_comparison_returns_the_control_sets_that_were_done(lab, monkeypatch):
    texts = [Text("a", A), Text("b", B)]
    whole = compare_with_others(lab, texts, [2], layer=1, n_controls=4, progress=False)
    real, calls = group_losses, []

    def interrupted(*arguments, **options):
        calls.append(options)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr("qwen3lab.experiments.controls.group_losses", interrupted)
    part = compare_with_others(lab, texts, [2], layer=1, n_controls=4, progress=False)
    assert part.controls == whole.controls[:2] and part.added == whole.added
    assert part.control_added == {g: whole.control_added[g][:2] for g in ("a", "b")}


@pytest.mark.parametrize("most", [1, 700, 2000, 2**26])
def test_losses_and_loads_do_not_depend_on_the_batches(lab, monkeypatch, most):
    texts = [Text("a", A), Text("b", B), Text("a", A[:2]), Text("b", [7]), Text("a", A[::-1])]
    long = [list(text.token_ids) for text in texts if len(text.token_ids) > 1]
    pairs = [(lab.record(ids).logits[:-1], torch.tensor(ids[1:])) for ids in long]
    expected = torch.stack([F.cross_entropy(*pair) for pair in pairs])
    weights = torch.tensor([5.0, 3, 1, 5])
    of_a = torch.tensor([True, False, True, True])
    monkeypatch.setattr("qwen3lab.experiments.effects.MAX_VALUES", most * 10)
    found = group_losses(lab, texts)
    assert found["a"] == pytest.approx(float((expected * weights)[of_a].sum() / 11), rel=1e-5)
    assert found["b"] == pytest.approx(float(expected[1]), rel=1e-5)
    chosen = torch.cat([lab.record(t.token_ids).routing.experts[1] for t in texts])
    counts = torch.bincount(chosen.flatten(), minlength=8)
    loads = expert_loads(lab, texts, [2])[0].as_subclass(torch.Tensor)
    torch.testing.assert_close(loads, counts / counts.sum())


def test_the_busiest_experts_of_each_layer_are_run_alone(lab, found):
    texts = [Text("a", A), Text("a", A[::-1]), Text("b", B)]
    part = knock_out(lab, texts, busiest=2, progress=False)
    run = part.added.isnan().any(dim=-1).logical_not() & (part.load > 0)
    for row, load in enumerate(part.load):
        busiest = load.topk(2).indices
        assert bool(run[row, busiest].all()) and int(run[row].sum()) == 2
    assert part.added[run].equal(found.added[run])
    assert len(part.ranked()) == int((run | (part.load == 0)).sum())
    assert f"of {part.load.numel()} experts" in part._summary().facts["run"]


def test_losses_of_texts_of_any_order_and_length_belong_to_their_group(lab):
    texts = [Text(str(n), list(range(40, 40 + n))) for n in (5, 2, 60, 3, 61, 4)]
    together = group_losses(lab, texts, progress=False)
    for text in texts:
        alone = group_losses(lab, [text], progress=False)[text.group]
        assert together[text.group] == pytest.approx(alone, rel=1e-5)
