import pytest
import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.taps import Keep
from qwen3lab.loading import from_transformers
from qwen3lab.model.kv_cache import KVCache
from tests.reference import gap, hf_random, tokens

LENGTH = 24


@pytest.fixture(scope="module", params=["dense, yarn", "experts, one dense layer"])
def model(request):
    return from_transformers(hf_random(request.param)).requires_grad_(False)


def in_pieces(model, ids, sizes, *, mask=None, capacity=4, cache=None):
    """Logits of successive passes over parts of a text; the cache starts small and has to grow."""
    cache = cache or model.new_cache(batch=len(ids), capacity=capacity)
    pieces = ids.split(sizes, dim=1)
    masks = [None] * len(pieces) if mask is None else mask.split(sizes, dim=1)
    logits = [model(p, mask=m, cache=cache) for p, m in zip(pieces, masks, strict=True)]
    return torch.cat(logits, dim=1), cache


@pytest.mark.parametrize(
    "sizes",
    [[LENGTH], [1] * LENGTH, [10] + [1] * 14, [10, 14], [1, 7, 1, 8, 7]],
    ids=["prefill", "decode", "prefill and decode", "two chunks", "uneven chunks"],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_passes_with_a_cache_give_the_logits_of_one_full_pass(model, sizes, padding):
    ids, mask = tokens(length=LENGTH), torch.ones(2, LENGTH, dtype=torch.bool)
    mask[1, :padding] = False
    full = model(ids, mask=mask)
    logits, cache = in_pieces(model, ids, sizes, mask=mask)
    assert gap(logits[mask], full[mask]) < 1e-5
    assert cache.length == LENGTH
    assert torch.equal(cache.mask, mask)


def test_decoding_after_a_padded_prompt_needs_no_further_mask(model):
    ids, mask = tokens(length=LENGTH), torch.ones(2, LENGTH, dtype=torch.bool)
    mask[0, :3] = False
    full = model(ids, mask=mask)
    cache = model.new_cache(batch=2)
    model(ids[:, :10], mask=mask[:, :10], cache=cache)
    logits = torch.cat([model(ids[:, i : i + 1], cache=cache) for i in range(10, LENGTH)], dim=1)
    assert gap(logits, full[:, 10:]) < 1e-5


def test_activations_of_a_later_chunk_are_those_of_the_full_pass(model):
    ids = tokens(length=LENGTH)
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(3)]
    names += [f"blocks.{layer}.attn.hook_pattern" for layer in range(3)]
    full, chunk = Keep(names), Keep(names)
    model(ids, tap=full)
    cache = model.new_cache(batch=2)
    model(ids[:, :10], cache=cache)
    model(ids[:, 10:], cache=cache, tap=chunk)
    for name in names:
        expected = full.kept[name]
        rows = expected[:, :, 10:] if "pattern" in name else expected[:, 10:]
        assert gap(chunk.kept[name], rows) < 1e-5, name


@pytest.mark.parametrize("back_to", [0, 1, 9, 16])
def test_after_a_rewind_the_dropped_positions_have_no_effect(model, back_to):
    ids, other = tokens(length=LENGTH), tokens(length=8, seed=9)
    _, cache = in_pieces(model, ids, [16, 8])
    cache.rewind(back_to)
    assert cache.length == back_to
    logits = model(other, cache=cache)
    full = model(torch.cat([ids[:, :back_to], other], dim=1))[:, back_to:]
    assert gap(logits, full) < 1e-5


@pytest.mark.parametrize("length", [-1, 25])
def test_a_rewind_beyond_the_cached_positions_is_refused(model, length):
    _, cache = in_pieces(model, tokens(length=LENGTH), [LENGTH])
    with pytest.raises(ValueError, match=f"cannot rewind to {length} positions: the cache holds"):
        cache.rewind(length)
    assert cache.length == LENGTH


@pytest.mark.parametrize("ends", [(9, 9), (5, 17), (20, 3)])
def test_each_row_rewinds_to_its_own_position(model, ends):
    ids, other = tokens(length=LENGTH), tokens(length=8, seed=9)
    _, cache = in_pieces(model, ids, [16, 8])
    cache.forget(torch.tensor(ends))
    assert cache.length == max(ends)
    logits = model(other, cache=cache)
    for row, end in enumerate(ends):
        full_text = torch.cat([ids[row, :end], other[row]])[None]
        assert gap(logits[row], model(full_text)[0, end:]) < 1e-5


def test_rows_can_rewind_several_times(model):
    ids, other = tokens(length=LENGTH), tokens(length=8, seed=9)
    _, cache = in_pieces(model, ids, [LENGTH])
    for ends in ((20, 15), (12, 15), (4, 9)):
        cache.forget(torch.tensor(ends))
        logits = model(other, cache=cache)
    for row, end in enumerate(ends):
        full_text = torch.cat([ids[row, :end], other[row]])[None]
        assert gap(logits[row], model(full_text)[0, end:]) < 1e-5


@pytest.mark.parametrize("ends", [(-1, 5), (5, 25)])
def test_rewinding_a_row_beyond_the_cached_positions_is_refused(model, ends):
    _, cache = in_pieces(model, tokens(length=LENGTH), [LENGTH])
    with pytest.raises(ValueError, match="the cache holds 24"):
        cache.forget(torch.tensor(ends))
    assert cache.length == LENGTH and bool(cache.mask.all())


def test_selected_rows_continue_without_changing_the_original_cache(model):
    ids, mask = tokens(batch=3, length=12), torch.ones(3, 12, dtype=torch.bool)
    mask[2, :4] = False
    more = tokens(batch=3, length=5, seed=8)
    full_text = torch.cat([ids, more], dim=1)
    full = model(full_text, mask=torch.cat([mask, torch.ones(3, 5, dtype=torch.bool)], dim=1))[
        :, 12:
    ]

    _, cache = in_pieces(model, ids, [12], mask=mask)
    chosen = cache.select([2, 0, 2])
    assert chosen.batch == 3 and chosen.length == 12
    logits = model(more[[2, 0, 2]], cache=chosen)
    assert gap(logits, full[[2, 0, 2]]) < 1e-5
    assert cache.length == 12
    assert gap(model(more, cache=cache), full) < 1e-5


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_pass_that_fails_half_way_leaves_the_cache_unchanged(model, error):
    ids = tokens(length=LENGTH)
    full = model(ids)
    cache = model.new_cache(batch=2, capacity=4)
    model(ids[:, :10], cache=cache)

    def fail(value, name):
        raise error

    with pytest.raises(error):
        model(ids[:, 12:], cache=cache, tap=Edits({"blocks.2.hook_mlp_out": fail}, model.config))
    assert cache.length == 10
    assert gap(model(ids[:, 10:], cache=cache), full[:, 10:]) < 1e-5


def test_a_full_cache_doubles_and_keeps_its_contents(model):
    cache = model.new_cache(batch=1, capacity=4)
    ids = tokens(batch=1, length=LENGTH)
    capacities = []
    for position in range(10):
        model(ids[:, position : position + 1], cache=cache)
        capacities.append(cache.capacity)
    assert capacities == [4, 4, 4, 4, 8, 8, 8, 8, 16, 16]
    assert gap(model(ids[:, 10:], cache=cache), model(ids)[:, 10:]) < 1e-5


def test_the_cache_has_the_size_that_the_config_states():
    config = Qwen3Config(
        d_model=8, n_layers=3, n_heads=4, n_kv_heads=2, d_head=6, d_mlp=8, d_vocab=10
    )
    cache = KVCache(config, capacity=7, dtype=torch.bfloat16)
    n_bytes = cache._kv.numel() * cache._kv.element_size()
    assert n_bytes == 7 * config.kv_cache_bytes_per_token("bfloat16") == 7 * 2 * 3 * 2 * 6 * 2


@pytest.mark.parametrize("length", [None, 1.0, "1"])
def test_a_cache_is_rewound_to_an_integer_only(length):
    cache = from_transformers(hf_random("dense")).new_cache()
    rewind = getattr(KVCache.rewind, "__wrapped__", KVCache.rewind)
    with pytest.raises(ValueError, match=r"length is .*: expected an integer"):
        rewind(cache, length)


def test_rows_of_other_caches_continue_as_in_their_own(model):
    ids = tokens(batch=3, length=LENGTH)
    lengths = (10, 6, 14)
    own = [model.new_cache() for _ in lengths]
    for row, n in enumerate(lengths):
        model(ids[row : row + 1, :n], cache=own[row])
    joint = model.new_cache(batch=3, capacity=4)
    joint.use_rows(2)
    for row in range(2):
        joint.widen(lengths[row])
        joint.put(row, own[row], 0)
    step = model(ids[:2, 20:21], cache=joint)
    joint.use_rows(3)
    joint.widen(lengths[2])
    joint.put(2, own[2], 0)
    assert joint.length == 14 and joint.mask.sum(dim=1).tolist() == [11, 7, 14]
    second = model(ids[:, 21:22], cache=joint)
    for row in range(2):
        assert gap(step[row], model(ids[row : row + 1, 20:21], cache=own[row])[0]) < 1e-5
    for row in range(3):
        assert gap(second[row], model(ids[row : row + 1, 21:22], cache=own[row])[0]) < 1e-5


def test_a_row_moves_and_common_padding_is_cut_off(model):
    ids = tokens(batch=2, length=LENGTH)
    mask = torch.arange(LENGTH) >= torch.tensor([0, 15])[:, None]
    cache = model.new_cache(batch=2)
    model(ids, mask=mask, cache=cache)
    taken = cache.taken(1)
    assert taken.length == 9 and bool(taken.mask.all())
    cache.move(1, 0)
    cache.use_rows(1)
    cache.trim(least=16)
    assert cache.length == LENGTH, "15 positions are common padding"
    cache.trim(least=15)
    assert cache.length == 9 and bool(cache.mask.all())
    wanted = model(torch.cat([ids[1:, 15:], ids[:1, :1]], dim=1))[:, -1:]
    for each in (cache, taken):
        assert gap(model(ids[:1, :1], cache=each), wanted) < 1e-5


def test_the_first_positions_of_a_row_can_be_put_alone(model):
    ids = tokens(batch=1, length=LENGTH)
    source, cache = model.new_cache(), model.new_cache(batch=2)
    model(ids, cache=source)
    cache.widen(7)
    cache.put(1, source, 0, 7)
    cache.vacate(0)
    logits = model(ids[:, 7:9].expand(2, 2), cache=cache)
    assert gap(logits[1:], model(ids[:, :9])[:, 7:]) < 1e-5
    assert cache.mask.sum(dim=1).tolist() == [2, 9]


def test_a_number_of_rows_that_the_cache_does_not_have_is_refused(model):
    with pytest.raises(ValueError, match="rows is 3: expected 1 to 2"):
        model.new_cache(batch=2).use_rows(3)
