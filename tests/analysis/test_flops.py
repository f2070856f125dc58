import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from qwen3lab.analysis.flops import forward_flops, reply_flops
from qwen3lab.model import experts
from qwen3lab.model.transformer import Qwen3
from tests.reference import NO_EXPERTS, small_config


def counted(model, ids, **options):
    """What torch's own counter finds, with attention as plain products, which it knows."""
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, **options)
    return counter.get_total_flops()


@pytest.mark.parametrize("changes", [NO_EXPERTS, {}, {"tied_embeddings": True}])
def test_a_decoding_step_is_what_torch_counts(changes, monkeypatch):
    # The same products, one expert after another: torch's counter does not know those of groups.
    monkeypatch.setattr(experts, "grouping_pays", lambda *_: False)
    config = small_config(**changes)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    cache = model.new_cache()
    model(torch.arange(10)[None], cache=cache)
    found = counted(model, torch.tensor([[3]]), cache=cache, last_only=True)
    assert forward_flops(config, 1, n_past=10) == found


def test_a_prompt_is_what_torch_counts_but_for_the_future_that_it_masks():
    config = small_config(**NO_EXPERTS)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    n = 12
    masked = sum(range(n))  # Keys later than their query, over all queries.
    unseen = 4 * config.n_layers * config.n_heads * config.d_head * masked
    assert forward_flops(config, n) + unseen == counted(model, torch.arange(n)[None])


def test_a_reply_is_its_prompt_and_then_step_by_step():
    config = small_config()
    steps = [forward_flops(config, 1, n_past=past) for past in range(7, 10)]
    whole = forward_flops(config, 7, n_logits=1) + sum(steps)
    assert reply_flops(config, 7, 4) == whole
    assert reply_flops(config, 7, 0) == reply_flops(config, 7, 1)
