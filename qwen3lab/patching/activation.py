"""Activation patching: activations of one run put into another one, and the effect on a metric.

Source: Meng et al., "Locating and editing factual associations in GPT" (2022), "causal tracing";
Heimersheim and Nanda, "How to use and interpret activation patching" (2024, arXiv 2404.15255).
"""

from collections.abc import Sequence

from qwen3lab.arguments import checked
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric
from qwen3lab.patching.alignment import Align
from qwen3lab.patching.prepared import prepared, two_runs
from qwen3lab.patching.results import Patched
from qwen3lab.patching.sweep import shape_of, sweep
from qwen3lab.text.prompt import Prompt
from qwen3lab.translation import later


@checked
def patch(
    lab: Lab,
    *,
    clean: Prompt,
    corrupt: Prompt,
    metric: Metric,
    site: str = "resid_post",
    by: str | None = None,
    layers: Sequence[int] | None = None,
    direction: str = "denoise",
    align: Align = "position",
    thinking: bool | None = None,
    progress: bool = True,
) -> Patched:
    """Put activations of one run into another, part by part, and read a metric.

    Every cell of the result is a run with one patch. Runs of a layer share batches, and begin at
    that layer. For a step of a thinking, give the token ids of two replies and pairs of positions
    as `align`.

    Args:
        lab: the model.
        clean: text, chat messages or token ids, whose run has the value 1.
        corrupt: the prompt whose run has the value 0.
        metric: of `qwen3lab.metrics`.
        site: a name in `patching.SITES`, which says what each site replaces.
        by: axis of the result after the layer, such as "token" for each head at each token; None
            for the site's first one.
        layers: to sweep; None for all that have the site.
        direction: "denoise" puts the clean run's activations into the corrupt run, "noise" the
            corrupt run's into the clean one.
        align: which tokens correspond; see `patching.Align`.
        thinking: as in `Lab.record`.
        progress: show a progress bar if it takes long.

    Returns:
        The values, [layer, token] or [layer, head] or [layer, head, token]; after a keyboard
        interrupt, cells that were not run are NaN.

    Raises:
        ValueError: prompts that do not align, a site, layer, token or metric that does not fit the
            model, or a metric that is equal in both runs.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import patching
        >>> lab = qwen3lab.load("tiny-moe")
        >>> metric = patching.logit_difference("7", "9")
        >>> found = patching.patch(lab, clean="3+4=?", corrupt="5+4=?", metric=metric)
        >>> found.axes, found.values.shape == (lab.config.n_layers, 4)
        (('layer', 'token'), True)
        >>> round(float(found.values[-1, -1]), 3)  # the stream that the logits are read from
        1.0
    """
    found, axes, chosen = prepared(lab, site, by, layers, align)
    runs = two_runs(
        lab,
        clean,
        corrupt,
        metric=metric,
        hooks=found.hooks(chosen),
        align=align,
        direction=direction,
        thinking=thinking,
    )
    cells = runs.cells(found, axes, chosen)
    raw = sweep(lab, runs.base, cells, runs.reader, shape=shape_of(cells), progress=progress)
    return runs.result(
        raw, method=later("patching"), site=site, axes=("layer", *axes), layers=chosen
    )
