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
# # How heads and experts form during training
#
# A language model starts with random weights. Here you see how one learns: a mixture of experts
# with the Qwen3 architecture, so small that a laptop trains it in minutes. Every few steps, a
# snapshot measured four things on the same held-out texts. Then you look at snapshots of the
# training of `tiny-dense`, which took longer.
#
# **After this notebook you can**
#
# - see from the curves when a model learned to copy, which heads do it, and in which order they
#   form;
# - explain what it means that experts specialise, and compare it with chance;
# - read router saturation: how early in training a router makes its final choices;
# - ask questions to a model whose whole training you have seen.
#
# **What the micro model learns.** Three of the kinds of texts that `tiny-moe` knows: arithmetic,
# little stories, and lists to repeat and to look up. The first 450 steps, half of the training, are
# almost only short sequences followed by their reverse (`tree king moon moon king tree`). Two heads
# in consecutive layers are enough to predict these, and such heads form fastest on such texts. Then
# stories, arithmetic and other lists follow; before that, the loss on stories increases.

# %%
import qwen3lab
from qwen3lab import exercises, figures, tiny
from qwen3lab.tiny.growth import early_life, saturation
from qwen3lab.widgets import Nursery

# %% [markdown]
# ## The nursery
# This training is a **recording**. It was made beforehand by the same code: 900 steps with seed 0,
# on 30 November 2026, on one core of a server. The package contains its snapshots and the weights
# at its end. To train a model yourself, write `train_now=True` in the next cell: that takes three
# minutes on your machine, in the background, while you read on. Your curves will differ, because
# the number of steps depends on the machine's speed. The plots show:
#
# 1. **Excess loss**: the cross-entropy above the minimum that the randomness of the texts allows,
#    one line per kind of text. Which kind falls first? Where does it fall suddenly?
# 2. **Best head of each kind**: the best score, on sequences of twelve words that occur twice. A
#    score of 1 means that the head only does this. A previous-token head attends to the token
#    before. A duplicate-token head attends to the last occurrence of the current token. An
#    induction head attends to the token after that occurrence. Together, the first two find the
#    token *before* the last occurrence, which is the next token in a reversed sequence. How?
# 3. **Mutual information** between the chosen expert and the kind of text (the family). The grey
#    lines are the largest values that shuffled labels gave.
# 4. **Router saturation**: the share of the expert choices of the last snapshot that were already
#    made at each earlier snapshot.
#
# While a model trains here, **Stop** pauses the training, and **Train** continues it.

# %%
nursery = Nursery(train_now=False)
nursery

# %% [markdown]
# ## Early training of `tiny-dense`
# Now look at another model. `tiny-dense` was trained in the same way, for
# longer and on all kinds of text. The package
# contains its weights at some steps of the training: `load("tiny-dense", revision="step500")` loads
# the weights after 500 steps.

# %%
tiny.revisions("tiny-dense")

# %%
childhood = early_life("tiny-dense")
figures.growth(childhood, log_steps=True)

# %% [markdown]
# ### Exercise 1 (easy)
# At which of these steps does the best **previous-token** head have a score of 0.4 or more for the
# first time? Put the step in place of `None`. Then compare with the induction heads below.

# %%
exercises.formed(childhood, "previous token", answer=None, least=0.4, hint=0)

# %% [markdown]
# ### Exercise 2 (medium)
# The losses do not fall together. Which kind of text comes below an excess loss of 0.5 nats
# **last**? Give its name, as in `answer="swaps"`.

# %%
exercises.last_family(childhood, answer=None, hint=0)

# %% [markdown]
# **How an induction head forms.** It reads the output of a previous-token head. That head must form
# first, in an earlier layer. In which layer is each kind?

# %%
for snapshot in childhood:
    scores = snapshot.heads["induction"].max(dim=1).values
    print(f"step {snapshot.step:5}  best induction score by layer", [f"{s:.2f}" for s in scores])

# %% [markdown]
# The same head after 500 steps and after the whole training, on a sequence that occurs twice.

# %%
child = qwen3lab.load("tiny-dense", revision="step500")
layer, head = divmod(int(childhood[-1].heads["induction"].argmax()), child.config.n_heads)
recording = child.record(" tree king moon star road tree king moon star road")
figures.attention_map(recording.attention[layer, head])

# %%
adult = qwen3lab.load("tiny-dense")
recording = adult.record(recording.token_ids.tolist())
figures.attention_map(recording.attention[layer, head])

# %% [markdown]
# ### Exercise 3 (medium)
# Which head is the best **duplicate-token** head of the finished model? Its scores are in
# `childhood[-1].heads["duplicate token"]`.

# %%
exercises.head_of_kind(childhood[-1], "duplicate token", answer=None, hint=0)

# %% [markdown]
# ### Exercise 4 (hard)
# The induction head reads what a head of an earlier layer has written. Which one? Give a head
# without which the best induction score falls to half or less. (The check takes it away, and
# measures again.)

# %%
words = " tree king moon sun city road night star door table house water"
exercises.feeds_induction(adult, words + words, answer=None, hint=0)

# %% [markdown]
# ## The micro model from Python
# Back to the micro model. `wait()` returns all snapshots. If a model trains here, it waits for the
# end of the training. (Interrupt the kernel to stop early; the snapshots so far are kept.)

# %%
history = nursery.wait()
figures.growth(history)

# %% [markdown]
# **When does each kind of head form?** At which step does its best score exceed 0.25 for the first
# time? In the recording, a previous-token head comes first, and then a duplicate-token head in the
# layer above it. No induction head forms in so few steps. (If you train on a slow machine, 600
# steps may not fit into three minutes, and then the second kind does not form either: take more
# minutes.)

# %%
for kind in history[-1].heads:
    formed = [snapshot.step for snapshot in history if float(snapshot.heads[kind].max()) > 0.25]
    print(f"{kind:16} above 0.25", f"from step {formed[0]}" if formed else "never")

# %% [markdown]
# **Which heads are they?** The scores of all heads in the last snapshot, layer by layer. (The
# scores of duplicate-token heads fall when training includes other lists. What do those lists
# require?)

# %%
for kind, of_heads in history[-1].heads.items():
    print(f"{kind:16}", [[round(score, 2) for score in layer] for layer in of_heads.tolist()])

# %% [markdown]
# **Router saturation.** One row per snapshot, one column per layer. For two of eight experts chosen
# at random, the expected value is a quarter.

# %%
saturated = saturation(history)
every = max(1, len(history) // 8)
for snapshot, share in list(zip(history, saturated.tolist(), strict=True))[::every]:
    print(f"step {snapshot.step:5}", [round(value, 2) for value in share])

# %% [markdown]
# ### Exercise 5 (easy)
# Saturation has to be compared with chance. A layer has sixteen experts and chooses six for each
# token. Which saturation would random choices have, on average?

# %%
exercises.chance_overlap(16, 6, answer=None, hint=0)

# %% [markdown]
# ## Use the trained model
# `growth.lab` is the current model, and everything that works with `tiny-moe` works with it. This
# is its best duplicate-token head.

# %%
lab = nursery.growth.lab
recording = lab.record(" tree king moon star road road star moon king tree")
layer, head = divmod(int(history[-1].heads["duplicate token"].argmax()), lab.config.n_heads)
figures.attention_map(recording.attention[layer, head])

# %% [markdown]
# ## Where to go next
# - `growth = tiny.growth.Growth(minutes=10)` trains longer when you show it with `Nursery(growth)`,
#   and another seed, as in `tiny.growth.Growth(seed=1)`, starts from other random weights. Do the
#   same heads form in the same layers? `tiny.growth.Growth(steps=900)` is the recorded training.
# - Ask a model at an early step:
#   `qwen3lab.load("tiny-dense", revision="step2000").chat("12+30=?")`.
# - `tiny.read_card("tiny-dense")` has the measured abilities of the finished model.
# - In a terminal, `qwen3lab train tiny-dense` trains that model again, in some hours on one core;
#   an interrupted run goes on.
