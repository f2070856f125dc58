"""Circuits from a head's weights alone: OV and QK circuits, copying scores, QK-norm.

Source: Elhage et al., "A mathematical framework for transformer circuits" (2021). As there, the
weight of the norm before attention is folded in, and the scale of each token is omitted. The mean
is subtracted from the unembedding, because adding a constant to all logits changes no probability.
No vocabulary-by-vocabulary matrix is built.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.largest_products import PROGRESS_DELAY_SECONDS, largest_products
from qwen3lab.analysis.workers import run_in_workers
from qwen3lab.arguments import Count, checked
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display import Displayed, Summary
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled
from qwen3lab.recording.recording import Recording
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas

ROWS_PER_BLOCK = 2048
"""Rows of the vocabulary that are in float64 at once."""


@dataclass(frozen=True, repr=False, eq=False)
class NormPart(EqualByValue, Displayed):
    """Effect of QK-norm on queries and keys, means over the tokens of a recording.

    Attributes:
        layers: of the model.
        query_before: Euclidean length of a head's query before the norm.
        query_after: its length after the norm.
        key_before: length of the key of the head's key/value head before the norm.
        key_after: its length after the norm.
        temperature: an attention score is the cosine of query and key divided by it.
    """

    layers: tuple[int, ...]
    query_before: Float[Tensor, "layer head"]
    query_after: Float[Tensor, "layer head"]
    key_before: Float[Tensor, "layer head"]
    key_after: Float[Tensor, "layer head"]
    temperature: Float[Tensor, "layer head"]

    def _summary(self) -> Summary:
        spans = {
            tr("query length"): (self.query_before, self.query_after),
            tr("key length"): (self.key_before, self.key_after),
        }
        facts = {
            name: tr(
                "{before:.3g} before, {after:.3g} after the norm",
                before=float(before.mean()),
                after=float(after.mean()),
            )
            for name, (before, after) in spans.items()
        }
        low, high = float(self.temperature.min()), float(self.temperature.max())
        facts[tr("temperature")] = tr("{low:.3g} to {high:.3g}", low=low, high=high)
        return Summary(
            tr(
                "QK-norm in {counted}",
                counted=tr_count("{n:,} layer", "{n:,} layers", len(self.layers)),
            ),
            facts,
        )


@dataclass(frozen=True, repr=False)
class Pairs(Displayed):
    """The strongest pairs of tokens in a circuit.

    Attributes:
        source: the first token of each pair, such as the attended token.
        target: the second token, such as the one whose logit rises.
        value: entry of the circuit, largest first.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    value: tuple[float, ...]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table: source, target, value."""
        import pandas

        return pandas.DataFrame(vars(self))

    def _summary(self) -> Summary:
        pairs = zip(self.source, self.target, strict=True)
        strongest = next((f"{source} → {target}" for source, target in pairs), tr("none"))
        return Summary(
            tr("Strongest pairs of a circuit"), {tr("first"): strongest}, frame=self.to_pandas
        )


NEEDED = ("blocks.*.attn.hook_q", "blocks.*.attn.hook_k")
"""Hooks that `norm_part` needs besides the default ones."""


@checked
def norm_part(recording: Recording) -> NormPart:
    """Lengths of queries and keys before and after QK-norm, and each head's temperature.

    Rotation keeps lengths except for YaRN's factor (`config.rope.scale`), so the lengths after
    rotation give those after the norm. The temperature is `sqrt(d_head)` over the product of the
    mean lengths of query and key after rotation.

    Raises:
        RecordingError: queries and keys before the norm were not recorded; record them with
            `capture=circuits.NEEDED`.
    """
    config = recording.config
    group = config.n_heads // config.n_kv_heads
    by_hook: dict[str, list[Tensor]] = {"q": [], "rot_q": [], "k": [], "rot_k": []}
    for layer in range(config.n_layers):
        for name, lengths in by_hook.items():
            activation = recording[f"blocks.{layer}.attn.hook_{name}"]
            length = activation.float().norm(dim=-1).mean(dim=0)
            lengths.append(length.repeat_interleave(group) if name.endswith("k") else length)
    q, rot_q, k, rot_k = (torch.stack(lengths) for lengths in by_hook.values())
    temperature = config.d_head**0.5 / (rot_q * rot_k)
    scale = config.rope.scale
    return NormPart(tuple(range(config.n_layers)), q, rot_q / scale, k, rot_k / scale, temperature)


@checked
@without_grad
def copying_scores(lab: Lab) -> Float[LabelledTensor, "layer head"]:
    """Copying score of each head, -1 to 1: does attending to a token raise that token's logit?

    The sum of the eigenvalues of embedding, W_V, W_O and unembedding (the full OV circuit) over
    the sum of their absolute values: 1 if all are positive. They are computed from a matrix of
    d_head by d_head, because AB and BA have the same non-zero eigenvalues.
    """
    config = lab.config
    vocabulary = _through_vocabulary(lab)
    scores = torch.zeros(config.n_layers, config.n_heads)
    layers = tqdm(
        range(config.n_layers),
        unit=tr("layer"),
        desc=tr("copying scores"),
        delay=PROGRESS_DELAY_SECONDS,
        leave=False,
    )
    for layer in layers:
        scores[layer] = _copying(*_ov_of_layer(lab, layer), vocabulary)
    layers = tuple(range(config.n_layers))
    labels = Labels("copying score", ("layer", "head"), layers, model_name=lab.name)
    return labelled(scores, labels)


@checked
@without_grad
def ov_pairs(lab: Lab, layer: int, head: int, *, n: Count = 20) -> Pairs:
    """The largest entries of the OV circuit: the logits that attending to a token raises most.

    Args:
        lab: the model.
        layer: its number.
        head: its number.
        n: number of pairs.

    Raises:
        ValueError: no such layer or head.
    """
    _check(lab, layer, head)
    into, out = _ov(lab, layer, head)
    left = torch.cat([x @ into for x in _embedded(lab)])
    right = torch.cat([x @ out.T for x in _unembedded(lab)])
    return _strongest(lab, left, right, n)


@checked
@without_grad
def qk_pairs(lab: Lab, layer: int, head: int, *, n: Count = 20) -> Pairs:
    """The largest entries of the QK circuit: token pairs with the highest attention score.

    Queries and keys pass through QK-norm and are not rotated: the score of two tokens at the same
    position.

    Args:
        lab: the model.
        layer: its number.
        head: its number.
        n: number of pairs; the source is the query's token.

    Raises:
        ValueError: no such layer or head.
    """
    _check(lab, layer, head)
    config, block = lab.config, _block(lab, layer)
    scale, kv = _exact(lab, block.ln1.weight), head // (config.n_heads // config.n_kv_heads)
    w_q = _part(_exact(lab, block.attn.q.weight), head, config.d_head) * scale
    w_k = _part(_exact(lab, block.attn.k.weight), kv, config.d_head) * scale
    q_norm, k_norm = (_exact(lab, norm.weight) for norm in (block.attn.q_norm, block.attn.k_norm))
    queries = torch.cat([_normed(x @ w_q.T, q_norm, config.eps) for x in _embedded(lab)])
    keys = torch.cat([_normed(x @ w_k.T, k_norm, config.eps) for x in _embedded(lab)])
    return _strongest(lab, queries, keys * config.d_head**-0.5, n)


def _strongest(
    lab: Lab, left: Float[Tensor, "row d_head"], right: Float[Tensor, "vocab d_head"], n: int
) -> Pairs:
    found = largest_products(left, right, n, description=tr("pairs"))
    return Pairs(
        tuple(token_texts(lab.tokenizer, found.rows.tolist())),
        tuple(token_texts(lab.tokenizer, found.columns.tolist())),
        tuple(found.values.float().tolist()),
    )


def _through_vocabulary(lab: Lab) -> Float[Tensor, "d_model d_model"]:
    """Unembedding times embedding, summed over the vocabulary.

    Each block's sum is in float32 where that is exact enough, and the blocks are added in float64.
    """
    total = torch.zeros(lab.config.d_model, lab.config.d_model, dtype=torch.float64)
    total = total.to(_device(lab))
    dtype = torch.float32 if _has_full_float32(lab) else torch.float64
    for out, into in zip(_unembedded(lab), _embedded(lab), strict=True):
        total += out.to(dtype).T @ into.to(dtype)
    return total


def _has_full_float32(lab: Lab) -> bool:
    """True if float32 products keep all of its digits: on a CPU, with torch's own settings."""
    on_cpu = _device(lab).type == "cpu"
    return on_cpu and torch.get_float32_matmul_precision() == "highest"


def _copying(
    into: Float[Tensor, "kv d_model d_head"],
    out: Float[Tensor, "head d_head d_model"],
    vocabulary: Float[Tensor, "d_model d_model"],
) -> Float[Tensor, " head"]:
    """The copying scores of the heads of one layer."""
    through = (vocabulary @ into).repeat_interleave(len(out) // len(into), dim=0)
    circuits = (out @ through).cpu()
    scores = torch.zeros(len(out))

    def score(head: int) -> None:
        values = torch.linalg.eigvals(circuits[head])
        scores[head] = values.real.sum() / values.abs().sum()

    run_in_workers(score, range(len(out)), circuits.device)
    return scores


def _embedded(lab: Lab) -> Iterator[Float[Tensor, "row d_model"]]:
    """Embeddings of the tokenizer's tokens, in blocks; each vector has length sqrt(d_model)."""
    for rows in _vocabulary_rows(lab, lab.model.embed.weight):
        yield rows / (rows.square().mean(dim=-1, keepdim=True) + lab.config.eps).sqrt()


def _unembedded(lab: Lab) -> Iterator[Float[Tensor, "row d_model"]]:
    """Unembedding of the tokenizer's tokens, minus their mean, in the same blocks."""
    unembedding = lab.model.unembedding
    total = sum(rows.sum(dim=0) for rows in _vocabulary_rows(lab, unembedding))
    mean = total / _n_tokens(lab)
    for rows in _vocabulary_rows(lab, unembedding):
        yield rows - mean


def _vocabulary_rows(
    lab: Lab, weight: Float[Tensor, "vocab d_model"]
) -> Iterator[Float[Tensor, "row d_model"]]:
    for rows in weight[: _n_tokens(lab)].split(ROWS_PER_BLOCK):
        yield _exact(lab, rows)


def _n_tokens(lab: Lab) -> int:
    return min(len(lab.tokenizer), lab.config.d_vocab)


def _ov(
    lab: Lab, layer: int, head: int
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """W_V of a head's key/value head and its W_O, with the weights of the norms around them."""
    into, out = _ov_of_layer(lab, layer)
    return into[head // (len(out) // len(into))], out[head]


def _ov_of_layer(
    lab: Lab, layer: int
) -> tuple[Float[Tensor, "kv d_model d_head"], Float[Tensor, "head d_head d_model"]]:
    """W_V of each key/value head and W_O of each head of a layer, as in `_ov`."""
    block, d_head = _block(lab, layer), lab.config.d_head
    w_v = _exact(lab, block.attn.v.weight) * _exact(lab, block.ln1.weight)
    w_o = _exact(lab, block.attn.o.weight).T * _exact(lab, lab.model.ln_final.weight)
    return w_v.unflatten(0, (-1, d_head)).mT, w_o.unflatten(0, (-1, d_head))


def _part(weight: Float[Tensor, "out d_model"], head: int, d_head: int) -> Tensor:
    """The rows of one head."""
    return weight[head * d_head : (head + 1) * d_head]


def _exact(lab: Lab, weight: Tensor) -> Tensor:
    return weight.detach().to(_device(lab)).double()


def _device(lab: Lab) -> torch.device:
    """The model's GPU if it has float64, else the CPU."""
    device = lab.model.embed.weight.device
    return device if device.type == "cuda" else torch.device("cpu")


def _block(lab: Lab, layer: int) -> Any:
    """A block, as `Any`: torch's type of a module list does not have the block's attributes."""
    return lab.model.blocks[layer]


def _normed(
    x: Float[Tensor, "row d_head"], weight: Float[Tensor, " d_head"], eps: float
) -> Float[Tensor, "row d_head"]:
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def _check(lab: Lab, layer: int, head: int) -> None:
    config = lab.config
    if not 0 <= layer < config.n_layers or not 0 <= head < config.n_heads:
        raise ValueError(
            tr(
                "layer {layer}, head {head} does not exist: the model has layers 0 to "
                "{last} with heads 0 to {last_head}",
                layer=layer,
                head=head,
                last=config.n_layers - 1,
                last_head=config.n_heads - 1,
            )
        )
