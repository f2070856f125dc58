"""Path patching equals two runs by hand: one that freezes all other parts, and one that reads."""

import pytest

from qwen3lab import patching
from tests.patching.planted import CLEAN, CORRUPT, read_with, small_lab

METRIC = patching.logit_difference(20, 7)
N = len(CLEAN)


@pytest.fixture(scope="module")
def moe(tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=True)


@pytest.fixture(scope="module")
def two_layers(tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=True, n_layers=2, moe_layers=(0, 1))


def swept(lab, sender, to, **options):
    return patching.path_patching(
        lab,
        clean=CLEAN,
        corrupt=CORRUPT,
        metric=METRIC,
        sender=sender,
        to=to,
        progress=False,
        **options,
    )


def constant(value):
    return lambda _, name: value[None]


def frozen(lab, base, layer, *, sends):
    """Edits that keep what later parts than a sender write as in a run; `sends` is its own hook."""
    edits = {}
    for later in range(layer, lab.config.n_layers):
        for hook in (f"blocks.{later}.attn.hook_z", f"blocks.{later}.hook_mlp_out"):
            edits[hook] = constant(base[hook])
    return edits | sends


def sent_by_head(theirs, base, layer, head):
    """The sender's head as in the other run; the layer's other heads as they are."""
    hook = f"blocks.{layer}.attn.hook_z"
    value = base[hook].clone()
    value[:, head] = theirs[hook][:, head]
    return {hook: constant(value)}


def sent_by_mlp(theirs, layer):
    hook = f"blocks.{layer}.hook_mlp_out"
    return {hook: constant(theirs[hook])}


def sent_by_expert(theirs, base, layer, expert):
    hook = f"blocks.{layer}.hook_mlp_out"
    value = base[hook].clone()
    for recording, sign in ((theirs, 1), (base, -1)):
        name = f"blocks.{layer}.mlp"
        for token in range(N):
            chosen = recording[f"{name}.hook_expert_indices"][token].tolist()
            if expert in chosen:
                slot = chosen.index(expert)
                weight = recording[f"{name}.hook_expert_weights"][token, slot]
                value[token] += sign * weight * recording[f"{name}.hook_expert_out"][token, slot]
    return {hook: constant(value)}


def path_by_hand(lab, edits, layer, reader, part):
    """The metric of the second run: one reader has what it made of the first, frozen run."""
    first = lab.record(CORRUPT, capture="all", edits=edits)
    hook = {"q": "attn.hook_q", "k": "attn.hook_k", "v": "attn.hook_v"}[reader]
    name = f"blocks.{layer}.{hook}"

    def edit(value, _):
        value[0, :, part] = first[name][:, part]
        return value

    return read_with(lab, CORRUPT, {name: edit}, METRIC)


@pytest.mark.parametrize("reader", ["q", "k", "v"])
def test_a_head_is_read_by_each_later_head(moe, reader):
    theirs, base = (moe.record(ids, capture="all") for ids in (CLEAN, CORRUPT))
    found = swept(moe, patching.head(0, 1), reader)
    assert found.layers == (1, 2) and found.values.shape == (2, 4 if reader == "q" else 2)
    edits = frozen(moe, base, 0, sends=sent_by_head(theirs, base, 0, 1))
    for row, layer in enumerate((1, 2)):
        for part in range(found.values.shape[1]):
            expected = path_by_hand(moe, edits, layer, reader, part)
            assert float(found.raw[row, part]) == pytest.approx(expected, abs=3e-5)
    assert float((found.raw - found.corrupt).abs().max()) > 1e-3


@pytest.mark.parametrize("reader", ["q", "v"])
def test_an_expert_is_read_by_each_head_of_the_second_layer(two_layers, reader):
    lab = two_layers
    theirs, base = (lab.record(ids, capture="all") for ids in (CLEAN, CORRUPT))
    # Queries of the last layer matter at the last token alone.
    expert = int(theirs["blocks.0.mlp.hook_expert_indices"][-1, 0])
    found = swept(lab, patching.expert(0, expert), reader)
    edits = frozen(lab, base, 0, sends=sent_by_expert(theirs, base, 0, expert))
    for part in range(found.values.shape[1]):
        expected = path_by_hand(lab, edits, 1, reader, part)
        assert float(found.raw[0, part]) == pytest.approx(expected, abs=3e-5)
    assert float((found.raw - found.corrupt).abs().max()) > 1e-3


def test_an_mlp_is_read_by_each_later_layer_of_experts(moe):
    theirs, base = (moe.record(ids, capture="all") for ids in (CLEAN, CORRUPT))
    found = swept(moe, patching.mlp(0), "mlp")
    assert found.layers == (1, 2) and found.axes == ("layer",)
    for row, layer in enumerate((1, 2)):
        # The reader's own output is not frozen in the first run.
        edits = frozen(moe, base, 1, sends=sent_by_mlp(theirs, 0))
        del edits[f"blocks.{layer}.hook_mlp_out"]
        name = f"blocks.{layer}.hook_mlp_out"
        first = moe.record(CORRUPT, capture=[name], edits=edits)
        expected = read_with(moe, CORRUPT, {name: constant(first[name])}, METRIC)
        assert float(found.raw[row]) == pytest.approx(expected, abs=3e-5)


def test_a_head_is_read_by_the_mlp_of_its_own_layer(moe):
    theirs, base = (moe.record(ids, capture="all") for ids in (CLEAN, CORRUPT))
    found = swept(moe, patching.head(1, 2), "mlp")
    name = "blocks.1.hook_mlp_out"
    first = moe.record(CORRUPT, capture=[name], edits=sent_by_head(theirs, base, 1, 2))
    expected = read_with(moe, CORRUPT, {name: constant(first[name])}, METRIC)
    assert found.layers == (1, 2)
    assert float(found.raw[0]) == pytest.approx(expected, abs=3e-5)


def test_the_direct_path_to_the_logits_freezes_everything_after_the_sender(moe):
    theirs, base = (moe.record(ids, capture="all") for ids in (CLEAN, CORRUPT))
    found = swept(moe, patching.head(0, 1), "logits")
    edits = frozen(moe, base, 0, sends=sent_by_head(theirs, base, 0, 1))
    assert found.raw.shape == (1,)
    assert float(found.raw[0]) == pytest.approx(read_with(moe, CORRUPT, edits, METRIC), abs=3e-5)


def test_paths_of_the_last_layer_to_the_logits_are_all_there_is(moe):
    path = swept(moe, patching.expert(-1, 3), "logits")
    whole = patching.patch(
        moe, clean=CLEAN, corrupt=CORRUPT, metric=METRIC, site="expert", progress=False
    )
    assert float(path.raw[0]) == pytest.approx(float(whole.raw[-1, 3]), abs=2e-5)


def test_noise_puts_the_corrupt_run_into_the_clean_one(moe):
    theirs, base = (moe.record(ids, capture="all") for ids in (CORRUPT, CLEAN))
    found = swept(moe, patching.mlp(0), "logits", direction="noise")
    edits = frozen(moe, base, 1, sends=sent_by_mlp(theirs, 0))
    assert float(found.raw[0]) == pytest.approx(read_with(moe, CLEAN, edits, METRIC), abs=3e-5)


@pytest.mark.parametrize(
    ("sender", "to", "message"),
    [
        (patching.head(0, 4), "q", "head 4 does not exist: layer 0 has heads 0 to 3"),
        (patching.head(3, 0), "q", "layer 3 does not exist: small has layers 0 to 2"),
        (patching.expert(0, 1), "q", "layer 0 of small has no experts"),
        (patching.expert(1, 8), "q", "expert 8 does not exist: layer 1 has experts 0 to 7"),
        (patching.mlp(2), "mlp", "nothing reads mlp 2 by 'mlp': layer 2 is the last one"),
        (patching.mlp(1), "z", "there is no reader 'z': choose from q, k, v, mlp, logits"),
        ("head 1", "q", "sender is 'head 1': expected Sender"),
    ],
)
def test_what_does_not_exist_is_refused(moe, sender, to, message):
    with pytest.raises(ValueError, match=message):
        swept(moe, sender, to)
