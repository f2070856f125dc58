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
# # Expert routing
#
# In a mixture of experts, a router in every layer chooses a few experts for each token. In this
# notebook you start with the routing of one token, then measure what experts specialise in, and
# then change the routing and measure the effect.
#
# **After this notebook you can**
#
# - find the experts of a token, how certain the router was, and what the experts write;
# - measure what experts specialise in, and compare it with chance;
# - switch experts off or force them on, and measure which texts become harder for the model.

# %%
import torch

import qwen3lab
from qwen3lab import exercises, figures, tiny
from qwen3lab.analysis import expert_output, routing, specialisation
from qwen3lab.analysis.choices import margin, router_entropy
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.structure import co_activation, transitions
from qwen3lab.experiments import controls, costs, effects, knockout
from qwen3lab.interventions import rerouting
from qwen3lab.widgets import RoutingExplorer

# %% [markdown]
# To use another model, change only the next cell: give a name such as `"Qwen/Qwen3-30B-A3B"`, or a
# folder on your disk. A dense model has no experts; `with_experts` says so and goes on with
# `tiny-moe`.

# %%
lab = tiny.with_experts(qwen3lab.load("tiny-moe"))
layers, k = lab.config.moe_layers, lab.config.n_experts_per_token
lab

# %% [markdown]
# ## One token
# The model answers a question with thinking. The strip shows the text; each token has the colour of
# its expert with the largest weight. Are digits, operators and special tokens routed to different
# experts?

# %%
suggested = lab.suggested  # Lengths, questions and numbers that fit this model.
options = {"sampling": suggested.sampling, "seed": 0, "budget": suggested.budget}
options["max_new_tokens"] = suggested.recorded_tokens
chat = lab.chat(suggested.questions[0], record=expert_output.NEEDED, **options)
rec, row = chat.recording, len(layers) // 2
layer = layers[row]
figures.token_strip(rec.routing.layer(layer))

# %% [markdown]
# The **router entropy** measures how uncertain the router is. The **margin** is the difference
# between the logit of the last chosen expert and the logit of the best expert that was not chosen.
# With a margin near 0, a small change would have changed the choice.

# %%
logits = rec.routing.layer(layer).logits
open_share = router_entropy(logits, relative=True)
near = margin(logits, k)
for token in near.argsort()[:5].tolist():
    print(f"{token:3} {rec.tokens[token]!r:12}", end=" ")
    print(f"margin {near[token]:.3f} logits, entropy {open_share[token]:.0%} of its maximum")

# %%
figures.routing_map(routing.layer_weights(rec, layer))

# %% [markdown]
# ### Exercise 1 (easy)
# The map shows one layer. To which expert of the **next** layer are most tokens of this run routed?
# Draw its map or compute it. Then put its number in place of `None` and run the cell.

# %%
after = layers[min(row + 1, len(layers) - 1)]
exercises.busiest_expert(rec, after, answer=None, shown=layer, hint=0)

# %% [markdown]
# ### Exercise 2 (medium)
# In which layer is the router **most certain** in this run: where is the mean of its relative
# entropy over all tokens lowest?

# %%
exercises.surest_router(rec, answer=None, hint=0)

# %% [markdown]
# ## The explorer
# Click a token, then one of its experts. You see the tokens that are routed to this expert.
# **Direct logit effect** shows the next tokens that the expert makes more or less likely. **Switch
# off and ask again** asks the question without the expert, and shows both replies side by side.

# %%
held_out = tiny.texts(lab.tokenizer, n=suggested.texts)
recordings = [lab.record(text.token_ids) for text in held_out]
explorer = RoutingExplorer(lab, corpus=recordings)
explorer

# %% [markdown]
# ## A corpus
# The corpus has texts of five families of the embedded models' small world, and a sixth one of
# questions from outside. Each token has labels. `RoutingCorpus` keeps only counts, so a corpus of a
# million tokens needs no more memory.

# %%
families = RoutingCorpus(lab.config)
for text, recording in zip(held_out, recordings, strict=True):
    families.add(recording, text.family)
figures.expert_load(families.load())

# %% [markdown]
# **What does an expert specialise in?** The figure shows the expert of this layer whose share
# differs most between the families, with confidence intervals over documents. An expert without a
# specialisation would have the same share of every family.

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
# **Is it more than chance?** The mutual information between the chosen expert and the family, in
# nats, and the largest value that shuffled labels gave.

# %%
for at in range(len(layers)):
    counts, _, labels = specialisation.by_document(of, at)
    found = specialisation.label_information(counts, labels)
    print(
        f"layer {layers[at]:2}: {found.value:.3f} nats, shuffled at most {found.shuffled[-1]:.3f}"
    )

# %% [markdown]
# The same as a table, for one family. `npmi` is the normalised pointwise mutual information: 1 if
# expert and family only occur together, 0 if they are independent. Which of the two columns would
# you sort by to find a specialist?

# %%
table = families.to_pandas()
table[(table.layer == layer) & (table.group == "swaps")].sort_values("share").tail(6)

# %% [markdown]
# ### Exercise 3 (medium)
# Which expert of this layer is most associated with programs (the family `code`)?

# %%
exercises.specialist(families, "code", layer, answer=None, hint=0)

# %% [markdown]
# ## Thinking and answer
# Are they routed to the same experts? Red cells have more load in the thinking, blue cells in the
# answer.

# %%
parts = RoutingCorpus(lab.config)
for text, recording in zip(held_out, recordings, strict=True):
    parts.add(recording, [label.part for label in text.labels])
figures.load_difference(parts.load("thinking"), parts.load("answer"), names=("thinking", "answer"))

# %% [markdown]
# ## Co-activation and transitions
# The first figure shows which experts of this layer are chosen together; experts that share tokens
# are next to each other. The second shows to which experts of the next layer the tokens of each
# expert are routed.

# %%
chosen, later = (
    torch.cat([recording.routing.layer(at).experts for recording in recordings])
    for at in (layer, after)
)
n_experts = lab.config.n_experts
figures.co_activation(co_activation(chosen, n_experts), layer=layer)

# %%
figures.transitions(transitions(chosen, later, n_experts), layers=(layer, after))

# %% [markdown]
# ### Exercise 4 (medium)
# In the **first** layer, which expert is chosen together with expert 3 most often?

# %%
first = torch.cat([recording.routing.layer(layers[0]).experts for recording in recordings])
exercises.partner(first, n_experts, expert=3, answer=None, hint=0)

# %% [markdown]
# ## What an expert writes
# The mean output of the expert, multiplied by the unembedding: the next tokens that it makes more
# or less likely on the direct path to the logits.

# %%
favourite = int(rec.routing.layer(layer).experts.flatten().mode().values)
expert_output.expert_writing(lab, [rec], layer, favourite, n=6).to_pandas()

# %% [markdown]
# ## Intervene
# `rerouting` changes the router's choice in `record`, `generate` and `chat`; `+` combines several
# changes. The next cell asks the question again: unchanged, without the expert that it used most,
# with one expert per token, and with random experts.

# %%
question = chat.messages[0]["content"]
for name, edits in {
    "unchanged": None,
    f"without expert {favourite}": rerouting.off(favourite, layers=layer),
    "one expert each": rerouting.top_k(1),
    "random experts": rerouting.shuffled(),
}.items():
    print(f"{name:20} {lab.chat(question, edits=edits, **options).answer[:40]!r}")

# %% [markdown]
# **Knock out each expert** of the first layer, and compute the loss on half of the corpus again. On
# which family does the loss increase? The loss counts only the tokens that the preceding text
# determines.
# (In `tiny-moe`, the experts of the first layer matter most; in higher layers, the other experts
# can replace a missing one. Try another layer.) On a CPU, only the `busiest` experts of a large
# model are switched off. The cell first says how long it takes at most; for a shorter run, take
# fewer of them or fewer texts: `suggested.smaller`.

# %%
texts = [effects.Text(text.family, text.token_ids, text.known) for text in held_out[::2]]
which = {"layers": layers[:1], "busiest": suggested.experts}
print(costs.knock_out_cost(lab, texts, **which))
knocked_out = knockout.knock_out(lab, texts, **which)
figures.knock_out(knocked_out)

# %% [markdown]
# **Is this expert special?** Compare it with other experts of similar load: does the loss increase
# as much without them?

# %%
damage = knocked_out.to_pandas()
expert, group = int(damage.expert[0]), damage.group[0]
comparison = controls.compare_with_others(lab, texts, [expert], layer=layers[0], n_controls=9)
others = ", ".join(f"{value:.2f}" for value in comparison.control_added[group])
print(f"expert {expert}: {comparison.added[group]:.2f} nats more on {group}; others: {others}")
print(f"p = {comparison.p_value(group):.2f}")

# %% [markdown]
# **Does it change the answers?** The loss is an average over tokens. The next cell measures the
# share of wrong answers, with all experts and without that one.

# %%
sums = tiny.chains(lab.tokenizer, n=suggested.problems, steps=suggested.steps[:2])
problems = {"sums": sums}
for name, edits in {"unchanged": None, "without": rerouting.off(expert, layers=layers[0])}.items():
    print(f"{name:10} {effects.error_rates(lab, problems, edits=edits)['sums']:.0%} wrong")

# %% [markdown]
# ### Exercise 5 (hard)
# Find an intervention that increases the loss on programs at least twice as much as on any other
# family. The figure above helps. You can also try other layers, or several experts at once, as in
# `rerouting.off([3, 5], layers=2)`.

# %%
exercises.hurts_most(lab, texts, "code", answer=None, hint=0)

# %% [markdown]
# ## Where to go next
# - `families.save("counts.safetensors")` keeps the counts; `families.merge(parts)` adds those of
#   another corpus.
# - `expert_output.extreme_experts([rec])` finds experts with extreme activations.
# - `lab.record(texts[0].token_ids, edits=rerouting.borrowed(recordings[0]))` runs a text with the
#   routing of another run.
