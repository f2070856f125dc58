"""Rows that join and leave a batch are compared with the same rows decoded alone."""

import random
import threading

import pytest
import torch

from qwen3lab.errors import NonFiniteError
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.pooled_rows import Past, PooledRow, rows_of
from qwen3lab.generation.row_pool import RowPool
from qwen3lab.generation.sampling import Sampler, Sampling, random_stream
from qwen3lab.generation.shared_prefixes import shared_prefixes
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recorder import Recorder
from qwen3lab.recording.row_recorder import RowRecorder
from tests.generation.test_decoding import Plain
from tests.reference import small_config

HOT = Sampling(temperature=1.5)
SEED = 100
KINDS = {"dense": {"moe_layers": ()}, "experts": {"moe_layers": (1,)}}
HOOKS = ("blocks.*.attn.hook_rot_q", "hook_unembed", "blocks.1.attn.hook_pattern")


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    changes = dict(KINDS[request.param])
    if not changes["moe_layers"]:
        changes |= {"n_experts": 0, "n_experts_per_token": 0, "d_expert": 0}
    built = Qwen3(small_config(n_layers=2, **changes))
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built


@pytest.fixture(scope="module")
def asked():
    """Prompts, two groups of which share a prefix, with reply lengths and inserted tokens."""
    draw = random.Random(0)

    def some(n):
        return [draw.randrange(50) for _ in range(n)]

    shared = [some(40), some(36)]
    prompts = [some(draw.randrange(1, 12)) for _ in range(5)]
    prompts += [[*prefix, copy, *some(2)] for copy in range(3) for prefix in shared]
    lengths = [draw.randrange(1, 14) for _ in prompts]
    return prompts, lengths, [{2: 7, 3: 8} if row % 3 == 0 else {} for row in range(len(prompts))]


@pytest.fixture(scope="module")
def alone(model, asked):
    """Tokens, log-probabilities and recording of each row, decoded alone."""
    found = []
    for row, (prompt, n, insert) in enumerate(zip(*asked, strict=True)):
        guide, recorder = Plain(n, insert), Recorder(resolve_hooks(HOOKS, model.config))
        steps = decode(
            model,
            [prompt],
            sampler=Sampler(HOT, seeds=[SEED + row]),
            guides=[guide],
            max_new_tokens=99,
            tap=recorder,
            feed_last=True,
        )
        logprobs = [float(step.logprobs[0]) for step in steps]
        found.append((guide.seen, logprobs, recorder.cut([(0, len(prompt) + n)])[0]))
    return found


def pooled(model, asked, batch, *, share=True, **options):
    """A pool of the rows, and its rows."""
    prompts, lengths, inserts = asked
    guides = [Plain(n, insert) for n, insert in zip(lengths, inserts, strict=True)]
    streams = Sampler(HOT, seeds=range(SEED, SEED + len(prompts))).streams
    shared = shared_prefixes(prompts) if share else [(0, list(range(len(prompts))))]
    rows = rows_of(prompts, guides, streams, shared=shared)
    return RowPool(model, rows, sampling=HOT, batch=batch, **options), rows


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 11])
def test_rows_are_decoded_and_recorded_as_if_alone(model, asked, alone, batch, fixed):
    recorder = RowRecorder(resolve_hooks(HOOKS, model.config))
    reader = model if fixed else None
    pool, rows = pooled(model, asked, batch, recorder=recorder, reader=reader)
    logprobs = {row.number: [] for row in rows}
    for step in pool.steps():
        assert len(step.rows) <= batch
        for row, value in zip(step.rows, step.chosen.logprobs.tolist(), strict=True):
            logprobs[row.number].append(value)
    pool.close()
    for row in rows:
        seen, wanted, kept = alone[row.number]
        assert row.written == seen
        torch.testing.assert_close(logprobs[row.number], wanted, atol=1e-4, rtol=1e-4)
        found = recorder.taken(row)
        assert found.keys() == kept.keys()
        for name, value in kept.items():
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)


def test_no_pass_runs_more_rows_than_have_not_ended(model, asked):
    pool, rows = pooled(model, asked, 4, share=False)
    n_fed = 0
    for step in pool.steps():
        n_fed += len(step.rows)
        assert not any(row.ended and row not in step.ended for row in step.rows)
    assert n_fed == sum(len(row.written) for row in rows) == sum(asked[1])


def test_the_cache_holds_the_rows_of_a_batch_and_forgets_the_longest(model):
    lengths = [2, 60, *[2] * 60]
    asked = [[1, 2]] * len(lengths), lengths, [{}] * len(lengths)
    pool, _ = pooled(model, asked, 2, share=False)
    widths = []
    for _ in pool.steps():
        assert pool._cache.rows == 2
        widths.append(pool._cache.length)
    # The long row is alone with one other at a time; after it, the cache is short again.
    assert max(widths) < 2 + 60 + 1 and widths[-1] < 40


@pytest.mark.parametrize("fixed", [False, True])
def test_the_cache_does_not_grow_beyond_its_longest_row(model, fixed, monkeypatch):
    monkeypatch.setattr("qwen3lab.generation.row_pool.FIRST_CAPACITY", 30)
    lengths = [30, *[10] * 20]
    asked = [[1, 2]] * len(lengths), lengths, [{}] * len(lengths)
    pool, rows = pooled(model, asked, 2, share=False, capacity=32, reader=model if fixed else None)
    assert {pool._cache.capacity for _ in pool.steps()} == {32}
    for row in rows[1:]:
        assert row.written == decoded_alone(model, row.number, 10)


def decoded_alone(model, number, n):
    guide, sampler = Plain(n), Sampler(HOT, seeds=[SEED + number])
    for _ in decode(model, [[1, 2]], sampler=sampler, guides=[guide], max_new_tokens=n):
        pass
    return guide.seen


def test_a_shared_prefix_is_read_once(model, asked):
    n_read = []

    class Counting:
        device, new_cache = model.device, model.new_cache

        def __call__(self, ids, *, mask=None, **options):
            n_read.append(int(ids.numel() if mask is None else mask.sum()))
            return model(ids, mask=mask, **options)

    totals = {}
    for share in (True, False):
        n_read.clear()
        pool, _ = pooled(Counting(), asked, 11, share=share)
        for _ in pool.steps():
            pass
        totals[share] = sum(n_read)
    assert totals[False] - totals[True] == 2 * (40 + 36), "three prompts share each prefix"


def test_a_shared_prefix_is_freed_when_its_last_row_has_joined(model, asked):
    recorder = RowRecorder(["hook_embed"])
    pool, rows = pooled(model, asked, 2, recorder=recorder)
    pasts = {row.past for row in rows if row.past is not None}
    n_kept = [sum(past.cache is not None for past in pasts) for _ in pool.steps()]
    assert len(pasts) == 2 and max(n_kept) == 1 and n_kept[-1] == 0
    assert not any(recorder.length(past) for past in pasts)


def test_a_row_can_follow_the_tokens_of_one_that_has_ended(model):
    first = PooledRow(0, [3, 1, 4], Plain(9), random_stream(HOT, 5))
    pool, branches = RowPool(model, [first], sampling=HOT, batch=3), []
    for step in pool.steps():
        if first in step.ended:
            cache = pool.taken(first)
            for kept in (2, 6):
                past = Past([3, 1, 4, *first.written[:kept]], cache)
                stream = random_stream(HOT, 5, skip=kept + 1)
                branches.append(PooledRow(kept, [9], Plain(4), stream, past))
            pool.add_first(branches)
    for row in branches:
        guide = Plain(row.number + 1 + 4, {row.number: 9})
        for _ in decode(
            model,
            [[3, 1, 4]],
            sampler=Sampler(HOT, seeds=[5]),
            guides=[guide],
            max_new_tokens=99,
        ):
            pass
        assert guide.seen == [*first.written[: row.number], 9, *row.written]


def test_a_cancelled_pool_ends_after_the_current_step_and_records_it(model, asked):
    cancel, recorder = threading.Event(), RowRecorder(["hook_embed"])
    pool, rows = pooled(model, asked, 3, share=False, cancel=cancel, recorder=recorder)
    for n_steps, _ in enumerate(pool.steps(), start=1):
        if n_steps == 2:
            cancel.set()
    pool.close()
    assert n_steps == 2
    begun = [row for row in rows if row.written]
    assert len(begun) >= 3
    for row in begun:
        assert recorder.length(row) == len(row.token_ids) + len(row.written)


@pytest.mark.parametrize("passes", range(1, 9))
def test_an_interrupted_pass_leaves_whole_recordings(model, asked, alone, passes):
    recorder, left = RowRecorder(resolve_hooks(HOOKS, model.config)), [passes]

    def interrupting(ids, *, tap, **options):
        left[0] -= 1
        if not left[0]:
            tap("blocks.0.attn.hook_rot_q", torch.zeros(*ids.shape, 4, 16))
            raise KeyboardInterrupt
        return model(ids, tap=tap, **options)

    interrupting.device, interrupting.new_cache = model.device, model.new_cache
    pool, rows = pooled(interrupting, asked, 3, recorder=recorder)
    with pytest.raises(KeyboardInterrupt):
        for _ in pool.steps():
            pass
    pool.close()
    for row in rows:
        kept, n = alone[row.number][2], recorder.length(row)
        n_text = len(asked[0][row.number]) + len(row.written)
        assert n >= n_text - 1 if row.written else n in (0, n_text)
        found = recorder.taken(row) if row.written else None
        for name, value in (found or {}).items():
            wanted = kept[name][:, :n, :n] if name.endswith("pattern") else kept[name][:n]
            torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4)


def test_logits_that_are_not_finite_are_refused_by_the_number_of_the_row(model):
    broken = Qwen3(model.config)
    broken.load_state_dict(model.state_dict())
    broken.embed.weight.data[9] = torch.inf
    prompts = [[5, 6], [5, 7], [5, 9, 7]]
    pool, _ = pooled(broken, (prompts, [2, 2, 2], [{}] * 3), 1, share=False)
    with pytest.raises(NonFiniteError, match=r"after 3 tokens of prompt 2 are .* at token 1 is"):
        for _ in pool.steps():
            pass
