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
# # Where it looks: attention
#
# Every head of every layer decides, token by token, which earlier tokens to read from. Here you go
# from one head's map to the heads that copy, to the token that draws everybody's attention, and to
# how an answer reads the thinking before it.
#
# **After this notebook you can**
#
# - read a head's map, and zoom into any part of a long one, exactly;
# - find previous-token, duplicate-token and induction heads by their scores, and how sure that is;
# - find an attention sink, and see which heads the answer reads the thinking with.

# %%
import qwen3lab
from qwen3lab import exercises, figures, thinking
from qwen3lab.analysis import attention, circuits, sentences, thinking_text, value_weighted
from qwen3lab.widgets import AttentionExplorer

# %% [markdown]
# The next cell is the only one to change for another model: a name from the hub such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown]
# ## The wall, the map and the text
# 1. **Click a thumbnail**: its head opens as a map. Each row is a token that looks.
# 2. **Drag over a part of the map** to zoom into it; a double click shows all of it again.
# 3. **Point at a token of the text**: what it looks at is shaded. Turn it round with **shade**.
# 4. The **table** has all heads with their scores and their likely kind: sort it, search it, and
#    click a row to open its head.

# %%
question = "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "
question += "Ben and Eva swap. What does Eva have?"
explorer = AttentionExplorer(lab, question=question)
explorer

# %% [markdown]
# ## Heads that copy
# A sequence that comes twice shows them: in its second half, a **duplicate-token head** looks at
# the same token in the first half, an **induction head** at the one after it. What came after will
# come again: that is how a model continues a text that it has never seen.

# %%
words = " tree king moon sun city road night star door table house water"
twice = lab.record(words + words)
scores = attention.head_profile(twice)
table = scores.to_pandas()
columns = ["layer", "head", "kind", "above_uniform", "sure", "previous", "duplicate", "induction"]
table[columns].sort_values("induction", ascending=False).head(8).round(2)

# %%
figures.head_map(scores, "induction")

# %% [markdown]
# ## Exercise 1
# Which head is an induction head? Give its layer and head, as in `(3, 1)`. (On this text a score of
# 0.5 is nearly all there is: the first half has nothing to copy from.)

# %%
exercises.best_head(scores, "induction", answer=None, least=0.25)

# %% [markdown]
# Its map, on the same text: two bright lines below the diagonal?

# %%
best = table.sort_values("induction", ascending=False).iloc[0]
layer, head = int(best.layer), int(best["head"])
figures.attention_map(twice.attention[layer, head])

# %% [markdown]
# **From the weights alone**, on the direct path from a token's embedding to the logits: does what
# the head writes speak for the token that it looks at (1) or against it (-1)? (A late head need
# not read the embedding itself: it may read what the layers before have written there.)

# %%
copying = circuits.copying_scores(lab)
print(f"copying score of layer {layer}, head {head}: {float(copying[layer, head]):.2f}")
circuits.ov_pairs(lab, layer, head, n=6).to_pandas()

# %% [markdown]
# ## What draws attention
# A head that has nothing to do has to look somewhere. Where many of them look at one token, that
# token is an **attention sink**.

# %%
chat = lab.chat(
    question,
    sampling=qwen3lab.Sampling.greedy(),
    max_new_tokens=1024,
    record=[*circuits.NEEDED, value_weighted.NEEDED],
)
rec = chat.recording
mass = attention.key_mass(rec)
figures.sink_profile(mass)

# %% [markdown]
# ## Exercise 2
# Which token draws most, mean over all heads and layers? Give its number.

# %%
exercises.sink_token(mass.mean(dim=(0, 1)).tolist(), answer=None)

# %% [markdown]
# Attention is not yet what is moved: weighed by the length of what a head writes, a sink often
# carries little. And a head's temperature says how sharply it can choose: scores are the cosine of
# query and key over it.

# %%
weighed = next(iter(value_weighted.moved_blocks(lab, rec, layer)))[1][head]
print(f"layer {layer}, head {head}: the first token draws", end=" ")
print(f"{float(rec.attention[layer, head][:, 0].mean()):.0%} of the attention", end=" and ")
print(f"{float(weighed[:, 0].sum() / weighed.sum()):.0%} of what is moved")
temperature = circuits.norm_part(rec).temperature
print(f"temperatures from {float(temperature.min()):.2f} to {float(temperature.max()):.2f}")

# %% [markdown]
# ## How the answer reads the thinking
# A row for every head: where it looks from the positions that write the answer.

# %%
parts = thinking.pieces(chat)
looks = thinking_text.answer_looks(rec, parts)
figures.answer_looks(looks)

# %% [markdown]
# ## Exercise 3
# Which head reads the last step of the thinking most? The scores below are its share of attention
# on that step; give its layer and head.

# %%
last = looks.mass[:, :, len(parts)]
print(
    {
        f"{place // last.shape[1]}, {place % last.shape[1]}": round(value, 2)
        for place, value in enumerate(last.flatten().tolist())
        if value > 0.2
    }
)
exercises.reads_most(last, answer=None)

# %% [markdown]
# **Receiver heads** narrow later attention to a few sentences: the kurtosis of what each sentence
# receives from those at least so many behind it (a short thinking needs a small distance).

# %%
between = sentences.sentence_attention(rec, thinking.pieces(chat, 2))
receivers = between.receiver_scores(apart=2)
place = int(receivers.argmax())
print(f"layer {place // receivers.shape[1]}, head {place % receivers.shape[1]}", end=": ")
print(f"kurtosis {float(receivers.max()):.1f}")

# %% [markdown]
# ## Where to go next
# - `attention.rollout(rec, [-1])` follows attention through all layers;
#   `attention.likeness(rec)` compares the heads that share a key/value head.
# - `AttentionExplorer(rec)` opens any recording, also one of many thousand tokens.
# - `figures.save(figure, "map.html")` writes a page that opens without a network;
#   `figures.to_circuitsvis` and `figures.to_bertviz` hand over to those packages.
