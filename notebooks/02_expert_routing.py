# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the experts do
#
# In a mixture of experts each token is sent to a few experts, chosen anew in every layer. Here you
# go from one token's choice to what experts specialise in, and then you intervene.
#
# **After this notebook you can**
#
# - say, for one token, which experts serve it, how sure the router was, and what they write;
# - measure what experts specialise in, and tell it from chance;
# - switch experts off, force them on, and say who suffers.

# %%
import torch

import qwen3lab
from qwen3lab import exercises, figures, tiny
from qwen3lab.analysis import expert_output, routing, specialisation
from qwen3lab.analysis.choices import margin, router_entropy
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.structure import co_activation, transitions
from qwen3lab.experiments import controls, effects, knockout
from qwen3lab.interventions import rerouting
from qwen3lab.widgets import RoutingExplorer

# %% [markdown]
# The next cell is the only one to change for another model: `"Qwen/Qwen3-30B-A3B"`, or a folder on
# your disk.

# %%
lab = qwen3lab.load("tiny-moe")
layers, k = lab.config.moe_layers, lab.config.n_experts_per_token
lab

# %% [markdown]
# ## One token
# A question, answered with thinking. The strip is the text itself, coloured by the expert with the
# greatest weight. Do digits, operators and marks have experts of their own?

# %%
greedy = qwen3lab.Sampling.greedy()
chat = lab.chat("7+2*3-1*7+3=?", sampling=greedy, max_new_tokens=256, record=expert_output.NEEDED)
rec, row = chat.recording, len(layers) // 2
layer = layers[row]
figures.token_strip(rec.routing.layer(layer))

# %% [markdown]
# The router's **entropy** says how open the choice was, the **margin** how near the first expert
# was that is left out: at 0 it could have gone either way.

# %%
logits = rec.routing.layer(layer).logits
open_share = router_entropy(logits, relative=True)
near = margin(logits, k)
for token in near.argsort()[:5].tolist():
    print(f"{token:3} {rec.tokens[token]!r:12}", end=" ")
    print(f"margin {near[token]:.3f} logits, entropy {open_share[token]:.0%} of its maximum")

# %% [markdown]
# ## Exercise 1
# Which expert serves most tokens of this run in this layer? Read it off the map (or count), put its
# number in place of `None`, and run the cell.

# %%
figures.routing_map(routing.layer_weights(rec, layer))

# %%
exercises.busiest_expert(rec, layer, answer=None)

# %% [markdown]
# ## The explorer
# Click a token, then an expert: whom it serves, what it writes. **Switch off and ask again** runs
# the question without it, and lays both replies side by side.

# %%
held_out = tiny.texts(lab.tokenizer, n=12)
recordings = [lab.record(text.token_ids) for text in held_out]
explorer = RoutingExplorer(lab, corpus=recordings)
explorer

# %% [markdown]
# ## A corpus
# Sixty texts of five families, each token with its truth. Only counts are kept, so a million tokens
# would fit as well.

# %%
families = RoutingCorpus(lab.config)
for text, recording in zip(held_out, recordings, strict=True):
    families.add(recording, text.family)
figures.expert_load(families.load())

# %% [markdown]
# **Whom does an expert serve?** The expert of this layer that is most uneven, with intervals over
# documents. An expert without a speciality would serve each family alike.

# %%
names = families.groups
pairs = list(zip(held_out, recordings, strict=True))
of = {name: [run for text, run in pairs if text.family == name] for name in names}
spread = families.slots[row] / families.tokens[:, None]
expert = int(spread.std(dim=0).argmax())
counts, tokens, labels = specialisation.by_document(of, row)
bars = specialisation.share_intervals(counts, tokens, labels)
figures.specialisation(bars, names, expert=expert, k=k, layer=layer)

# %% [markdown]
# **Is it more than chance?** How much the choice of expert says about the family, in nats, beside
# the most that shuffled labels gave.

# %%
for at in range(len(layers)):
    counts, _, labels = specialisation.by_document(of, at)
    found = specialisation.label_information(counts, labels)
    print(
        f"layer {layers[at]:2}: {found.value:.3f} nats, shuffled at most {found.shuffled[-1]:.3f}"
    )

# %% [markdown]
# ## Exercise 2
# Which expert goes most with arithmetic in this layer? `npmi` is 1 where the two only come
# together, and 0 where they have nothing to do with each other.

# %%
table = families.to_pandas()
table[(table.layer == layer) & (table.group == "arithmetic")].sort_values("share").tail(6)

# %%
exercises.specialist(families, "arithmetic", layer, answer=None)

# %% [markdown]
# ## Thinking against answering
# The same experts? Red cells serve thinking more, blue ones the answer.

# %%
parts = RoutingCorpus(lab.config)
for text, recording in zip(held_out, recordings, strict=True):
    parts.add(recording, [label.part for label in text.labels])
figures.load_difference(parts.load("thinking"), parts.load("answer"), names=("thinking", "answer"))

# %% [markdown]
# ## Together, and one after another
# Experts that serve the same tokens stand side by side; then, where the tokens of an expert go in
# the next layer.

# %%
after = layers[min(row + 1, len(layers) - 1)]
chosen, later = (
    torch.cat([recording.routing.layer(at).experts for recording in recordings])
    for at in (layer, after)
)
n_experts = lab.config.n_experts
figures.co_activation(co_activation(chosen, n_experts), layer=layer)

# %%
figures.transitions(transitions(chosen, later, n_experts), layers=(layer, after))

# %% [markdown]
# ## What it writes
# The expert's output through the unembedding: which next tokens it speaks for, on the direct path.

# %%
favourite = int(rec.routing.layer(layer).experts.flatten().mode().values)
expert_output.expert_writing(lab, [rec], layer, favourite, n=6).to_pandas()

# %% [markdown]
# ## Intervene
# `rerouting` changes the choice itself, in `record`, `generate` and `chat`; `+` composes. Without
# the expert that this question used most:

# %%
question, options = chat.messages[0]["content"], {"sampling": greedy, "max_new_tokens": 256}
for name, edits in {
    "as it is": None,
    f"without expert {favourite}": rerouting.off(favourite, layers=layer),
    "one expert each": rerouting.top_k(1),
    "random experts": rerouting.shuffled(),
}.items():
    print(f"{name:20} {lab.chat(question, edits=edits, **options).answer[:40]!r}")

# %% [markdown]
# **Knock out each expert** of the first layer, and read the corpus again: which family suffers?
# Loss counts the tokens that follow from what stands before them. (In `tiny-moe` the first layer's
# experts are the ones that are missed; higher up the others stand in. Try another layer.)

# %%
texts = [effects.Text(text.family, text.token_ids, text.known) for text in held_out]
missed = knockout.knock_out(lab, texts, layers=layers[:1])
figures.knock_out(missed)

# %% [markdown]
# **Is this expert special**, or would any set of like load be missed as much?

# %%
table = missed.to_pandas()
expert, group = int(table.expert[0]), table.group[0]
beside = controls.compare_with_others(lab, texts, [expert], layer=layers[0], n_controls=9)
others = ", ".join(f"{value:.2f}" for value in beside.control_added[group])
print(f"expert {expert}: {beside.added[group]:.2f} nats more on {group}; others: {others}")
print(f"p = {beside.p_value(group):.2f}")

# %% [markdown]
# **And the answers?** Loss is an average; what counts is what is answered. The share of problems
# answered wrong, as the model is and without that expert (of a published model, ask about less):

# %%
asked = {"sums": tiny.chains(lab.tokenizer, n=20, steps=(2, 8))}
for name, edits in {"as it is": None, "without": rerouting.off(expert, layers=layers[0])}.items():
    print(f"{name:10} {effects.error_rates(lab, asked, edits=edits)['sums']:.0%} wrong")

# %% [markdown]
# ## Exercise 3
# Find an intervention that hurts lists at least twice as much as any other family. The figure
# above helps; so do other layers, and several experts at once, as in
# `rerouting.off([3, 5], layers=2)`.

# %%
exercises.hurts_most(lab, texts, "lists", answer=None)

# %% [markdown]
# ## Where to go next
# - `RoutingCorpus.save` and `merge` put counts of many runs together.
# - `expert_output.extreme_experts` finds experts with extreme activations.
# - `rerouting.borrowed(other_recording)` gives a text another text's routing.
