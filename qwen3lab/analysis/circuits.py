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

from qwen3lab.arguments import Count, checked
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display import Displayed, Summary, count
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled
from qwen3lab.recording.recording import Recording
from qwen3lab.text.tokenizer import token_texts

if TYPE_CHECKING:
    import pandas

ROWS_PER_BLOCK = 512
"""Vocabulary rows in one matrix product."""


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
            "query length": (self.query_before, self.query_after),
            "key length": (self.key_before, self.key_after),
        }
        facts = {
            name: f"{float(before.mean()):.3g} before, {float(after.mean()):.3g} after the norm"
            for name, (before, after) in spans.items()
        }
        low, high = float(self.temperature.min()), float(self.temperature.max())
        facts["temperature"] = f"{low:.3g} to {high:.3g}"
        return Summary(f"QK-norm in {count(len(self.layers), 'layer')}", facts)


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
        strongest = next((f"{source} → {target}" for source, target in pairs), "none")
        return Summary("Strongest pairs of a circuit", {"first": strongest}, frame=self.to_pandas)


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
    vocabulary = torch.zeros(config.d_model, config.d_model, dtype=torch.float64)
    unembedding = _unembedding(lab)
    for embedded, at in _embedded(lab):
        vocabulary += unembedding[at : at + len(embedded)].T @ embedded
    scores = torch.zeros(config.n_layers, config.n_heads)
    for layer in range(config.n_layers):
        for head in range(config.n_heads):
            into, out = _ov(lab, layer, head)
            values = torch.linalg.eigvals(out @ vocabulary @ into)
            scores[layer, head] = values.real.sum() / values.abs().sum()
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
    right = _unembedding(lab) @ out.T
    return _strongest(lab, ((x @ into, at) for x, at in _embedded(lab)), right, n)


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
    scale, kv = _exact(block.ln1.weight), head // (config.n_heads // config.n_kv_heads)
    w_q = _part(block.attn.q.weight, head, config.d_head) * scale
    w_k = _part(block.attn.k.weight, kv, config.d_head) * scale
    keys = torch.cat([_normed(x @ w_k.T, block.attn.k_norm) for x, _ in _embedded(lab)])
    queries = ((_normed(x @ w_q.T, block.attn.q_norm), at) for x, at in _embedded(lab))
    return _strongest(lab, queries, keys * config.d_head**-0.5, n)


def _strongest(
    lab: Lab,
    left: Iterator[tuple[Float[Tensor, "row d_head"], int]],
    right: Float[Tensor, "vocab d_head"],
    n: int,
) -> Pairs:
    """The largest products, computed block by block so that no full matrix is in memory."""
    values, sources, targets = torch.zeros(0), torch.zeros(0).long(), torch.zeros(0).long()
    for rows, at in left:
        product = (rows @ right.T).float()
        best = product.flatten().topk(min(n, product.numel()))
        values = torch.cat([values, best.values])
        sources = torch.cat([sources, at + best.indices // len(right)])
        targets = torch.cat([targets, best.indices % len(right)])
        keep = values.topk(min(n, len(values))).indices
        values, sources, targets = values[keep], sources[keep], targets[keep]
    return Pairs(
        tuple(token_texts(lab.tokenizer, sources.tolist())),
        tuple(token_texts(lab.tokenizer, targets.tolist())),
        tuple(values.tolist()),
    )


def _embedded(lab: Lab) -> Iterator[tuple[Float[Tensor, "row d_model"], int]]:
    """Embeddings of the tokenizer's tokens, in blocks; each vector has length sqrt(d_model)."""
    weight = lab.model.embed.weight
    n = min(len(lab.tokenizer), len(weight))
    for start in range(0, n, ROWS_PER_BLOCK):
        rows = _exact(weight[start : min(start + ROWS_PER_BLOCK, n)])
        yield rows / (rows.square().mean(dim=-1, keepdim=True) + lab.config.eps).sqrt(), start


def _unembedding(lab: Lab) -> Float[Tensor, "vocab d_model"]:
    """Unembedding of the tokenizer's tokens, minus their mean."""
    weight = _exact(lab.model.unembedding[: len(lab.tokenizer)])
    return weight - weight.mean(dim=0)


def _ov(
    lab: Lab, layer: int, head: int
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """W_V of a head's key/value head and its W_O, with the weights of the norms around them."""
    config, block = lab.config, _block(lab, layer)
    kv = head // (config.n_heads // config.n_kv_heads)
    w_v = _part(block.attn.v.weight, kv, config.d_head) * _exact(block.ln1.weight)
    w_o = _part(block.attn.o.weight.T, head, config.d_head) * _exact(lab.model.ln_final.weight)
    return w_v.T, w_o


def _part(weight: Float[Tensor, "out d_model"], head: int, d_head: int) -> Tensor:
    """The rows of one head."""
    return _exact(weight[head * d_head : (head + 1) * d_head])


def _exact(weight: Tensor) -> Tensor:
    return weight.detach().double().cpu()


def _block(lab: Lab, layer: int) -> Any:
    """A block, as `Any`: torch's type of a module list does not have the block's attributes."""
    return lab.model.blocks[layer]


def _normed(x: Float[Tensor, "row d_head"], norm: Any) -> Float[Tensor, "row d_head"]:
    size = (x.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
    return x / size * _exact(norm.weight)


def _check(lab: Lab, layer: int, head: int) -> None:
    config = lab.config
    if not 0 <= layer < config.n_layers or not 0 <= head < config.n_heads:
        raise ValueError(
            f"layer {layer}, head {head} does not exist: the model has layers 0 to "
            f"{config.n_layers - 1} with heads 0 to {config.n_heads - 1}"
        )
