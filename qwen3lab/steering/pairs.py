"""Steering vectors from pairs of prompts, and from prompts with thinking on and off."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.display import count
from qwen3lab.lab import Lab
from qwen3lab.steering.addition import RESID_POST
from qwen3lab.steering.states import Layers, hooks_of, made_vector, prompt_states
from qwen3lab.steering.vector import Vector
from qwen3lab.text.chat_template import Message, as_messages
from qwen3lab.text.prompt import Prompt, as_prompts


@checked
def mean_difference(
    lab: Lab,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    *,
    layer: Layers,
    tokens: str = "last",
    hook: str = RESID_POST,
    progress: bool = True,
) -> Vector:
    """The mean activation over positive prompts, minus that over negative ones.

    Each prompt counts the same.

    Args:
        lab: that runs the prompts.
        positive: prompts with the property.
        negative: prompts without it; their number may differ.
        layer: one or several; None for all.
        tokens: "last" for the last token of each prompt, "all" for the mean over its tokens.
        hook: within the layer.
        progress: show a progress bar if it takes long.

    Raises:
        HookError: the layer or the hook does not exist.
        ValueError: a side has no prompts, or both have the same mean.

    Source:
        Turner et al. (arXiv 2308.10248); Rimsky et al. (arXiv 2312.06681), equation 1.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import steering
        >>> lab = qwen3lab.load("tiny-moe")
        >>> vector = steering.mean_difference(lab, ["3+4=?", "5+4=?"], ["3*4=?", "5*4=?"], layer=2)
        >>> rec = lab.record("3*4=?", edits=4 * vector)
        >>> vector.layers, len(vector[2])
        ((2,), 128)
    """
    layers, names = hooks_of(lab, layer, hook)
    options = {"tokens": tokens, "progress": progress}
    above, below = (
        prompt_states(lab, prompts, names, **options).mean(dim=0)
        for prompts in (positive, negative)
    )
    of = f"mean difference of {len(positive)} and {count(len(negative), 'prompt')}"
    return made_vector(lab, layers, above - below, hook, f"{of}, {_taken(tokens)}")


@checked
def pca_difference(
    lab: Lab,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    *,
    layer: Layers,
    method: str = "pca_diff",
    hook: str = RESID_POST,
    progress: bool = True,
) -> Vector:
    """The first principal component of the differences of pairs, with norm 1, as in repeng.

    With `pca_diff`, the rows are `positive - negative` of each pair; with `pca_center`, both
    activations of each pair minus their mean. The mean row is subtracted, and the direction is
    the first right singular vector of the rows. Its sign is such that the positive activation
    projects further along it in more pairs than the negative one does.

    Args:
        lab: that runs the prompts.
        positive: the first prompt of each pair.
        negative: the second prompt of each pair, in the same order.
        layer: one or several; None for all.
        method: "pca_diff" or "pca_center".
        hook: within the layer. After the last layer, repeng takes the stream after the final norm.
        progress: show a progress bar if it takes long.

    Raises:
        HookError: the layer or the hook does not exist.
        ValueError: the numbers of prompts differ, there are too few, or all rows are the same.

    Source:
        repeng, `read_representations`, after Zou et al. (arXiv 2310.01405).
    """
    if method not in ("pca_diff", "pca_center"):
        raise ValueError(f'method is {method!r}: expected "pca_diff" or "pca_center"')
    if len(positive) != len(negative):
        raise ValueError(
            f"there are {len(positive)} positive and {len(negative)} negative prompts: "
            "expected pairs"
        )
    fewest = 2 if method == "pca_diff" else 1
    if len(positive) < fewest:
        raise ValueError(f"{method} of {count(len(positive), 'pair')}: expected {fewest} or more")
    layers, names = hooks_of(lab, layer, hook)
    above, below = (
        prompt_states(lab, prompts, names, tokens="last", progress=progress)
        for prompts in (positive, negative)
    )
    directions = [
        principal_direction(above[:, row], below[:, row], method=method)
        for row in range(len(names))
    ]
    made_by = f"{method} of {count(len(positive), 'pair')}, last token"
    return made_vector(lab, layers, torch.stack(directions), hook, made_by)


@checked
def principal_direction(
    positive: Float[Tensor, "pair d_model"],
    negative: Float[Tensor, "pair d_model"],
    *,
    method: str = "pca_diff",
) -> Float[Tensor, " d_model"]:
    """The direction of `pca_difference`, from activations.

    Raises:
        ValueError: all rows are the same.
    """
    above, below = positive.double(), negative.double()
    half = (above - below) / 2
    rows = 2 * half if method == "pca_diff" else torch.cat([half, -half])
    rows = rows - rows.mean(dim=0)
    if float(rows.abs().max()) <= 1e-9 * float(above.abs().max()):
        raise ValueError("the pairs have no differences that vary: give other prompts")
    direction = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    direction = direction * direction[direction.abs().argmax()].sign()
    votes = ((above - below) @ direction).sign().sum()
    return (-direction if votes < 0 else direction).float()


@checked
def thinking_direction(
    lab: Lab,
    questions: Sequence[str | Sequence[Message]],
    *,
    layer: Layers,
    hook: str = RESID_POST,
    progress: bool = True,
) -> Vector:
    """The mean activation at the last token of a prompt with thinking on, minus that with it off.

    The two prompts end with different tokens, so the direction has their difference, too: what it
    steers is to be measured (`steering.strength_curve`).

    Args:
        lab: that runs the questions.
        questions: each is a question, or messages.
        layer: one or several; None for all.
        hook: within the layer.
        progress: show a progress bar if it takes long.

    Raises:
        HookError: the layer or the hook does not exist.
        ValueError: there is no question, or the chat template has no switch for thinking.
    """
    talks = [as_messages(each) for each in as_prompts(questions)]
    on, off = ([lab.token_ids(t, thinking=mode) for t in talks] for mode in (True, False))
    if on == off:
        raise ValueError(
            f"the chat template of {lab.name} gives the same prompts with and without thinking: "
            "make a vector from other pairs with mean_difference"
        )
    vector = mean_difference(lab, on, off, layer=layer, hook=hook, progress=progress)
    made_by = f"thinking on minus off, {count(len(talks), 'question')}, last token"
    return Vector(vector.additions, made_by, vector.model_name, vector.weights)


def _taken(tokens: str) -> str:
    return "last token" if tokens == "last" else "mean over tokens"
