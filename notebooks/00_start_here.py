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
# # Start here: from a question to plots
#
# A small Qwen3 mixture of experts ships with this package. Here you ask it a question, watch it
# think, and look inside that very run.
#
# **After this notebook you can**
#
# - tell a model's thinking from its answer, and say what a thinking budget does;
# - read an attention map: which token looks where, in one layer and head;
# - read a routing map: which experts serve which token;
# - get each of these from Python, for any Qwen3 model.
#
# **What `tiny-moe` knows.** A small world, on which it was trained from scratch: running arithmetic
# on last digits (`7+2*3-1=?`, from left to right; what it works out, it writes in circles), who
# holds what after people swap things, little stories and programs, and lists to look things up in,
# in English and Chinese. It knows nothing else: other questions get nonsense. Its architecture is
# Qwen3's own, only small, and what you see in it was learned.

# %%
import qwen3lab
from qwen3lab import figures
from qwen3lab.analysis.routing import layer_loads, layer_weights
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.tiny.evaluation.card import read_card
from qwen3lab.widgets import Explorer

# %% [markdown]
# The next cell is the only one to change for another model: a name from the hub such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown]
# ## The explorer
# It asks its first question by itself. Then try:
#
# 1. Move **layer** and **head**: the map is redrawn from the recording, the model does not run.
# 2. Click a token in the conversation: it is marked in every plot, and described in words.
# 3. Lower the **thinking budget** and press **Run**: a sentence that ends the thinking is inserted
#    (the underlined tokens). Is the answer still right?
# 4. Switch **think first** off and ask again.
# 5. Pick another of the **examples**: who holds what, in English or in Chinese. Where is the
#    model unsure?

# %%
explorer = Explorer(lab)
explorer

# %% [markdown]
# ## The same from Python
# `wait()` gives the explorer's last run, once it has ended. (Interrupting the kernel stops a long
# one and keeps what was written.) The cells below plot that run, so ask something else above and
# run them again.

# %%
chat = explorer.wait()
print(chat.thinking)
print("answer:", chat.answer, "| stop:", chat.stop, "| thinking tokens:", chat.thinking_tokens)

# %% [markdown]
# **Attention.** Each row is a token that looks (the query), each column a token that is looked at
# (the key). A row's weights sum to 1, and no token sees a later one.

# %%
rec = chat.recording
layer, head = explorer.state.layer, explorer.state.head
figures.attention_map(rec.attention[layer, head])

# %% [markdown]
# **Routing.** In each layer a router picks a few experts for each token and weighs what they
# write. A grey cell is an expert that was not chosen. A dense model has no experts, and the figure
# says so.

# %%
layer = explorer.state.routing_layer
figures.routing_map(layer_weights(rec, layer))

# %% [markdown]
# **Load.** Summed over the tokens of this run: which experts work most in each layer?

# %%
figures.expert_load(layer_loads(rec))

# %% [markdown]
# **Uncertainty.** Entropy says how open the next token was; surprisal, how unexpected the one that
# came. Both in nats: 0 is certain. Where does this model hesitate?

# %%
figures.uncertainty(uncertainty(chat))

# %% [markdown]
# ## What a budget buys
# The same question with less and less thinking. When the budget is used up, a sentence that ends
# the thinking is inserted, and the model must answer with what it has.

# %%
question = explorer.state.asked
greedy = qwen3lab.Sampling.greedy()
for budget in (0, 1, 4, 7, 10, 13, 16):
    short = lab.chat(question, budget=budget, sampling=greedy, max_new_tokens=256)
    print(f"budget {budget:2}: {short.answer!r} ({short.stop})")

# %% [markdown]
# One question is an anecdote. Over 500 problems of 1 to 12 steps, which `tiny-moe` had never seen,
# more thinking buys more right answers; the numbers are from the card that ships with it.

# %%
card = read_card("tiny-moe")
figures.budget_curve(card.by_budget, at_once=card.mixed_at_once)

# %% [markdown]
# ## Where to go next
# - `lab.record("any text")` records a prompt without generating; `rec["blocks.0.hook_resid_post"]`
#   and every other hook point are there when you name them with `capture=`.
# - `rec.save("run.safetensors")` keeps a run; `qwen3lab.Recording.load` brings it back.
# - `rec.routing.to_pandas()` is a table of every choice that every router made.
# - The notebook `04_how_it_grows` trains a micro model in three minutes, and shows heads and
#   experts as they form.
# - `qwen3lab.models()` lists the published family, and what each model needs.
