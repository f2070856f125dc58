"""Attention profiles, compared with explicit sums and with TransformerLens, for any block size."""

import math
import sys
from concurrent.futures import CancelledError

import pytest
import torch

from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.analysis.attention.rollout import rollout
from qwen3lab.analysis.attention.statistics import key_mass, likeness, targets
from qwen3lab.analysis.sentences import sentence_attention
from qwen3lab.errors import RecordingError
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking import Piece
from tests.reference import small_config

CONFIG = small_config(n_layers=2, moe_layers=())
IDS = [5, 6, 7, 5, 6, 9, 5, 6]


def causal(n, *, seed=0, n_heads=4):
    scores = torch.randn(n_heads, n, n, generator=torch.Generator().manual_seed(seed)) * 2
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)


def recorded(*patterns, ids=None, tokens=None):
    """A recording with one layer for each pattern."""
    n = patterns[0].shape[-1]
    ids = torch.arange(n) if ids is None else torch.tensor(ids)
    config = small_config(n_layers=len(patterns), moe_layers=())
    kept = {f"blocks.{layer}.attn.hook_pattern": p for layer, p in enumerate(patterns)}
    return Recording(ids, tokens or ["t"] * n, config, "made", kept)


@pytest.fixture(scope="module")
def random():
    return recorded(causal(8), causal(8, seed=1), ids=IDS)


def test_profile_scores_equal_sums_over_the_pattern(random):
    found = head_profile(random)
    pattern = random.attention.pattern(1)[2]
    n = len(IDS)
    pairs = [(q, k, float(pattern[q, k])) for q in range(n) for k in range(q + 1)]
    by_hand = {
        "distance": sum(w * (q - k) for q, k, w in pairs),
        "itself": sum(w for q, k, w in pairs if q == k),
        "previous": sum(w for q, k, w in pairs if k == q - 1),
        "duplicate": sum(w for q, k, w in pairs if k < q and IDS[k] == IDS[q]),
        "induction": sum(w for q, k, w in pairs if k > 0 and IDS[k - 1] == IDS[q]),
        "first": sum(w for q, k, w in pairs if k == 0),
        "entropy": -sum(w * math.log(w) for _, _, w in pairs),
    }
    for name, total in by_hand.items():
        assert float(getattr(found, name)[1, 2]) == pytest.approx(total / n, abs=1e-5), name
    rows = [-sum(w * math.log(w) for q, _, w in pairs if q == row) for row in range(1, n)]
    relative = sum(e / math.log(row + 2) for row, e in enumerate(rows)) / (n - 1)
    assert float(found.relative_entropy[1, 2]) == pytest.approx(relative, abs=1e-5)


def test_the_block_size_does_not_change_a_profile(random):
    full, small = head_profile(random), head_profile(random, block=3)
    for name in full.__dataclass_fields__:
        if name not in ("layers", "uniform"):
            torch.testing.assert_close(getattr(full, name), getattr(small, name))
    assert full.uniform == pytest.approx(small.uniform)
    torch.testing.assert_close(key_mass(random), key_mass(random, block=3))
    torch.testing.assert_close(rollout(random, [2, 7]), rollout(random, [2, 7], block=3))
    torch.testing.assert_close(likeness(random), likeness(random, block=3))


def test_a_head_profile_reports_progress_and_can_be_cancelled(random):
    reported, n = [], len(random)
    head_profile(random, block=n // 2 + 1, on_block=lambda done, of: reported.append((done, of)))
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)], "two blocks in each of two layers"

    def end(done, of):
        raise CancelledError

    with pytest.raises(CancelledError):
        head_profile(random, on_block=end)


@pytest.mark.peer
def test_previous_duplicate_and_induction_shares_equal_those_of_transformerlens(random):
    detector = pytest.importorskip("transformer_lens.head_detector")
    ids, found = torch.tensor([IDS]), head_profile(random)
    for name, kind in (
        ("previous", "previous_token_head"),
        ("duplicate", "duplicate_token_head"),
        ("induction", "induction_head"),
    ):
        detection = getattr(detector, f"get_{kind}_detection_pattern")(ids)
        for layer in (0, 1):
            for head in range(4):
                theirs = detector.compute_head_attention_similarity_score(
                    random.attention[layer, head],
                    detection_pattern=detection,
                    exclude_bos=False,
                    exclude_current_token=False,
                    error_measure="mul",
                )
                assert float(getattr(found, name)[layer, head]) == pytest.approx(theirs, abs=1e-5)


def test_targets_are_earlier_occurrences_and_the_tokens_after_them():
    duplicate, after = targets(torch.tensor(IDS), 5, 3)
    assert duplicate.nonzero().tolist() == [[1, 0], [1, 3], [2, 1], [2, 4]]
    assert after.nonzero().tolist() == [[1, 1], [1, 4], [2, 2], [2, 5]]


def test_uniform_shares_equal_those_of_a_head_with_uniform_attention():
    even = torch.ones(8, 8).tril()
    even = even / even.sum(dim=-1, keepdim=True)
    found = head_profile(recorded(torch.stack([even] * 4), ids=IDS))
    for name, share in found.uniform.items():
        assert float(getattr(found, name)[0, 0]) == pytest.approx(share, abs=1e-6), name


def planted(n=12):
    """Heads that attend to the first token, the previous token, their own token, and uniformly."""
    eye = torch.eye(n)
    first = torch.zeros(n, n)
    first[:, 0] = 1
    before = torch.roll(eye, -1, dims=1).tril()
    before[0, 0] = 1
    even = torch.ones(n, n).tril()
    return torch.stack([first, before, eye, even / even.sum(dim=-1, keepdim=True)])


def test_planted_heads_get_their_kind_and_excess():
    table = head_profile(recorded(planted())).to_pandas()
    assert list(table.kind) == ["sink", "previous token", "itself", "broad"]
    assert list(table.sure) == ["clear", "clear", "clear", "unsure"]
    assert table.relative_entropy[3] == pytest.approx(1, abs=1e-5)
    assert table.above_uniform[0] == pytest.approx(1)
    # The first token has no previous token; uniform attention gives the others 1/2, 1/3 ...
    uniform = sum(1 / keys for keys in range(2, 13)) / 12
    assert table.above_uniform[1] == pytest.approx((11 / 12 - uniform) / (1 - uniform))


def test_repeated_sequences_show_induction_and_duplicate_heads():
    n = 16
    ids = [*range(8), *range(8)]
    induction, duplicate = torch.eye(n), torch.eye(n)
    for query in range(8, n):
        induction[query], duplicate[query] = 0, 0
        induction[query, query - 7], duplicate[query, query - 8] = 1, 1
    pattern = torch.stack([induction, duplicate, induction, duplicate])
    found = head_profile(recorded(pattern, ids=ids))
    assert found.induction[0].tolist() == [0.5, 0, 0.5, 0]
    assert found.duplicate[0].tolist() == [0, 0.5, 0, 0.5]


def test_the_most_attended_token_is_found_at_any_position():
    n = 20
    sink = torch.eye(n)
    for query in range(3, n):
        sink[query] = 0
        sink[query, 3] = 1
    tokens = ["<|im_start|>", *["a"] * 2, "<think>", *["b"] * 16]
    found = head_profile(recorded(torch.stack([sink] * 4), tokens=tokens))
    assert found.strongest[0].tolist() == [3] * 4
    assert found.drawn[0].tolist() == [1] * 4
    assert float(found.special[0, 0]) == pytest.approx((17 + 1) / n)


def test_the_mass_of_a_key_is_the_mean_over_the_queries_that_can_see_it(random):
    pattern = random.attention.pattern(0)[1]
    expected = [float(pattern[key:, key].mean()) for key in range(8)]
    assert key_mass(random)[0, 1].tolist() == pytest.approx(expected, abs=1e-6)


def test_rollout_is_the_product_of_halved_patterns(random):
    eye = torch.eye(8)
    layers = [0.5 * random.attention.pattern(layer).mean(dim=0) + 0.5 * eye for layer in (0, 1)]
    torch.testing.assert_close(rollout(random, range(8)), layers[1] @ layers[0])
    torch.testing.assert_close(rollout(random, [-1])[0], (layers[1] @ layers[0])[-1])
    with pytest.raises(ValueError, match="expected positions from 0 to 7"):
        rollout(random, [8])


def test_head_similarity_is_the_cosine_of_two_patterns(random):
    a, b = (random.attention.pattern(0)[head].flatten() for head in (1, 3))
    expected = torch.nn.functional.cosine_similarity(a, b, dim=0)
    torch.testing.assert_close(likeness(random)[0, 1, 3], expected)
    torch.testing.assert_close(likeness(random)[0].diagonal(), torch.ones(4))


def test_sentence_attention_is_the_mean_over_pairs_of_tokens(random):
    parts = [Piece(1, 3, 2, "a"), Piece(3, 6, 5, "b"), Piece(6, 8, 7, "c")]
    found = sentence_attention(random, parts, block=3)
    pattern = random.attention.pattern(1)[0]
    torch.testing.assert_close(found.attention[1, 0, 2, 1], pattern[6:8, 3:6].mean())
    assert float(found.attention[1, 0, 0, 2]) == 0
    got = found.received(apart=1)
    both = (pattern[3:6, 1:3].mean() + pattern[6:8, 1:3].mean()) / 2
    torch.testing.assert_close(got[1, 0, 0], both)
    assert bool(got[..., -1].isnan().all())


def test_receiver_heads_attend_to_few_earlier_sentences():
    n = 24
    narrow, even = torch.eye(n), torch.ones(n, n).tril()
    for query in range(8, n):
        narrow[query] = 0
        narrow[query, 3] = 1
    even = even / even.sum(dim=-1, keepdim=True)
    parts = [Piece(i, i + 1, i + 1, "x") for i in range(n)]
    recording = recorded(torch.stack([narrow, even, narrow, even]))
    scores = sentence_attention(recording, parts).receiver_scores()[0]
    assert float(scores[0]) > 5 > float(scores[1])
    with pytest.raises(ValueError, match="0 sentences have a sentence at least 4 later"):
        sentence_attention(recording, parts[:4]).receiver_scores()
    with pytest.raises(ValueError, match="there is no sentence"):
        sentence_attention(recording, [])


def test_recordings_without_attention_or_with_one_token_are_refused():
    bare = Recording(torch.arange(3), ["t"] * 3, CONFIG, "bare", {})
    with pytest.raises(RecordingError, match="was not recorded"):
        head_profile(bare)
    with pytest.raises(ValueError, match="1 token: expected two or more"):
        head_profile(recorded(causal(1)))


PEAK = """
import resource, sys, torch
from qwen3lab.analysis.attention import head_profile, key_mass, rollout
from qwen3lab.recording import Recording
from tests.reference import small_config
config = small_config(n_layers=1, moe_layers=())
chance = torch.Generator().manual_seed(0)
for n in map(int, sys.argv[1:]):
    kept = {
        "blocks.0.attn.hook_rot_q": torch.randn(n, 4, 16, generator=chance),
        "blocks.0.attn.hook_rot_k": torch.randn(n, 2, 16, generator=chance),
    }
    recording = Recording(torch.arange(n) % 40, ["t"] * n, config, "long", kept)
    head_profile(recording, block=32)
    key_mass(recording, block=32)
    rollout(recording, [n - 1], block=32)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_of_a_profile_is_far_below_one_full_pattern():
    import subprocess

    command = [sys.executable, "-c", PEAK, "64", "8192"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    short, long = (int(kib) / 1024 for kib in out.stdout.split())
    square = 4 * 4 * 8192**2 / 2**20  # MiB of one layer's pattern
    assert long - short < square / 5
