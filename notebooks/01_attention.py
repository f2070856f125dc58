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
# in its training data. A **previous-token head** attends to the token before; induction heads are
# built on it. The figure shows the scores of previous-token heads.

# %%
words = " tree king moon sun city road night star door table house water"
twice = lab.record(words + words)
scores = attention.head_profile(twice)
figures.head_map(scores, "previous")

# %% [markdown]
# ### Exercise 1 (easy)
# Which head of this model is a duplicate-token head? Give its layer and head, as in `(3, 1)`. (On
# this text the highest possible score is about 0.5, because the first half has nothing to repeat.)

# %%
exercises.best_head(scores, "duplicate", answer=None, hint=0)

# %% [markdown]
# ### Exercise 2 (medium)
# `tiny-moe` has no induction head: its highest score on this text is 0.09. (It goes on with a
# repetition in another way.) `tiny-dense` has some. Which of its heads is one?

# %%
dense = qwen3lab.load("tiny-dense")
repeated = dense.record(words + words)
copying_heads = attention.head_profile(repeated)
exercises.best_head(copying_heads, "induction", answer=None, hint=0)

# %% [markdown]
# This is the map of the head with the highest induction score, on the same text. Do you see the
# bright line below the diagonal? How many tokens below it is it?

# %%
best = copying_heads.to_pandas().sort_values("induction", ascending=False).iloc[0]
layer, head = int(best.layer), int(best["head"])
figures.attention_map(repeated.attention[layer, head])

# %% [markdown]
# **The copying score** needs only the model's weights. It follows the direct path from a token's
# embedding through the OV circuit of the head to the logits. A score of 1 means that the head
# raises the logit of each token that it attends to: it copies. A score of -1 means that it lowers
# these logits. The heads of other kinds in the same layer have scores near -1: on the direct path
# they make the token that they attend to *less* likely, and what they write is read by later
# layers. (The score says less about heads in late layers: they can read what earlier layers have
# written, not only the embedding.)

# %%
copying = circuits.copying_scores(dense)
print(f"induction head {head}: {float(copying[layer, head]):.2f}; all heads of layer {layer}:")
print([round(score, 2) for score in copying[layer].tolist()])
circuits.ov_pairs(dense, layer, head, n=6).to_pandas()

# %% [markdown]
# ## Attention sinks
# The weights of a row always sum to 1, so a head has to attend to some token even if it finds
# nothing to read. A token that receives much attention from many heads for this reason is an
# **attention sink**. In published Qwen3 models it is the first token of the chat. Has this model
# one?

# %%
options = {"sampling": lab.suggested.sampling, "seed": 0}
options |= {"budget": lab.suggested.budget, "max_new_tokens": lab.suggested.recorded_tokens}
chat = lab.chat(question, record=[*circuits.NEEDED, value_weighted.NEEDED], **options)
rec = chat.recording
mass = attention.key_mass(rec)
figures.sink_profile(mass)

# %% [markdown]
# The embedded models have **no sink**: no head of theirs attends to the first token with more than
# a tenth of its attention, on average (their model cards measure it). The last tokens of a text can
# have high values, too, but they are no sinks: hardly any query sees them, and the last one is seen
# by itself alone. So the next cell makes a stand-in, to show what a sink looks like: it adds 4 to
# the score of the first token in all heads of the upper layers, which multiplies its weight before
# normalisation by 55. This model did not learn that.

# %%
upper = range(lab.config.n_layers // 2, lab.config.n_layers)
capture = [*circuits.NEEDED, value_weighted.NEEDED]
ids, sink = rec.token_ids.tolist(), MadeUpSink(nats=4.0, layers=upper)
made_up = lab.record(ids, edits=sink, capture=capture)
sink_mass = attention.key_mass(made_up)
figures.sink_profile(sink_mass)

# %% [markdown]
# ### Exercise 3 (medium)
# Heads that give the first token more than 30% of their attention are often counted as heads with a
# sink (arXiv 2410.10781). How many heads of the run with the made-up sink are there? The figure
# shows means over heads, so count them: `sink_mass` has layer, head and token as axes.

# %%
exercises.sink_heads(sink_mass, answer=None, without=mass, hint=0)

# %% [markdown]
# Attention weights do not show how much a head writes. **Value-weighted attention** multiplies each
# weight by the length of the vector that the head moves from that token. In published models a sink
# often contributes little by this measure, because its value is short; a made-up sink has a value
# like any other token. The **temperature** of a head tells how sharply it can choose: its scores
# are the cosine of query and key divided by the temperature.

# %%
layer, head = divmod(int(sink_mass[:, :, 0].argmax()), lab.config.n_heads)
moved = next(iter(value_weighted.moved_blocks(lab, made_up, layer)))[1][head]
print(f"layer {layer}, head {head}: the first token draws", end=" ")
print(f"{float(made_up.attention[layer, head][:, 0].mean()):.0%} of the attention", end=" and ")
print(f"{float(moved[:, 0].sum() / moved.sum()):.0%} of what is moved")
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
# ### Exercise 4 (medium)
# Another question has a number to look up. When the model writes its answer, which head reads the
# `7`? The query is the last token of the prompt, which predicts the answer; the key is the token
# `7`. Compare the weights of all heads.

# %%
lookup = "lamp 2, book 7, cat 1. book?"
found = lab.chat(lookup, thinking=False, record=True, max_new_tokens=16)
query, key = len(found.prompt_ids) - 1, found.recording.tokens.index("7")
exercises.reads_token(found.recording, query, key, answer=None, hint=0)

# %% [markdown]
# ### Exercise 5 (hard)
# Which head does the model **need** for this answer? Take one away, ask again, and find one without
# which the answer changes. Is it the head that reads the number? (`scaling.head(layer, head)` of
# `qwen3lab.interventions` is an edit that takes a head away.)

# %%
exercises.needed_head(lab, lookup, answer=None, hint=0)

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
# - `figures.save(figures.sink_profile(mass), "map.html")` writes a page that opens without a
#   network.
# - `figures.to_circuitsvis(rec, 0)` and `figures.to_bertviz(rec)` convert attention for those
#   packages, if they are installed.
