import copy
import threading

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from qwen3lab.errors import ChatError, NonFiniteError
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.model.batching import pad_left
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config


class Plain:
    """A guide that stores tokens, inserts given tokens at given steps, and ends after `n`."""

    def __init__(self, n=1000, insert=()):
        self.n, self.insert, self.seen = n, dict(insert), []

    def next(self, drawn):
        return self.insert.get(len(self.seen))

    def take(self, token_id):
        self.seen.append(token_id)
        return len(self.seen) >= self.n


@pytest.fixture(scope="module")
def model():
    config = small_config(n_layers=2, moe_layers=(1,))
    built = Qwen3(config)
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built


def run(model, prompts, guides, sampling=None, seed=0, n=12, **options):
    sampler = Sampler.in_a_row(sampling or Sampling.greedy(), len(prompts), seed)
    return list(decode(model, prompts, sampler=sampler, guides=guides, max_new_tokens=n, **options))


def full_pass(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]))[0]


def test_a_sampler_with_skipped_numbers_draws_as_an_uninterrupted_one():
    logits = torch.randn(3, 2, 40, generator=torch.Generator().manual_seed(1))
    hot = Sampling(temperature=2.0)
    uninterrupted = Sampler(hot, seeds=[4, 9])
    drawn = [uninterrupted.draw(step) for step in logits]
    later = Sampler(hot, seeds=[4, 9], skip=[2, 1])
    assert int(later.draw(logits[2])[0]) == int(drawn[2][0])
    assert int(Sampler(hot, seeds=[4, 9], skip=[2, 1]).draw(logits[1])[1]) == int(drawn[1][1])


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7),
        Sampling(temperature=0.6, top_k=5),
        Sampling(temperature=1.3, top_p=0.8),
        Sampling(temperature=1.0, min_p=0.2),
        Sampling(temperature=0.9, top_k=12, top_p=0.7, min_p=0.05),
    ],
)
@pytest.mark.parametrize("vocab", [40, 3000])
def test_the_sampling_distribution_equals_that_of_transformers(sampling, vocab):
    logits = torch.randn(6, vocab, generator=torch.Generator().manual_seed(1)) * 3
    expected = by_transformers(sampling, logits)
    torch.testing.assert_close(sampling.probabilities(logits), expected)
    probabilities, token_ids = sampling.candidates(logits)
    assert torch.equal(probabilities, probabilities.sort(dim=-1, descending=True).values)
    torch.testing.assert_close(expected.gather(-1, token_ids), probabilities)


def test_tokens_that_tie_with_the_last_of_the_top_k_are_kept():
    """Ties are frequent in bfloat16."""
    logits = torch.randn(8, 3000, generator=torch.Generator().manual_seed(2)).bfloat16() * 3
    sampling = Sampling(temperature=0.6, top_k=20)
    expected = by_transformers(sampling, logits.float())
    assert int((expected > 0).sum(dim=-1).max()) > 20
    torch.testing.assert_close(sampling.probabilities(logits), expected)


@pytest.mark.parametrize("temperature", [1e-7, 1e-20, 1e-30, 1e-38, 1e-40, 5e-324])
@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_a_temperature_next_to_zero_takes_the_most_likely_token(temperature, options):
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1)) * 30
    sampling = Sampling(temperature=temperature, **options)
    expected = torch.nn.functional.one_hot(logits.argmax(dim=-1), 40).float()
    assert torch.equal(sampling.probabilities(logits), expected)
    assert torch.equal(Sampler(sampling, seeds=[1, 2, 3]).draw(logits), logits.argmax(dim=-1))


def by_transformers(sampling, logits):
    warpers = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    for warper in warpers:
        logits = warper(None, logits)
    return logits.softmax(-1)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    sampler = Sampler.in_a_row(Sampling(temperature=1.0), 4000, 0)
    drawn = sampler.draw(logits.expand(4000, 4))
    shares = torch.bincount(drawn, minlength=4) / 4000
    # Four standard errors of a share are at most 4 * sqrt(0.25 / 4000) = 0.032.
    torch.testing.assert_close(shares, logits.softmax(-1)[0], atol=0.032, rtol=0)


def test_a_filtered_token_is_never_drawn():
    logits = torch.zeros(500, 10)
    logits[:, 3] = 0.01
    drawn = Sampler.in_a_row(Sampling(temperature=1.0, top_k=1), 500, 5).draw(logits)
    assert set(drawn.tolist()) == {3}


def test_a_seed_is_reproducible_and_a_row_does_not_depend_on_other_rows(model):
    hot = Sampling(temperature=1.5)
    alone = [run(model, [[7, 8, 9]], [Plain()], hot, seed=s) for s in (3, 4)]
    guides = [Plain(), Plain()]
    run(model, [[7, 8, 9], [7, 8, 9]], guides, hot, seed=3)
    assert [int(step.token_ids[0]) for step in alone[0]] == guides[0].seen
    assert [int(step.token_ids[0]) for step in alone[1]] == guides[1].seen
    assert guides[0].seen != guides[1].seen


def test_greedy_tokens_are_the_argmax_of_a_full_pass(model):
    prompt, guide = [1, 2, 3], Plain()
    run(model, [prompt], [guide])
    logits = full_pass(model, prompt + guide.seen)
    assert logits[2:-1].argmax(-1).tolist() == guide.seen


def test_logprob_and_entropy_come_from_the_unfiltered_distribution(model):
    prompt, guide = [1, 2, 3], Plain(n=5)
    steps = run(model, [prompt], [guide], Sampling(temperature=0.5, top_k=3))
    probabilities = full_pass(model, prompt + guide.seen)[2:-1].double().softmax(-1)
    expected = torch.stack(
        [row[token].log() for row, token in zip(probabilities, guide.seen, strict=True)]
    )
    entropy = -(probabilities * probabilities.log()).sum(-1)
    torch.testing.assert_close(
        torch.stack([s.logprobs[0] for s in steps]).double(), expected, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        torch.stack([s.entropy[0] for s in steps]).double(), entropy, atol=1e-4, rtol=1e-4
    )


def test_prompts_of_unequal_length_generate_the_same_tokens_as_alone(model):
    prompts = [[5], [1, 2, 3, 4, 5, 6], [9, 8]]
    together = [Plain() for _ in prompts]
    run(model, prompts, together)
    for prompt, guide in zip(prompts, together, strict=True):
        alone = Plain()
        run(model, [prompt], [alone])
        assert alone.seen == guide.seen


def test_inserted_tokens_are_fed_to_the_model_and_marked(model):
    guide = Plain(n=6, insert={2: 40, 3: 41})
    steps = run(model, [[1, 2]], [guide])
    assert guide.seen[2:4] == [40, 41]
    assert [bool(step.forced[0]) for step in steps] == [False, False, True, True, False, False]
    logits = full_pass(model, [1, 2, *guide.seen])
    assert logits[1 + 4].argmax() == guide.seen[4], "the model continues after the inserted tokens"


def test_a_finished_row_stays_finished_while_other_rows_continue(model):
    guides = [Plain(n=2), Plain(n=6)]
    steps = run(model, [[1], [2]], guides)
    assert [step.live.tolist() for step in steps] == [[True, True]] * 2 + [[False, True]] * 4
    alone = Plain(n=6)
    run(model, [[2]], [alone])
    assert alone.seen == guides[1].seen


def test_a_cancelled_run_ends_after_the_current_step(model):
    cancel = threading.Event()
    sampler = Sampler(Sampling.greedy(), seeds=[0])
    steps = decode(
        model, [[1]], sampler=sampler, guides=[Plain()], max_new_tokens=50, cancel=cancel
    )
    next(steps)
    cancel.set()
    assert list(steps) == []


def test_the_callers_gradient_mode_is_unchanged_between_steps(model):
    sampler = Sampler(Sampling.greedy(), seeds=[0])
    for _ in decode(model, [[1]], sampler=sampler, guides=[Plain()], max_new_tokens=3):
        assert torch.is_grad_enabled()


def test_padding_is_on_the_left():
    ids, mask = pad_left([[1, 2, 3], [4]])
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert mask.tolist() == [[True] * 3, [False, False, True]]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"temperature": -1.0}, "temperature is -1.0: expected 0"),
        ({"temperature": float("nan")}, "temperature is nan: expected a number"),
        ({"temperature": float("inf")}, "temperature is inf: expected 0"),
        ({"top_k": 0}, "top_k is 0: expected 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0: expected a share"),
        ({"min_p": 1.5}, "min_p is 1.5: expected a share from 0 to 1"),
    ],
)
def test_invalid_sampling_options_are_refused_with_the_expected_range(fields, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        Sampling(**fields)


def test_published_defaults_differ_by_mode():
    assert Sampling.published(thinking=True) == Sampling(0.6, 20, 0.95)
    assert Sampling.published(thinking=False) == Sampling(0.7, 20, 0.8)


def test_sampling_without_a_seed_does_not_use_torchs_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    two = [Sampler.in_a_row(Sampling(temperature=1.0), 2).draw(torch.zeros(2, 10**6)) for _ in "ab"]
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(*two)


class Overflow:
    """An edit that makes one activation infinite from the `first`-th pass on."""

    def __init__(self, name, first=1):
        self.name, self.left = name, first

    def __call__(self, name, value):
        self.left -= name == "hook_embed"
        return value * torch.inf if name == self.name and self.left <= 0 else value

    def wants(self, name):
        return False


@pytest.mark.parametrize("sampling", [Sampling.greedy(), Sampling(1.0), Sampling(1.0, top_k=3)])
@pytest.mark.parametrize(
    ("weight", "place"),
    [
        ("blocks.1.mlp.down", "blocks.1.mlp.hook_expert_out at token 0"),
        ("blocks.0.attn.q_norm.weight", "blocks.0.attn.hook_rot_q at token 0"),
        ("blocks.0.mlp.up.weight", "blocks.0.mlp.hook_pre_linear at token 0"),
        ("ln_final.weight", "hook_unembed at token 0"),
    ],
)
def test_logits_that_are_not_finite_are_refused_with_the_place(model, sampling, weight, place):
    broken = copy.deepcopy(model)
    broken.get_parameter(weight).data.fill_(torch.inf)
    sentence = rf"the logits after 3 tokens are NaN or infinite in float32; {place} is the first"
    with pytest.raises(NonFiniteError, match=sentence):
        run(broken, [[5, 6, 7]], [Plain()], sampling)


def test_the_token_and_the_prompt_that_overflow_are_named(model):
    broken = copy.deepcopy(model)
    broken.embed.weight.data[9] = torch.inf
    sentence = r"after 4 tokens of prompt 1 are .*; hook_embed at token 2 is the first"
    with pytest.raises(NonFiniteError, match=sentence):
        run(broken, [[5, 6, 7], [5, 6, 9, 7]], [Plain(), Plain()])


def test_float16_that_overflows_is_named_with_a_way_out(model):
    half = copy.deepcopy(model)
    half.blocks[0].mlp.up.weight.data.mul_(1e4)
    run(half, [[5, 6, 7]], [Plain(2)])  # In float32 it is finite.
    sentence = r"in float16; blocks.0.* float16 overflows above 65504, so load .* bfloat16"
    with pytest.raises(NonFiniteError, match=sentence):
        run(half.half(), [[5, 6, 7]], [Plain()])


@pytest.mark.parametrize("first", [1, 4])
def test_logits_that_an_edit_makes_infinite_are_refused(model, first):
    steps, tap = [], Overflow("blocks.0.hook_mlp_out", first)
    sampler = Sampler.in_a_row(Sampling.greedy(), 1, 0)
    options = {"sampler": sampler, "guides": [Plain()], "max_new_tokens": 9, "tap": tap}
    with pytest.raises(NonFiniteError, match=r"a pass without edits .* is finite, so they cause"):
        steps.extend(decode(model, [[5, 6, 7]], **options))
    assert len(steps) == first - 1


def test_tokens_that_an_edit_rules_out_are_not_an_error(model):
    class Forbid(Overflow):
        def __call__(self, name, value):
            return (
                value.index_fill(-1, torch.arange(25), -torch.inf) if name == self.name else value
            )

    found = run(model, [[5, 6, 7]], [Plain(4)], tap=Forbid("hook_unembed"))
    assert all(int(step.token_ids[0]) >= 25 for step in found)


def test_an_inserted_token_that_the_model_does_not_have_is_refused(model):
    with pytest.raises(ChatError, match=r"token 50, .* does not exist: .* tokens 0 to 49"):
        run(model, [[5, 6, 7]], [Plain(insert={1: 50})])
