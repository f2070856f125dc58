"""Ablation: a part of a run replaced by something that carries no information on the prompt.

Source: Wang et al., "Interpretability in the wild" (2022, arXiv 2211.00593), "knockouts"; Chan et
al., "Causal scrubbing" (2022), for resampling.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qwen3lab.arguments import Seed, checked
from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.hooks.taps import Keep
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric, resolved
from qwen3lab.patching.changes import INDICES, OUT, WEIGHTS, Activations
from qwen3lab.patching.passes import RESID_PRE, Reader, run_once
from qwen3lab.patching.prepared import prepared
from qwen3lab.patching.results import Ablated
from qwen3lab.patching.sites import Site
from qwen3lab.patching.sweep import Positioned, cells_of, shape_of, sweep
from qwen3lab.text.prompt import Prompt
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr

HOW = ("zero", "mean", "resample")
NOT_ABLATED = ("expert_choice", "expert_out")


@checked
def ablate(
    lab: Lab,
    prompt: Prompt,
    *,
    metric: Metric,
    site: str = "z",
    how: str = "zero",
    corpus: Sequence[Prompt] | None = None,
    by: str | None = None,
    layers: Sequence[int] | None = None,
    seed: Seed = 0,
    thinking: bool | None = None,
    progress: bool = True,
) -> Ablated:
    """The change of a metric when one part of the model writes nothing, its mean, or another value.

    Args:
        lab: the model.
        prompt: text, chat messages or token ids.
        metric: of `qwen3lab.metrics`.
        site: as in `patch`. "expert_choice" and "expert_out" are not ablated: "expert" is what an
            expert adds, and `interventions.rerouting.off` keeps it from being chosen.
        how: "zero"; "mean", over all tokens of the corpus; or "resample", at each position the
            value at a random token of the corpus, the same token for all layers and parts.
        corpus: prompts that the mean or the random tokens are taken from.
        by: as in `patch`.
        layers: as in `patch`.
        seed: of the random tokens.
        thinking: as in `Lab.record`, for the prompt.
        progress: show a progress bar if it takes long.

    Returns:
        The change of the metric, in its unit, for each layer and part. After a keyboard interrupt,
        cells that were not run are NaN.

    Raises:
        ValueError: a site, layer or metric that does not fit the model; no corpus where one is
            needed; or a pattern's mean, which does not exist for texts of unequal length.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import patching
        >>> lab = qwen3lab.load("tiny-moe")
        >>> found = patching.ablate(lab, "3+4=?", metric=patching.logit("7"), site="z")
        >>> found.axes, found.values.shape == (lab.config.n_layers, lab.config.n_heads)
        (('layer', 'head'), True)
    """
    found, axes, chosen = prepared(lab, site, by, layers, "position")
    _check_how(site, how, corpus)
    ids = lab.token_ids(prompt, thinking=thinking)
    reading = resolved(metric, lab, len(ids))
    texts = [lab.token_ids(each) for each in corpus or ()]
    ids = lab.token_ids([*ids, *reading.appended])
    reader = Reader.of(metric, reading)
    hooks = [*found.hooks(chosen), *(RESID_PRE.format(l=layer) for layer in chosen)]
    base = run_once(lab, ids, hooks, reader)
    every = tuple(range(len(ids)))
    cells = cells_of(
        lab,
        found,
        axes,
        chosen,
        own=base.activations,
        other=_replacement(lab, found, chosen, base.activations, texts, how, seed),
        where=Positioned(every, every),
    )
    raw = sweep(lab, base, cells, reader, shape=shape_of(cells), progress=progress)
    return Ablated(
        model_name=lab.name,
        method="ablation",
        site=site,
        metric=reading.label,
        unit=reading.unit,
        axes=("layer", *axes),
        layers=chosen,
        tokens=tuple(token_texts(lab.tokenizer, ids)),
        positions=every,
        values=raw - base.value,
        raw=raw,
        start=base.value,
        how=how,
    )


def _check_how(site: str, how: str, corpus: Sequence[Prompt] | None) -> None:
    if how not in HOW:
        raise ValueError(
            tr("there is no ablation {how!r}: choose from {known}", how=how, known=", ".join(HOW))
        )
    if site in NOT_ABLATED:
        raise ValueError(
            tr(
                'site {site!r} is not ablated: site "expert" is what an expert adds, and '
                "rerouting.off keeps it from being chosen",
                site=site,
            )
        )
    if site == "pattern" and how != "zero":
        raise ValueError(
            tr(
                "a pattern has no {how} over texts of unequal length: use zero, or the site z",
                how=how,
            )
        )
    if how != "zero" and not corpus:
        raise ValueError(
            tr("{how} ablation needs a corpus: give corpus=, a list of prompts", how=how)
        )


@without_grad
def _replacement(
    lab: Lab,
    site: Site,
    layers: Sequence[int],
    own: Activations,
    texts: Sequence[Sequence[int]],
    how: str,
    seed: int,
) -> Activations:
    """The activations that are put in, in the shapes of a run of the prompt."""
    n = len(own[RESID_PRE.format(l=layers[0])])
    if how == "zero":
        ends = site.hook if site.name != "expert" else WEIGHTS
        zeroed = {ends.format(l=layer) for layer in layers}
        return {
            name: torch.zeros_like(value) if name in zeroed else value
            for name, value in own.items()
        }
    if how == "resample":
        kept = _corpus(lab, site, layers, texts)
        total = sum(map(len, texts))
        drawn = torch.randint(total, (n,), generator=torch.Generator().manual_seed(seed))
        return {name: value[drawn.to(value.device)] for name, value in kept.items()}
    means = _means(lab, site, layers, texts)
    return {name: value.expand(n, *value.shape) for name, value in means.items()}


def _kept(lab: Lab, site: Site, layers: Sequence[int], ids: Sequence[int]) -> dict[str, Tensor]:
    """Activations of one text."""
    keep = Keep(site.hooks(layers))
    with lab.lock:
        rows = torch.tensor([list(ids)], device=lab.model.device)
        lab.model(rows, tap=keep, last_only=True)
    return {name: value[0] for name, value in keep.kept.items()}


def _corpus(
    lab: Lab, site: Site, layers: Sequence[int], texts: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Activations of all tokens of the texts, one text after another."""
    kept = [_kept(lab, site, layers, ids) for ids in texts]
    return {name: torch.cat([each[name] for each in kept]) for name in kept[0]}


def _means(
    lab: Lab, site: Site, layers: Sequence[int], texts: Sequence[Sequence[int]]
) -> Activations:
    """The mean over all tokens; of experts, in one slot for each expert.

    Only sums are held, whatever the number of texts.
    """
    sums: dict[str, Tensor] = {}
    for ids in texts:
        kept = _kept(lab, site, layers, ids)
        for layer in layers:
            name, value = _sum(site, layer, kept, lab.config.n_experts)
            sums[name] = sums[name] + value if name in sums else value
    n, dtype = sum(map(len, texts)), lab.model.dtype
    means = {name: (value / n).to(dtype) for name, value in sums.items()}
    if site.name in ("expert", "expert_weight"):
        for layer in layers:
            experts = torch.arange(lab.config.n_experts, device=lab.model.device)
            ones = torch.ones(len(experts), dtype=dtype, device=lab.model.device)
            means[INDICES.format(l=layer)] = experts
            means.setdefault(WEIGHTS.format(l=layer), ones)
    return means


def _sum(site: Site, layer: int, kept: Activations, n_experts: int) -> tuple[str, Tensor]:
    """The hook that a mean is put at, and the sum of its values over the tokens of a text."""
    name = (OUT if site.name == "expert" else site.hook).format(l=layer)
    value = kept[name].to(at_least_float32(kept[name].dtype))
    if site.name not in ("expert", "expert_weight"):
        return name, value.sum(dim=0)
    # An expert that a token did not choose has weight 0 there, and adds nothing.
    slots = kept[INDICES.format(l=layer)].flatten()
    if site.name == "expert":
        value = kept[WEIGHTS.format(l=layer)].to(value)[..., None] * value
    value = value.flatten(0, 1)
    return name, value.new_zeros(n_experts, *value.shape[1:]).index_add(0, slots, value)
