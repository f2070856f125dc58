import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from qwen3lab.analysis.flops import forward_flops, reply_flops
from qwen3lab.model import experts
from qwen3lab.model.transformer import Qwen3
from tests.reference import NO_EXPERTS, small_config


def counted(model, ids, **options):
    """Torch's own count, with attention as matrix products because it counts these."""
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, **options)
    return counter.get_total_flops()


@pytest.mark.parametrize("changes", [NO_EXPERTS, {}, {"tied_embeddings": True}])
def test_flops_of_a_decoding_step_equal_torchs_count(changes, monkeypatch):
    # The same products, expert by expert: torch does not count grouped matrix products.
    monkeypatch.setattr(experts, "grouping_pays", lambda *_: False)
    config = small_config(**changes)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    cache = model.new_cache()
    model(torch.arange(10)[None], cache=cache)
    found = counted(model, torch.tensor([[3]]), cache=cache, last_only=True)
    assert forward_flops(config, 1, n_past=10) == found


def test_flops_of_a_prompt_equal_torchs_count_without_masked_keys():
    config = small_config(**NO_EXPERTS)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    n = 12
    masked = sum(range(n))  # Keys later than their query, over all queries.
    unseen = 4 * config.n_layers * config.n_heads * config.d_head * masked
    assert forward_flops(config, n) + unseen == counted(model, torch.arange(n)[None])


def test_flops_of_a_reply_are_those_of_its_prompt_and_decoding_steps():
    config = small_config()
    steps = [forward_flops(config, 1, n_past=past) for past in range(7, 10)]
    total = forward_flops(config, 7, n_logits=1) + sum(steps)
    assert reply_flops(config, 7, 4) == total
    assert reply_flops(config, 7, 0) == reply_flops(config, 7, 1)
