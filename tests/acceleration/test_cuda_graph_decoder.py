"""Captured decoding steps write the same tokens and record the same activations."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

import qwen3lab
from qwen3lab.acceleration import cuda_graph_decoder, step_capture
from qwen3lab.acceleration.cuda_graph_decoder import CudaGraphDecoder, window_size
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.hooks.taps import NO_TAP
from qwen3lab.loading import load_model
from qwen3lab.model.attention_kernels import mix_one_query
from qwen3lab.model.positions import Positions
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recorder import ATTENTION, ROUTING, Recorder
from tests.generation.test_decoding import Plain
from tests.graph_stand_in import Count, Graph, pretend
from tests.reference import small_config

PROMPTS = [[3, 1, 4, 1, 5], [9, 2]]
N = 20
FIRST_STEPS = 3
SPANS = [(0, 5 + N - 1), (3, 5 + N - 1)]


@pytest.fixture
def small_limits(monkeypatch):
    """Small limits, so that a short reply reaches every one of them."""
    monkeypatch.setattr(cuda_graph_decoder, "STEPS_BEFORE_CAPTURE", FIRST_STEPS)
    monkeypatch.setattr(cuda_graph_decoder, "MIN_WINDOW", 8)
    monkeypatch.setattr(step_capture, "MAX_BUFFERED_STEPS", 5)


@pytest.fixture
def emulated(model, small_limits, monkeypatch):
    """A decoder with `CudaGraphs`, on the CPU: only torch's own part is emulated."""
    pretend(monkeypatch)
    return CudaGraphDecoder(model)


@pytest.fixture(scope="module")
def model():
    built = Qwen3(small_config(n_layers=2, moe_layers=(1,)))
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built.requires_grad_(False)


@pytest.fixture
def graphed(model, small_limits):
    return CudaGraphDecoder(model, capture=Count())


def written(runs, *, tap=NO_TAP, n=N, prompts=PROMPTS, reply_lengths=(N, N), cache=None):
    guides = [Plain() for _ in prompts]
    for guide, steps in zip(guides, reply_lengths, strict=False):
        guide.take = lambda token_id, left=[steps]: left.append(left.pop() - 1) or left[0] == 0
    sampler = Sampler.in_a_row(Sampling.greedy(), len(prompts), 0)
    options = {"sampler": sampler, "guides": guides, "max_new_tokens": n, "cache": cache}
    steps = list(decode(runs, prompts, tap=tap, **options))
    return [step.token_ids.where(step.live, -1).tolist() for step in steps]


def recorder(model, *more):
    return Recorder(resolve_hooks([*ATTENTION, *ROUTING, "hook_unembed", *more], model.config))


def assert_same(mine, theirs):
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_captured_steps_write_and_record_the_same_as_the_plain_model(model, graphed):
    plain, captured = recorder(model), recorder(model)
    assert written(graphed, tap=captured) == written(model, tap=plain)
    assert graphed._capture.replayed == N - 1 - FIRST_STEPS, "all but prefill and first steps"
    assert graphed._capture.captured == 2, "windows of 16 and of 32 positions"
    assert captured.n_complete == plain.n_complete == 5 + N - 1
    for mine, theirs in zip(captured.cut(SPANS), plain.cut(SPANS), strict=True):
        assert_same(mine, theirs)


def test_cuda_graphs_write_and_record_the_same_as_the_plain_model(model, emulated, recwarn):
    plain, captured = recorder(model), recorder(model)
    assert written(emulated, tap=captured) == written(model, tap=plain)
    assert Graph.replayed == N - 1 - FIRST_STEPS + 2, "and one comparison per capture"
    for mine, theirs in zip(captured.cut(SPANS), plain.cut(SPANS), strict=True):
        assert_same(mine, theirs)
    assert not recwarn.list


def test_a_graph_whose_replay_gives_other_values_is_not_used(model, emulated, monkeypatch):
    monkeypatch.setattr(Graph, "factor", 1.1)
    plain, captured = recorder(model), recorder(model)
    with pytest.warns(UserWarning, match="more slowly: the replay of a CUDA graph gave"):
        mine = written(emulated, tap=captured)
    assert mine == written(model, tap=plain)
    assert Graph.replayed == 1, "the comparison alone"
    assert_same(captured.cut(SPANS)[0], plain.cut(SPANS)[0])


def test_a_row_that_ends_early_does_not_change_the_other_row(model, graphed):
    assert written(graphed, reply_lengths=(N, 8)) == written(model, reply_lengths=(N, 8))
    assert written(graphed, reply_lengths=(6, N)) == written(model, reply_lengths=(6, N))
    assert graphed._capture.replayed > N


def test_the_next_reply_replays_the_steps_of_the_first(model, graphed):
    for prompts in (PROMPTS, [[7, 7], [8, 1, 2, 6]]):
        assert written(graphed, prompts=prompts) == written(model, prompts=prompts)
    assert graphed._capture.captured == 3, "the second reply needs one more, smaller window"
    assert written(graphed, prompts=[[1, 2, 3]]) == written(model, prompts=[[1, 2, 3]])
    assert graphed._capture.captured > 2, "another batch size needs other memory"


def test_the_memory_of_a_cache_in_use_is_not_reused(graphed):
    first = graphed.new_cache(batch=2, capacity=5 + N)
    written(graphed, cache=first)
    kept = first._kv.clone()
    assert not graphed.new_cache(batch=2, capacity=5 + N).shares_memory(first)
    assert torch.equal(first._kv, kept)
    memory = first.alias()
    del first
    again = graphed.new_cache(batch=2, capacity=5 + N)
    assert again.shares_memory(memory) and again.length == 0
    assert not again._kv.any() and not again._mask.any()


def test_the_memory_of_a_large_cache_is_freed_with_the_cache(model, graphed, monkeypatch):
    written(graphed)
    assert graphed._memory is not None and graphed._steps
    monkeypatch.setattr(cuda_graph_decoder, "MAX_KEPT_CACHE_BYTES", graphed._memory.nbytes - 1)
    plain, captured = recorder(model), recorder(model)
    assert written(graphed, tap=captured) == written(model, tap=plain)
    assert graphed._memory is None and not graphed._steps
    assert_same(captured.cut(SPANS)[0], plain.cut(SPANS)[0])


def test_a_deleted_decoder_is_freed_at_once(model):
    """A reference cycle would keep its memory until the next garbage collection."""
    decoder = CudaGraphDecoder(model, capture=Count())
    cache = decoder.new_cache(batch=1, capacity=64)
    written(decoder, prompts=[[1, 2]], cache=cache, n=2)
    reference = weakref.ref(decoder)
    assert decoder._memory is not None
    del decoder
    assert reference() is None and cache.length == 3


def test_memory_made_in_inference_mode_is_not_captured(model, graphed):
    """Tensors made in inference mode cannot be written to outside of it."""
    with torch.inference_mode():
        inside = written(graphed)
    assert inside == written(graphed) == written(model) and graphed._memory is not None


def test_two_caches_used_in_turn_do_not_mix(model, graphed):
    """As when a second reply begins before the first one continues."""
    halves = {}
    for runs in (graphed, model):
        caches = [model.new_cache(batch=2, capacity=64) for _ in range(2)]
        tokens = [written(runs, cache=cache, n=N // 2) for cache in caches]
        again = [[[1], [2]], [[5], [6]]]
        tokens += [
            written(runs, cache=cache, n=N // 2, prompts=more)
            for cache, more in zip(caches, again, strict=True)
        ]
        halves[runs] = tokens
    assert halves[graphed] == halves[model]


def test_a_cache_that_grows_or_is_rewound_gives_the_same_tokens(model, graphed):
    results = {}
    for runs in (graphed, model):
        cache = model.new_cache(batch=2, capacity=12)
        first = written(runs, cache=cache)
        cache.rewind(9)
        results[runs] = (first, written(runs, cache=cache, prompts=[[4], [5]]), cache.capacity)
    assert results[graphed] == results[model]


def test_passes_with_edits_or_recorded_patterns_are_not_captured(model, graphed):
    edits = {"blocks.1.hook_mlp_out": lambda value, name: value * 0}
    edited = [written(one, tap=Edits(edits, model.config)) for one in (graphed, model)]
    assert edited[0] == edited[1] != written(model)
    maps = [recorder(model, "blocks.0.attn.hook_pattern") for _ in range(2)]
    for one, tap in zip((graphed, model), maps, strict=True):
        written(one, tap=tap)
    for mine, theirs in zip(maps[0].cut(SPANS), maps[1].cut(SPANS), strict=True):
        assert_same(mine, theirs)
    assert graphed._capture.replayed == 0


def test_recording_can_begin_and_end_in_the_middle_of_a_reply(model, graphed):
    """Buffered activations go to the recorder of their own steps, and to no other."""
    cut = {}
    for runs in (graphed, model):
        cache = model.new_cache(batch=2, capacity=64)
        written(runs, cache=cache, n=7)
        first, second = recorder(model), recorder(model)
        written(runs, cache=cache, n=7, prompts=[[1], [2]], tap=first)
        written(runs, cache=cache, n=9, prompts=[[3], [4]], tap=second)
        written(runs, cache=cache, n=4, prompts=[[3], [4]])
        cut[runs] = [tap.cut([(0, tap.n_complete)] * 2)[1] for tap in (first, second)]
    for mine, theirs in zip(cut[graphed], cut[model], strict=True):
        assert_same(mine, theirs)


@torch.no_grad()
def test_an_interrupted_step_can_be_repeated(model, graphed):
    class Interrupting(Count):
        at = 6

        def __call__(self, run, reset):
            replay = super().__call__(run, reset)

            def interrupted():
                out = replay()
                if self.replayed == self.at:
                    raise KeyboardInterrupt
                return out

            return interrupted

    graphed._capture = Interrupting()
    cache, tap = model.new_cache(batch=1, capacity=64), recorder(model)
    logits = graphed(torch.tensor([[3, 1]]), cache=cache, tap=tap)[:, -1:]
    texts, interrupts = [3, 1], 0
    while len(texts) < 2 + N:
        token = int(logits[0, -1].argmax())
        try:
            logits = graphed(torch.tensor([[token]]), cache=cache, tap=tap)
        except KeyboardInterrupt:
            interrupts += 1
            continue
        texts.append(token)
    assert interrupts == 1 and cache.length == len(texts) == tap.n_complete
    plain = recorder(model)
    model(torch.tensor([texts]), tap=plain)
    assert_same(tap.cut([(0, len(texts))])[0], plain.cut([(0, len(texts))])[0])


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_a_step_that_cannot_be_captured_runs_uncaptured(model, graphed, kind):
    tried = []

    def fail(run, reset):
        run()
        tried.append(1)
        raise kind("no room")

    graphed._capture = fail
    plain, captured = recorder(model), recorder(model)
    with pytest.warns(UserWarning, match="run without capture, more slowly: no room"):
        mine = written(graphed, tap=captured)
    assert mine == written(model, tap=plain) and len(tried) == 1
    assert_same(captured.cut(SPANS)[1], plain.cut(SPANS)[1])
    graphed._capture = Count()
    assert written(graphed, prompts=[[7, 7], [8, 1, 2, 4, 5]]) and not graphed._capture.captured
    assert written(graphed, prompts=[[1, 2]]) == written(model, prompts=[[1, 2]])
    out_of_memory = kind is torch.OutOfMemoryError
    assert bool(graphed._capture.captured) == out_of_memory, "a smaller cache may fit"


def test_a_moved_model_is_captured_again(graphed):
    moved = Qwen3(graphed.model.config)
    moved.load_state_dict(graphed.model.state_dict())
    graphed.model = moved.requires_grad_(False)
    assert written(graphed) == written(moved)
    n = graphed._capture.captured
    with torch.no_grad():
        moved.double().blocks[0].ln1.weight.mul_(1.5)
    moved.float()
    assert written(graphed) == written(moved) and graphed._capture.captured > n
    moved.double()
    assert written(graphed) == written(moved), "the cache has the new dtype"
    moved.to("meta")
    assert not graphed._is_capturable(1, NO_TAP)
    graphed.new_cache(batch=2, capacity=5 + N)
    assert graphed._memory is None, "the old memory is freed"


def test_values_agree_up_to_rounding():
    values = [torch.randn(3, 40), torch.arange(6), torch.zeros(4)]
    rounded = [values[0].bfloat16(), *values[1:]]
    assert step_capture.agree(rounded, values)
    assert not step_capture.agree([values[0], values[1].flip(0), values[2]], values)
    assert not step_capture.agree([values[0], values[1], torch.full((4,), 1e-3)], values)
    assert not step_capture.agree([values[0] * torch.nan, *values[1:]], values)
    for each in (values, rounded):
        each[0][0, 0] = torch.inf
    assert step_capture.agree(rounded, values), "an overflow agrees with an overflow"
    assert not step_capture.agree([values[0] * 1.1, *values[1:]], values)


def test_the_number_of_captured_steps_is_limited(model, graphed, monkeypatch):
    monkeypatch.setattr(cuda_graph_decoder, "MAX_CAPTURED_STEPS", 3)
    for layer, hook in ((0, "hook_q"), (1, "hook_q"), (0, "hook_k"), (0, "hook_q"), (1, "hook_k")):
        taps = [recorder(model, f"blocks.{layer}.attn.{hook}") for _ in range(2)]
        assert written(graphed, tap=taps[0]) == written(model, tap=taps[1])
        assert_same(*(tap.cut(SPANS)[0] for tap in taps))
    assert len(graphed._steps) == 3


def test_experts_whose_kernels_depend_on_the_load_are_not_captured(model, graphed, monkeypatch):
    monkeypatch.setattr(cuda_graph_decoder, "has_fixed_steps", lambda *_: False)
    assert written(graphed) == written(model)
    assert graphed._capture.captured == 0


def test_a_recorded_chat_is_captured_too(tiny_lab, monkeypatch):
    lab = qwen3lab.Lab(tiny_lab.model, tiny_lab.tokenizer)
    lab._decoder = CudaGraphDecoder(lab.model, capture=Count())
    monkeypatch.setattr(cuda_graph_decoder, "STEPS_BEFORE_CAPTURE", FIRST_STEPS)
    monkeypatch.setattr(step_capture, "MAX_BUFFERED_STEPS", 8)
    options = {"sampling": Sampling.greedy(), "record": True}
    mine, plain = (each.chat_batch(["12+7*3-4=?", "3+2=?"], **options) for each in (lab, tiny_lab))
    assert lab.decoder._capture.replayed > 10
    for one, other in zip(mine, plain, strict=True):
        assert one.token_ids == other.token_ids
        assert_same(one.recording.activations, other.recording.activations)


@pytest.mark.parametrize("record", [False, True])
def test_replies_that_join_a_captured_batch_equal_single_chats(tiny_lab, monkeypatch, record):
    lab = qwen3lab.Lab(tiny_lab.model, tiny_lab.tokenizer)
    lab._decoder = CudaGraphDecoder(lab.model, capture=Count())
    monkeypatch.setattr(cuda_graph_decoder, "STEPS_BEFORE_CAPTURE", FIRST_STEPS)
    options = {"sampling": Sampling.greedy(), "record": record}
    questions = ["12+7*3-4=?", "3+2=?", "1+1=?", "7*3*3+1=?"]
    chats = lab.chat_batch(questions, batch=2, **options)
    assert lab.decoder._capture.replayed > 10
    for question, chat in zip(questions, chats, strict=True):
        alone = tiny_lab.chat(question, **options)
        assert chat.token_ids == alone.token_ids
        if record:
            assert_same(chat.recording.activations, alone.recording.activations)


def test_two_threads_get_their_own_recordings(tiny_lab, monkeypatch):
    """Captured steps buffer activations in memory that all replies of one batch size share."""
    lab = qwen3lab.Lab(tiny_lab.model, tiny_lab.tokenizer)
    lab._decoder = CudaGraphDecoder(lab.model, capture=Count())
    monkeypatch.setattr(cuda_graph_decoder, "STEPS_BEFORE_CAPTURE", FIRST_STEPS)
    questions = 2 * ["12+7*3-4=?", "3+2=?", "5*8+1=?", "9-4=?"]
    options = {"sampling": Sampling.greedy(), "record": True, "max_new_tokens": 24}
    with ThreadPoolExecutor(4) as pool:
        chats = list(pool.map(lambda question: lab.chat(question, **options), questions))
    for question, mine in zip(questions, chats, strict=True):
        plain = tiny_lab.chat(question, **options)
        assert mine.token_ids == plain.token_ids
        assert_same(mine.recording.activations, plain.recording.activations)


@pytest.mark.parametrize(("needed", "size"), [(1, 256), (256, 256), (257, 512), (4000, 4096)])
def test_window_sizes_are_powers_of_two(needed, size):
    assert window_size(needed) == size


def test_a_model_on_the_cpu_or_streamed_is_its_own_decoder(model, saved):
    assert cuda_graph_decoder.decoder_for(model) is model
    streamed = load_model(saved["experts"], memory="300MB")
    assert cuda_graph_decoder.decoder_for(streamed) is streamed


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "bits"), [("tiny-dense", None), ("tiny-moe", None), ("tiny-dense", "int8")]
)
def test_replays_on_a_gpu_give_the_same_replies_and_recordings(name, bits, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    monkeypatch.setattr(cuda_graph_decoder, "STEPS_BEFORE_CAPTURE", FIRST_STEPS)
    lab = qwen3lab.load(name, device="cuda", dtype="float32", quantise=bits)
    assert isinstance(lab.decoder, CudaGraphDecoder)
    lab.compile()
    assert isinstance(lab.decoder, CudaGraphDecoder), "captured steps are faster than compiled ones"

    def replies():
        questions = ["12+7*3-4=?", "3+2=?"]
        return lab.chat_batch(questions, sampling=Sampling.greedy(), record=True)

    chats = [*replies(), *replies()]
    assert lab.decoder._steps, "something was captured"
    # Another batch size replaces all graphs; then a second model captures its own.
    lab.chat("7+2=?", sampling=Sampling.greedy())
    other = qwen3lab.load(name, device="cuda", dtype="float32")
    other.chat("12+7*3-4=?", sampling=Sampling.greedy())
    assert lab.decoder._steps and other.decoder._steps
    chats += replies()
    lab._decoder = lab.model
    for mine, plain in zip(chats, 3 * replies(), strict=True):
        assert mine.token_ids == plain.token_ids
        assert mine.recording.capture == plain.recording.capture
        for hook in set(plain.recording.capture):
            if not hook.endswith("expert_indices"):
                torch.testing.assert_close(
                    mine.recording[hook], plain.recording[hook], rtol=1e-3, atol=1e-3
                )


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_attention_of_one_query_is_accurate_on_a_gpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    chance = torch.Generator("cuda").manual_seed(0)
    made = {"device": "cuda", "generator": chance}
    q = torch.randn(2, 8, 1, 64, **made).to(dtype)
    k, v = (torch.randn(2, 2, 300, 64, **made).to(dtype)[:, :, :200] for _ in range(2))
    real = torch.rand(2, 200, **made) < 0.7
    unused = torch.zeros(1, 200, 1, 64, device="cuda")
    allowed = real[:, None, None]
    positions = Positions(
        real, None, padded=True, rotations=(unused, unused), attention_mask=allowed
    )
    with torch.no_grad():
        mine = mix_one_query(q, k, v, positions).double()
    doubles = (each.double() for each in (q, k, v))
    exact = F.scaled_dot_product_attention(*doubles, attn_mask=real[:, None, None], enable_gqa=True)
    limit = {torch.bfloat16: 4e-3, torch.float16: 5e-4, torch.float32: 1e-5}[dtype]
    assert float((mine - exact).norm() / exact.norm()) < limit
