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
# # Attention
#
# For each token, every attention head of every layer chooses the earlier tokens that it reads from.
# In this notebook you read the attention map of a head, find the heads that copy, find the token
# that receives the most attention, and see how the answer attends to the thinking.
#
# **After this notebook you can**
#
# - read the attention map of a head, and zoom into any part of it for exact weights;
# - find previous-token, duplicate-token and induction heads by their scores, and judge how certain
#   these scores are;
# - find an attention sink, and find the heads that read the thinking when the answer is written.

# %%
import qwen3lab
from qwen3lab import exercises, figures, thinking
from qwen3lab.analysis import attention, circuits, sentences, thinking_text, value_weighted
from qwen3lab.interventions.sinks import MadeUpSink
from qwen3lab.widgets import AttentionExplorer

# %% [markdown]
# To use another model, change only the next cell: give a name from the Hugging Face hub, such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown]
# ## All heads, one map, and the text
# 1. **Click a thumbnail** to open the attention map of that head. Each row is one query token.
# 2. **Drag over a part of the map** to zoom in. A double click shows the whole map again.
# 3. The **table** lists all heads with their scores and their likely kind. You can sort it and
#    search it; click a row to open that head.
# 4. Open the tab **Text**, and shade by **attention from the picked token**. **Point at a token**:
#    the tokens that it attends to are shaded, or with **attention to** those that attend to it.

# %%
question = "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "
question += "Ben and Eva swap. What does Eva have?"
explorer = AttentionExplorer(lab, question=question)
explorer

# %% [markdown]
# ## Heads that copy
# A repeated sequence shows them. In the second half, a **duplicate-token head** attends to the same
# token in the first half, and an **induction head** attends to the token after it. That token is
# the next token in the second half, too. In this way a model can continue a repetition that was not
# in its training data.

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
# Which head is an induction head? Give its layer and head, as in `(3, 1)`. (On this text the
# highest possible score is about 0.5, because the first half has nothing to copy from.)

# %%
exercises.best_head(scores, "induction", answer=None, least=0.25)

# %% [markdown]
# This is the map of the head with the highest induction score, on the same text. Do you see two
# bright lines below the diagonal?

# %%
best = table.sort_values("induction", ascending=False).iloc[0]
layer, head = int(best.layer), int(best["head"])
figures.attention_map(twice.attention[layer, head])

# %% [markdown]
# **The copying score** needs only the model's weights. It follows the direct path from a token's
# embedding through the OV circuit of the head to the logits. A score of 1 means that the head
# raises the logit of the token that it attends to; -1 means that the head lowers it. (The score
# says less about heads in late layers: they can read what earlier layers have written, not only the
# embedding.)

# %%
copying = circuits.copying_scores(lab)
print(f"copying score of layer {layer}, head {head}: {float(copying[layer, head]):.2f}")
circuits.ov_pairs(lab, layer, head, n=6).to_pandas()

# %% [markdown]
# ## Attention sinks
# The weights of a row always sum to 1, so a head has to attend to some token even if it finds
# nothing to read. A token that receives much attention from many heads for this reason is an
# **attention sink**. In published Qwen3 models it is the first token of the chat. Has this model
# one?

# %%
chat = lab.chat(
    question,
    sampling=lab.suggested.sampling,
    seed=0,
    budget=lab.suggested.budget,
    max_new_tokens=lab.suggested.recorded_tokens,
    record=[*circuits.NEEDED, value_weighted.NEEDED],
)
rec = chat.recording
mass = attention.key_mass(rec)
figures.sink_profile(mass)

# %% [markdown]
# The embedded models have **no sink**: no head of theirs attends to the first token with more than
# a tenth of its attention, on average (their model cards measure it). So the next cell makes a
# stand-in, to show what a sink looks like: it adds 4 to the score of the first token in all heads
# of the upper layers, which multiplies its weight before normalisation by 55. This model did not
# learn that.

# %%
upper = range(lab.config.n_layers // 2, lab.config.n_layers)
made_up = lab.record(rec.token_ids.tolist(), edits=MadeUpSink(nats=4.0, layers=upper))
figures.sink_profile(attention.key_mass(made_up))

# %% [markdown]
# ## Exercise 2
# Which token receives the most attention, averaged over all heads and layers? Give its number.

# %%
exercises.sink_token(mass.mean(dim=(0, 1)).tolist(), answer=None)

# %% [markdown]
# Attention weights do not show how much a head writes. **Value-weighted attention** multiplies each
# weight by the length of the vector that the head moves from that token; by this measure a sink
# often contributes little. The **temperature** of a head tells how sharply it can choose: its
# scores are the cosine of query and key divided by the temperature.

# %%
weighed = next(iter(value_weighted.moved_blocks(lab, rec, layer)))[1][head]
print(f"layer {layer}, head {head}: the first token draws", end=" ")
print(f"{float(rec.attention[layer, head][:, 0].mean()):.0%} of the attention", end=" and ")
print(f"{float(weighed[:, 0].sum() / weighed.sum()):.0%} of what is moved")
temperature = circuits.norm_part(rec).temperature
print(f"temperatures from {float(temperature.min()):.2f} to {float(temperature.max()):.2f}")

# %% [markdown]
# ## How the answer attends to the thinking
# One row per head: how it distributes its attention from the positions that generate the answer.

# %%
parts = thinking.pieces(chat, "sentence")
looks = thinking_text.answer_looks(rec, parts)
figures.answer_looks(looks)

# %% [markdown]
# ## Exercise 3
# Which head attends most to the last step of the thinking? The numbers below are the share of each
# head's attention on that step. Give the layer and head.

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
# **Receiver heads** concentrate the attention of later sentences on a few sentences. Their score is
# the kurtosis of the attention that each sentence receives from later sentences. `apart` is the
# smallest distance that counts, in sentences; a short thinking needs a small one. (The embedded
# models think without sentences: for them, two tokens count as one. A thinking of fewer than
# `at_least` sentences is cut into pieces of equally many tokens.)

# %%
parts = thinking.pieces(chat, lab.suggested.sentence, at_least=12)
between = sentences.sentence_attention(rec, parts)
receivers = between.receiver_scores(apart=2)
place = int(receivers.argmax())
print(f"layer {place // receivers.shape[1]}, head {place % receivers.shape[1]}", end=": ")
print(f"kurtosis {float(receivers.max()):.1f}")

# %% [markdown]
# ## Where to go next
# - `attention.rollout(rec, [-1])` combines the attention of all layers;
#   `attention.likeness(rec)` compares the query heads that share a key/value head.
# - `AttentionExplorer(rec)` opens any recording, also one of many thousand tokens.
# - `figures.save(figure, "map.html")` writes a page that opens without a network;
#   `figures.to_circuitsvis` and `figures.to_bertviz` convert attention for those packages.
