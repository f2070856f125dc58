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
# This package contains a small Qwen3 model, a mixture of experts. In this notebook you ask it a
# question, watch it think, and look at what happens inside the model.
#
# **After this notebook you can**
#
# - separate a model's thinking from its answer, and explain what a thinking budget does;
# - read an attention map: to which earlier tokens each token attends, in one layer and head;
# - read a routing map: to which experts each token is routed;
# - get all of these from Python, for any Qwen3 model.
#
# **To run a cell**, click it and press **Shift+Enter**. Run the cells from top to bottom; a cell
# that still runs has a `[*]` on its left.
#
# **What `tiny-moe` knows.** It was trained from scratch on short texts of a small world, in English
# and Chinese: sums of whole numbers (`12+30=?`, `What is 7 times 8?`; it calculates from left to
# right, and no value may be below 0 or above 999), who holds which object after people swap, little
# stories, programs, and lists to look things up in. To other questions, such as `hello`, it replies
# that they are outside of its world. It learned that from examples, too, and it can be wrong. It
# has the architecture of the large Qwen3 models at a small size, and everything that you see in it
# was learned.

# %%
import qwen3lab
from qwen3lab import exercises, figures, tiny
from qwen3lab.analysis.routing import layer_loads, layer_weights
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.widgets import Workbench

# %% [markdown]
# To use another model, change only the next cell: give a name from the Hugging Face hub, such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown]
# ## The workbench
# The workbench asks its first question when you run the cell. Every tab shows the same run, and
# what you pick in one of them is picked in all. Try this:
#
# 1. In the tab **Text**, each token is shaded by its surprisal. Where is the model uncertain? Click
#    a token: its values are listed below the conversation.
# 2. Open the tab **Attention**, and click a thumbnail: its map opens beside it, with the row of
#    your token marked. Change **layer** and **head**; the model does not run again.
# 3. Open the tab **Routing**: which experts does your token use in every layer?
# 4. Open the settings (the line below the question), lower the **thinking budget**, and press
#    **Run**. A sentence that ends the thinking is inserted (the underlined tokens). Is the answer
#    still right? Then switch **think first** off, and run again.
# 5. Choose another question under **Examples**, such as the swaps in English or Chinese, and see in
#    the tab **Why** which layer knew its answer.
# 6. Type a sum of your own, then a question that has nothing to do with this world.

# %%
bench = Workbench(lab)
bench

# %% [markdown]
# ## The same from Python
# `wait()` waits for the workbench's run and returns it. (Interrupt the kernel to stop a long run;
# the tokens generated so far are kept.) The cells below plot that run. Ask another question above
# and run them again to see how the plots change. `tiny.mark` says whether an answer is right: it
# computes the truth of sums and of swaps.

# %%
chat = bench.wait()
question = bench.state.asked
print(chat.thinking)
print("answer:", chat.answer, "|", tiny.mark(question, chat.answer), "| stop:", chat.stop)
print("thinking tokens:", chat.thinking_tokens)

# %% [markdown]
# **Attention.** Each row is a query: the token that attends. Each column is a key: the token that
# it attends to. The weights of a row sum to 1, and a token cannot attend to later tokens.

# %%
rec = chat.recording
layer, head = bench.state.layer, bench.state.head
figures.attention_map(rec.attention[layer, head])

# %% [markdown]
# ### Exercise 1 (easy)
# The next cell takes another head. To which token does token 12 attend most in it? Put the position
# of that token in place of `None`, and run the cell: it says whether you are right, and if not,
# why. With `hint=1`, 2 or 3 in place of `hint=0` it helps you; only the last hint tells the answer.

# %%
pattern = rec.attention[1, 3]
exercises.most_attended(pattern, query=12, answer=None, hint=0)

# %% [markdown]
# **Routing.** In each layer, a router chooses a few experts for each token, and gives each chosen
# expert a weight. The layer adds up their outputs with these weights. A grey cell means that the
# expert was not chosen. A dense model has no experts, and the figure says so.

# %%
layer = bench.state.routing_layer
figures.routing_map(layer_weights(rec, layer))

# %% [markdown]
# ### Exercise 2 (easy)
# Which expert of the **last** layer gets the largest weight for token 8? (The map above shows
# another layer.)

# %%
last_layer = lab.config.n_layers - 1
exercises.heaviest_expert(rec, last_layer, token=8, answer=None, hint=0)

# %% [markdown]
# **Load.** How many tokens of this run are routed to each expert? Which expert of each layer has
# the highest load?

# %%
figures.expert_load(layer_loads(rec))

# %% [markdown]
# **Uncertainty.** Entropy measures how uncertain the model is about the next token, before it is
# chosen. Surprisal measures how unlikely the chosen token was. Both are in nats, and 0 means
# certain. Most tokens of a sum are near 0: the text before them determines them. Where is this
# model uncertain? Look at the peaks: which tokens are there, and what else could follow?

# %%
figures.uncertainty(uncertainty(chat))

# %% [markdown]
# ### Exercise 3 (medium)
# Another sum, in whose thinking the model goes back to a step. Before which token of its reply was
# it most uncertain? Give the token's position in the whole text. What happens there?

# %%
doubt = lab.chat("7*6*7-0*3-31-9=?", sampling=lab.suggested.sampling, seed=0, record=True)
exercises.most_uncertain(uncertainty(doubt), answer=None, hint=0)

# %% [markdown]
# ## The effect of a thinking budget
# The same question with different budgets. When the budget is used up, a sentence that ends the
# thinking is inserted, and the model has to answer from the thinking so far. The budgets, and the
# way in which tokens are sampled, fit this model: `lab.suggested` lists them.

# %%
longest = lab.suggested.answer_tokens
for budget in lab.suggested.budgets[:4]:
    options = {"budget": budget, "max_new_tokens": budget + longest}
    short = lab.chat(question, sampling=lab.suggested.sampling, seed=0, **options)
    mark = tiny.mark(question, short.answer)
    print(f"budget {budget:3}: {short.answer!r} is {mark} (stop: {short.stop})")

# %% [markdown]
# For the first example, the small budgets give wrong answers, and the largest one the right answer.
# (Ask something else above, and it may look different.) `stop` says whether the budget ended the
# thinking, or the model by itself (`natural`).

# %% [markdown]
# ### Exercise 4 (medium)
# Which budget is **just enough** for the sum below: right with it, and wrong with one token less?
# Ask with budgets of your own, as the cell above does.

# %%
exercises.enough_thinking(lab, "9*6-27+15*2+38=?", answer=None, hint=0)

# %% [markdown]
# ### Exercise 5 (hard)
# Write a sum that the model gets wrong when it answers at once, and right when it thinks first, as
# in `answer="12+30=?"`. How short can it be?

# %%
exercises.needs_thinking(lab, answer=None, hint=0)

# %% [markdown]
# One question shows little. The next figure has the accuracy of `tiny-moe` on 500 problems of 1 to
# 10 steps that were not in its training data: with more thinking, more answers are right. The
# numbers come from the model card in this package.

# %%
card = tiny.read_card("tiny-moe")
figures.budget_curve(card.by_budget, at_once=card.mixed_at_once)

# %% [markdown]
# ## Where to go next
# The other notebooks, in order:
#
# - `01_attention`: what heads read, and which of them copy;
# - `02_expert_routing`: what experts specialise in, and what happens without them;
# - `03_thinking_budget`: how much thinking an answer needs, and which part of it;
# - `04_how_it_grows`: a micro model trains before your eyes, and you see heads and experts form;
# - `05_why`: what wrote a token, and how to change the model's mind;
# - `06_at_scale`: 100,000 tokens, an atlas of all experts, and models with fewer of them.
#
# More to try here:
#
# - `lab.record("any text")` records a prompt without generating tokens.
# - `more = lab.record("7*8=?", capture="blocks.0.hook_resid_post")` records one more hook point;
#   `more["blocks.0.hook_resid_post"]` reads it.
# - `rec.save("run.safetensors")` saves a recording; `qwen3lab.Recording.load("run.safetensors")`
#   reads it again.
# - `rec.routing.to_pandas()` is a table of all router choices.
# - `qwen3lab.models()` lists the published Qwen3 models and the memory that each one needs.
