"""Compares a model with a variant of it: streamed, quantised, or in another dtype."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.specialisation import choice_overlap
from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.rendered_logits import ROWS_AT_ONCE
from qwen3lab.text.prompt import Prompt, as_prompts
from qwen3lab.translation import tr


@dataclass(frozen=True, repr=False, eq=False)
class Fidelity(EqualByValue, Displayed):
    """Differences in predictions and expert choices between a reference and a variant.

    Attributes:
        n_tokens: number of compared tokens.
        kl: mean over tokens of KL(reference || variant) of the next-token distributions, in nats.
        worst_kl: maximum over tokens of the same divergence, in nats.
        same_top: share of tokens for which both predict the same most likely next token.
        logits: root mean square difference of the logits, relative to the standard deviation of
            the reference's logits. Each token's mean logit is subtracted first, since softmax
            does not depend on it.
        experts: for each MoE layer, the share of the reference's chosen experts that the variant
            also chose; None for a dense model.
    """

    n_tokens: int
    kl: float
    worst_kl: float
    same_top: float
    logits: float
    experts: Float[Tensor, " layer"] | None

    def _summary(self) -> Summary:
        facts = {
            tr("tokens"): f"{self.n_tokens:,}",
            "KL": tr("{kl:.2g} nats, at worst {worst_kl:.2g}", kl=self.kl, worst_kl=self.worst_kl),
            tr("same top token"): f"{self.same_top:.1%}",
            tr("logits off"): tr("{logits:.2%} of their spread", logits=self.logits),
        }
        if self.experts is not None:
            facts[tr("same experts")] = f"{float(self.experts.mean()):.1%}"
        return Summary(tr("Fidelity to the reference"), facts)

    def __str__(self) -> str:
        text = tr(
            "Over {n_tokens:,} tokens: mean KL {kl:.2g} nats, maximum "
            "{worst_kl:.2g}; same most likely token {same_top:.1%}; logit difference "
            "{logits:.2%} of the standard deviation",
            n_tokens=self.n_tokens,
            kl=self.kl,
            worst_kl=self.worst_kl,
            same_top=self.same_top,
            logits=self.logits,
        )
        if self.experts is None:
            return f"{text}."
        least, mean = float(self.experts.min()), float(self.experts.mean())
        return tr(
            "{text}; same experts {mean:.1%} ({least:.1%} in the lowest layer).",
            text=text,
            mean=mean,
            least=least,
        )


@checked
def fidelity(reference: Lab, other: Lab, prompts: Sequence[Prompt]) -> Fidelity:
    """Compare a variant of a model with the reference on prompts.

    Args:
        reference: the exact model, such as a streamed one.
        other: the variant, such as a quantised one.
        prompts: to run, one at a time.

    Raises:
        ValueError: no prompts, or models of different configurations.
    """
    prompts = as_prompts(prompts)
    if not prompts:
        raise ValueError(tr("there are no prompts to compare the models on: expected at least one"))
    if reference.config != other.config:
        raise ValueError(
            tr(
                "{name} and {other} have different sizes: expected two variants of one model",
                name=reference.name,
                other=other.name,
            )
        )
    kls, tops, spread, changed, overlaps = [], [], [], [], []
    for prompt in prompts:
        exact, variant = reference.record(prompt), other.record(prompt)
        for start in range(0, len(exact), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            ours, theirs = exact.logits[rows], variant.logits[rows]
            log_p, log_q = ours.log_softmax(dim=-1), theirs.log_softmax(dim=-1)
            kls.append((log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp_min(0.0))
            tops.append(ours.argmax(dim=-1) == theirs.argmax(dim=-1))
            centred = ours - ours.mean(dim=-1, keepdim=True)
            spread.append(centred.square().mean(dim=-1))
            moved = theirs - theirs.mean(dim=-1, keepdim=True) - centred
            changed.append(moved.square().mean(dim=-1))
        if reference.config.is_moe:
            same = choice_overlap(exact.routing.experts, variant.routing.experts)
            overlaps.append(same * len(exact))
    kl, n_tokens = torch.cat(kls), sum(map(len, kls))
    return Fidelity(
        n_tokens,
        kl=float(kl.mean()),
        worst_kl=float(kl.max()),
        same_top=float(torch.cat(tops).float().mean()),
        logits=float((torch.cat(changed).mean() / torch.cat(spread).mean()).sqrt()),
        experts=torch.stack(overlaps).sum(dim=0) / n_tokens if overlaps else None,
    )
