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
# # How it grows: train a micro model and watch its inside form
#
# A language model begins as noise. Here one grows in three minutes, on this machine: a mixture of
# experts with Qwen3's architecture, small enough to train while you look. Every few steps it is
# looked at from four sides, always on the same held-out texts. Then you see the childhood of
# `tiny-dense`, which took longer, from weights that were kept on the way.
#
# **After this notebook you can**
#
# - tell from curves when a model learned to copy, and which heads do it, in which order;
# - say what it means that experts specialise, and compare it with chance;
# - read router saturation: how early a router settles what it will choose in the end;
# - put a question to a model whose whole life you have seen.
#
# **What the micro model learns.** Three of the five kinds of text that `tiny-moe` knows: running
# arithmetic (`7+2*3=?`), little stories, and lists to repeat and to look up. For its first 450
# steps, one minute or two on two cores, it meets hardly anything but short sequences that come back
# from their end (`tree king moon moon king tree`). Two heads in a row answer these, and they form
# soonest from them. Then stories, sums and other lists take their place; until then the model only
# gets stranger to them.

# %%
import qwen3lab
from qwen3lab import figures, tiny
from qwen3lab.tiny.growth import Growth, early_life, saturation
from qwen3lab.widgets import Nursery

# %% [markdown]
# ## The nursery
# Training starts when the next cell runs, in the background: you can read on meanwhile.
#
# 1. **What is left to learn**: cross-entropy above what the texts' own randomness makes
#    unavoidable, one line for each kind of text. Which kind falls first? Where is a cliff?
# 2. **The best head of each kind**, on sequences of twelve words that come twice: a score of 1 is
#    a head that does nothing else. A previous-token head looks at the token before; a
#    duplicate-token head looks at the last occurrence of the current token; an induction head at
#    what came after that. The first two together say what stood *before* the last occurrence, which
#    is what comes next where a sequence comes back. How?
# 3. **What an expert says of the family**: mutual information between the expert that was chosen
#    and the kind of text. The grey lines are the most that shuffled labels gave.
# 4. **Choices of the last look that stood**: the share of its experts that were chosen already.
#
# **Stop** pauses, **Train** goes on. Nothing is lost.

# %%
nursery = Nursery(Growth(minutes=3))
nursery

# %% [markdown]
# ## The same from Python
# `wait()` returns the history when the training has ended. (Interrupt the kernel to stop early:
# what has been seen stays.)

# %%
history = nursery.wait()
figures.growth(history)

# %% [markdown]
# **The cliff.** At which step did each kind of head first look mostly where its kind looks? (Of an
# induction head there is no trace in three minutes. It comes below.)

# %%
for kind in history[-1].heads:
    born = [look.step for look in history if float(look.heads[kind].max()) > 0.5]
    print(f"{kind:16} above 0.5", f"from step {born[0]}" if born else "never")

# %% [markdown]
# **Which heads are they?** Scores of all heads of the last look, layer by layer. (Once other lists
# come, duplicate-token heads weaken: what do those lists ask for?)

# %%
for kind, of_heads in history[-1].heads.items():
    print(f"{kind:16}", [[round(score, 2) for score in layer] for layer in of_heads.tolist()])

# %% [markdown]
# **Router saturation.** One row for each look, one column for each layer. Two of eight experts
# chosen at random would agree in a quarter of the cases.

# %%
stood = saturation(history)
for look, share in list(zip(history, stood.tolist(), strict=True))[:: max(1, len(history) // 8)]:
    print(f"step {look.step:5}", [round(value, 2) for value in share])

# %% [markdown]
# ## Ask what has grown
# `growth.lab` is the model as it is now: everything that works on `tiny-moe` works on it. Here is
# its best duplicate-token head.

# %%
lab = nursery.growth.lab
recording = lab.record(" tree king moon star road road star moon king tree")
layer, head = divmod(int(history[-1].heads["duplicate token"].argmax()), lab.config.n_heads)
figures.attention_map(recording.attention[layer, head])

# %% [markdown]
# ## The childhood of a model that ships
# `tiny-dense` was trained like this, for longer and on all five kinds of text. Its weights were
# kept on the way, and some of them ship: `load("tiny-dense", revision="step500")` opens a child.

# %%
tiny.revisions("tiny-dense")

# %%
childhood = early_life("tiny-dense")
figures.growth(childhood, log_steps=True)

# %% [markdown]
# **The birth of an induction head.** It reads what a previous-token head has written, so that head
# must be there first, and in a layer below. Which layer does each kind live in?

# %%
for look in childhood:
    scores = look.heads["induction"].max(dim=1).values
    print(f"step {look.step:5}  best induction score by layer", [f"{s:.2f}" for s in scores])

# %% [markdown]
# The same head, as a child and as an adult, on a sequence that comes twice.

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
# ## Where to go next
# - `Growth(minutes=10)` grows it longer; another `seed` grows another individual. Do the same
#   heads form in the same layers?
# - Ask a child: `qwen3lab.load("tiny-dense", revision="step2000").chat("7+2*3=?")`.
# - `qwen3lab train tiny-dense` trains that model again, in about three quarters of an hour on
#   two cores; its card lists what it can do, measured.
