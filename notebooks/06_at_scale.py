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
# # At scale: an atlas of experts
#
# What does expert 7 of layer 0 do? One text cannot tell. In this notebook you record 100,000
# tokens, make an atlas of all experts from them, and test two common beliefs: that experts
# specialise in topics, and that the experts used most are those that matter most.
#
# **After this notebook you can**
#
# - record a corpus into a folder, with labels for its texts and for their tokens;
# - read an atlas of experts: their labels, typical tokens, examples and neighbours;
# - tell specialisation by topic of the text apart from specialisation by type of the token;
# - remove experts by a score, and measure what that costs, beside random choices;
# - run the same on a cluster.

# %%
import tempfile

import qwen3lab
from qwen3lab import corpus, exercises, figures, tiny
from qwen3lab.experiments import effects, merging, pruning
from qwen3lab.widgets import AtlasExplorer

# %% [markdown]
# To use another model, change only the next cell. A model that is not embedded is slower, so it
# reads fewer texts. A dense model has no experts; `with_experts` says so and goes on with
# `tiny-moe`.

# %%
lab = tiny.with_experts(qwen3lab.load("tiny-moe"))
n_texts = 200 if tiny.is_embedded(lab.tokenizer) else lab.suggested.texts
rows = tiny.corpus_rows(lab.tokenizer, n=n_texts)
print(f"{len(rows):,} texts, {sum(len(row['text']) for row in rows):,} tokens")
rows[0].keys()

# %% [markdown]
# ## Record a corpus
# Each row has token ids, the task **family** of the text (its topic), and a list with the **role**
# of each token (its type), such as operand, keyword or name. The shuffled labels have no meaning:
# they show later how large a measure gets by chance.
#
# The next cell takes about a minute. `keep` says what is kept: counts, the texts in which each
# expert has its largest weights (`top`), and the sizes of the experts' outputs (`saliency`). The
# figure shows how the tokens are divided among the experts. Is the load balanced?

# %%
labels = {"label": ("family", "shuffled family"), "token_label": "role", "cross": True}
kept = {"keep": ("counts", "top", "saliency"), "out": tempfile.mkdtemp()}
run = corpus.record(rows, model=lab, **labels, **kept)
figures.expert_load(run.load())

# %% [markdown]
# The folder holds counts and examples, not activations: a few bytes for each token.
# `corpus.open(run.folder)` opens it again, without the model, and `duckdb` or `pyarrow` read its
# tables.

# %%
run

# %% [markdown]
# ## The atlas
# **npmi**, the normalised pointwise mutual information, says how strongly an expert and a label
# belong together: 1 if they only occur together, 0 if they are independent. The map shows for each
# expert the role with the largest npmi. Point at a cell to see more.

# %%
atlas = corpus.atlas(run, columns=("family", "role"))
figures.atlas_map(atlas, "role")

# %% [markdown]
# In `tiny-moe`, several experts of the first layers are tied to the running values of sums, others
# to operators, names or verbs. But **an expert has no single job**: for every expert of this model,
# the role that its cell names is less than 40% of its tokens.
#
# The same as a table, the most specialised experts first: typical tokens, and the numbers of the
# experts that get the same tokens (`with`), in the next layer, too (`then`).

# %%
table = atlas.to_pandas().sort_values("npmi of role", ascending=False)
table.head(12).round(3)

# %% [markdown]
# ### Exercise 1 (easy)
# Which expert of layer 0 is most strongly associated with `operator`? Read it from the map or from
# the table, put its number in place of `None`, and run the cell. `hint=1`, 2 or 3 helps.

# %%
first, last = lab.config.moe_layers[0], lab.config.moe_layers[-1]
exercises.expert_of_label(run, first, "role", "operator", answer=None, hint=0)

# %% [markdown]
# ## Click an expert
# Choose the labels, click a cell, and read what the expert does: the texts in which its weight is
# largest, with the token marked, and the experts that get the same tokens. The buttons go to these.
# What do the examples have in common, and do the labels say the same?

# %%
explorer = AtlasExplorer(atlas)
explorer

# %% [markdown]
# ## Neighbours
# A token goes to several experts at once. The rows of this map are experts of the first layer, the
# columns the share of their tokens that other experts also get. In `tiny-moe` you see a group of
# three experts that nearly always work together: on digits.

# %%
together = run.co_activation(first).float()
figures.co_activation(together / together.diagonal()[:, None], layer=first)

# %%
atlas[first, 7]

# %% [markdown]
# ### Exercise 2 (medium)
# Which expert of layer 0 gets the tokens of expert 12 **more often than other tokens**? This is not
# the one with the largest share: an expert with a high load gets many tokens of every expert.

# %%
exercises.nearest_expert(run, first, 12, answer=None, hint=0)

# %% [markdown]
# ## Topic or type?
# Are there experts for arithmetic, and experts for stories? The next map says so. But sums have
# operands and stories have verbs: an expert for operands looks like an expert for arithmetic.

# %%
figures.atlas_map(atlas, "family")

# %% [markdown]
# **Mutual information** measures what the expert of a token tells about a label, in nats. To tell
# both apart, look at one label while the other is known: at the family among tokens of the *same
# role*, and at the role among tokens of the *same family*.

# %%
found = corpus.topic_and_type(run, topic="family", kind="role")
chance = corpus.topic_and_type(run, topic="shuffled family", kind="role")
figures.topic_and_type(found, chance=chance)

# %% [markdown]
# In the first layers of `tiny-moe`, the expert tells much about the family (yellow), but most of
# that only because families have different tokens: among tokens of one role, less remains (red).
# What the expert tells about the role stays large within one family (blue): about three times as
# much or more, in every layer. So its experts specialise in types of tokens first. Topic is real,
# too: the red line is far above shuffled families (grey).
#
# Studies of large models agree: experts of three models specialise in types of tokens
# such as punctuation and function words, and hardly in topics (Silvestre Lopez 2026, doi
# 10.5281/zenodo.19457411), and deep layers choose nearly the same experts for unrelated texts (Wang
# and others 2026, arXiv 2604.09780).

# %% [markdown]
# ### Exercise 3 (medium)
# In which layer do experts tell most about the **family** of a text, if you do not count what the
# role of the token tells already?

# %%
exercises.layer_of_topic(found, answer=None, hint=0)

# %% [markdown]
# ## Which experts matter?
# An expert matters if the model is worse without it. Scores guess which ones before anything is
# removed: **usage** is the number of tokens, **REAP** the mean of weight times length of the output
# over an expert's tokens (Lasby and others 2025, arXiv 2510.13999). Compare scores within a
# layer: outputs of the last layer are longer than those of the others.

# %%
scores = corpus.expert_scores(run)
scores.to_pandas().sort_values("reap", ascending=False).head(6).round(3)

# %% [markdown]
# **The test.** Experts with low scores are removed, with their rows of the router, and the loss is
# measured on *other* texts. Random choices beside it are the control: a score that is no better
# than chance knows nothing.

# %%
held_out = tiny.texts(lab.tokenizer, n=min(4, n_texts), seed=2)
texts = [effects.Text(text.family, text.token_ids, text.known) for text in held_out]
chosen_by = {"REAP": scores.reap, "usage": scores.slots.float()}
shares = (1, 0.75, 0.5, 0.25)
curve = pruning.pruning_curve(lab, chosen_by, texts, shares=shares)
figures.pruning_curve(curve)

# %% [markdown]
# In `tiny-moe`, REAP is better than usage and than every random choice, and with three quarters of
# the experts, usage is hardly better than chance: **the experts that are used most are not those
# that matter most**. The experts of this small model are not redundant. Of large models, the paper
# removes half with little loss.

# %% [markdown]
# ### Exercise 4 (medium)
# By REAP, how many experts of each layer must stay, so that the loss is at most 0.3 nats per token?
# Choose from the numbers of this curve.

# %%
fine = pruning.pruning_curve(
    lab, {"REAP": scores.reap}, texts, shares=(1, 0.875, 0.75, 0.625, 0.5), n_random=0
)
exercises.experts_needed(fine, "REAP", answer=None, most=0.3, hint=0)

# %% [markdown]
# ### Exercise 5 (hard)
# Make a model for **arithmetic** alone: choose the half of the experts that keeps its loss lower
# than the half that REAP chooses, whatever happens to other families. Give `answer=` a table of
# scores by layer and expert; those with the largest scores stay. Which table of this notebook knows
# which experts arithmetic needs? (`corpus.slots_of(run, "family")` gives counts by layer, family
# and expert.)

# %%
exercises.best_half_for(lab, texts, "arithmetic", scores.reap, answer=None, hint=0)

# %% [markdown]
# **Merging.** In place of removing an expert, its matrices can be added to those of the most
# similar expert that stays. With half of the experts, merging by REAP's scores costs `tiny-moe`
# more than removing: a merged expert is a mean of different ones.
# `qwen3lab.checkpoints.save_checkpoint` writes either model as a checkpoint that `transformers`
# opens.

# %%
merged = merging.merging_curve(
    lab, {"REAP": scores.reap}, texts, similar_on=texts, shares=(1, 0.75, 0.5)
)
figures.pruning_curve(curve + merged)

# %% [markdown]
# ## The same on a cluster
# The plan does not change: on a machine with many processors or GPUs, or on a cluster, it is one
# argument more. Put the rows into a file, and run (with `pip install "qwen3lab[ray]"`):
#
# ```console
# qwen3lab corpus texts.parquet --model Qwen/Qwen3-30B-A3B --dtype bfloat16 \
#     --label domain --token-label pos --cross --keep counts --keep top --keep saliency \
#     --out run --address auto --workers 8
# ```
#
# `--address auto` joins the Ray cluster that runs on this machine, `--ray` starts one here. If it
# stops, `--resume` goes on. Counts are integers, so they are the same with one worker and with
# many. The guide's page *Record a corpus* says what a million and a billion tokens cost.

# %% [markdown]
# ## Where to go next
# - `corpus.routing_difference(run, labels=("arithmetic", "stories"))` compares the routing of two
#   labels.
# - `run.tokens(first, 7)` lists all tokens of an expert, `run.top(run.hooks[1], 7)` its examples.
# - `half = pruning.best_experts(scores.reap, lab.config.moe_layers, lab.config.n_experts // 2)`,
#   and then `small = pruning.prune(lab, half)` is a model like any other:
#   `small.chat("3+4=?", max_new_tokens=40)`.
# - `groups = merging.similar_groups(lab, texts, scores.reap, lab.config.n_experts // 2)`, and then
#   `merging.merge(lab, groups, scores.reap)` merges experts in place of removing them.
# - `qwen3lab corpus` makes a corpus of a file of texts.
# - `02_expert_routing` changes the routing of single experts, and measures the effect.
