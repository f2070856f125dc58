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
# looked at from four sides, always on the same held-out texts.
#
# **After this notebook you can**
#
# - tell from curves when a model learned to copy, and which head does it;
# - say what it means that experts specialise, and compare it with chance;
# - read router saturation: how early a router settles what it will choose in the end;
# - put a question to a model whose whole life you have seen.
#
# **What the micro model learns.** Three of the five kinds of text that `tiny-moe` knows: running
# arithmetic (`7+2*3=?`), little stories, and lists to repeat and to look up. For more than half of
# its life it meets nothing but short sequences that repeat, and tallies: from these a head that
# copies forms soonest. Only then come stories, sums and look-up lists, so until then they only get
# stranger to it. Whether a head that copies is born within three minutes depends on the
# machine and on chance; if none comes, grow it longer. The rest only begins.

# %%
from qwen3lab import figures
from qwen3lab.tiny.growth import Growth, saturation
from qwen3lab.widgets import Nursery

# %% [markdown]
# ## The nursery
# Training starts when the next cell runs, in the background: you can read on meanwhile.
#
# 1. **What is left to learn**: cross-entropy above what the texts' own randomness makes
#    unavoidable, one line for each kind of text. Which kind falls first? Where is a cliff?
# 2. **The best head of each kind**, on sequences of twelve words that come twice: a score of 1 is
#    a head that does nothing else. A previous-token head looks at the token before; an induction
#    head looks at what came after the last occurrence of the current token. Does one have to be
#    there before the other?
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
# **The cliff.** At which step did a head first look mostly at what follows the last occurrence?

# %%
scores = {look.step: float(look.heads["induction"].max()) for look in history}
born = [step for step, score in scores.items() if score > 0.5]
print("induction first above 0.5 at step", born[0] if born else "none yet: train longer")

# %% [markdown]
# **Which head is it?** Scores of all heads of the last look, layer by layer.

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
# `growth.lab` is the model as it is now: everything that works on `tiny-moe` works on it.

# %%
lab = nursery.growth.lab
recording = lab.record(" tree king moon star road tree king moon star road tree king")
layer, head = divmod(int(history[-1].heads["induction"].argmax()), lab.config.n_heads)
figures.attention_map(recording.attention[layer, head], recording.tokens, layer=layer, head=head)

# %% [markdown]
# ## Where to go next
# - `Growth(minutes=10)` grows it longer; another `seed` grows another individual. Do the same
#   heads form in the same layers?
# - `qwen3lab train tiny-moe` trains the model that ships with the package, in about two and a half
#   hours on one core; its card lists what it can do, measured.
