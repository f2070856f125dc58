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
# # Why did it write that?
#
# A model wrote a token. In this notebook you follow it back: after which layer the model would have
# written it, which heads and MLPs or experts raised its logit, and what happens when a part is
# taken away or replaced by the same part of another run. Then you change the model's mind.
#
# **After this notebook you can**
#
# - read a lens map: what the model would write if it ended after a layer;
# - split a logit into what each part of the model adds to it, and say what that does not show;
# - find where a prompt's information is, by patching one layer and token at a time;
# - steer a reply with a vector, and measure what else the vector breaks.

# %%
import qwen3lab
from qwen3lab import attribution, exercises, figures, lenses, patching, probes, steering, tiny
from qwen3lab.widgets import WhyExplorer

# %% [markdown]
# To use another model, change only the next cell: give a name from the Hugging Face hub, such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown]
# ## The explorer
# 1. **Click a token of the reply.** The upper map shows its probability as the next token after
#    each layer and each token before it. Below, its logit minus that of the runner-up, part by
#    part. Click a bar to see what that head or expert does; its own view opens from there.
# 2. **What it needs** runs the model again without each head (press **Measure**, if it is large).
#    Click the cell with the largest effect, and **Take away, ask again**. Does the answer change?
# 3. Choose **with the stream of another question**, type a question with the same number of tokens
#    (change one number), and press **Measure**. Where is the number, and where is the result? Click
#    a dark cell, and **Patch, ask again**.
# 4. Type another answer at **rather than**: **Steer, ask again** pushes the reply towards it.

# %%
explorer = WhyExplorer(lab, question="lamp 2, book 7, cat 1. book?", thinking=False)
explorer

# %% [markdown]
# ## The same from Python
# This text is short enough to look at every part. To go on, the model has to look up the number of
# the word that comes again.

# %%
clean, corrupt = "ball 7, key 3, cup 5. key ", "ball 7, key 4, cup 5. key "
right, wrong = "3", "4"
needed = [*lenses.NEEDED, *attribution.needed(lab)]
rec = lab.record(clean, capture=needed)
lab.generate(clean, max_new_tokens=1).text

# %% [markdown]
# ## Which layer knew it?
# The **logit lens** reads the residual stream after each layer with the final norm and the
# unembedding, as if the model ended there. Each cell names the most probable next token.

# %%
lens = lenses.logit_lens(lab, rec)
figures.lens_map(lens, right)

# %% [markdown]
# ### Exercise 1 (easy)
# Looking up a number is quick. Is calculating one as quick? From which layer on is `5` the most
# probable token after `7*8=`? Give the first layer after which it leads and keeps leading.

# %%
product = lab.record("7*8=", capture=needed)
exercises.first_layer(lenses.logit_lens(lab, product), "5", answer=None, hint=0)

# %% [markdown]
# The lens reads each layer in the basis of the last one: that a token does not show does not mean
# that its information is not there. A **tuned lens** maps each layer's stream to what the output
# predicts, and a **Jacobian lens** by its mean first-order effect on the last layer. Both ship for
# the embedded models; for others, `lenses.train` and `lenses.fit_jacobian` make them. In the
# explorer, choose the lens above its map.

# %% [markdown]
# ## What wrote it?
# The residual stream is a sum, and with the scale of the final norm as it was in this run, so is a
# logit. The waterfall shows which parts add most to the logit of `3` minus the logit of `4`.

# %%
parts = attribution.direct(lab, rec, right, other=wrong)
figures.attribution_waterfall(parts)

# %%
figures.attribution_layers(parts)

# %% [markdown]
# ### Exercise 2 (medium)
# Do the same heads calculate? For `7*8=`, which head adds most to the logit of `5` minus the logit
# of `6` directly? Give layer and head, as in `(3, 1)`.

# %%
product_parts = attribution.direct(lab, product, "5", other="6")
exercises.strongest_head(product_parts, answer=None, hint=0)

# %% [markdown]
# Parts also act on later parts: a head that moves a word to a token, for another head to find it
# there, adds nothing to the logit itself. Patching finds those.

# %% [markdown]
# ## What does it need?
# **Patching** runs the text with `key 4`, and puts one activation from the run with `key 3` in
# place. The value is 0 if the logit difference stays as it is with `key 4`, and 1 if it becomes
# that with `key 3`.

# %%
metric = patching.logit_difference(right, wrong)
found = patching.patch(lab, clean=clean, corrupt=corrupt, metric=metric)
figures.patching_map(found)

# %% [markdown]
# At first everything depends on the token where the texts differ, in the end on the last token. In
# which layers does the information move?

# %% [markdown]
# ### Exercise 3 (medium)
# The same for each head's output. Which head moves it? Draw the map, and give layer and head of a
# patch with at least half of the largest effect.

# %%
heads = patching.patch(lab, clean=clean, corrupt=corrupt, metric=metric, site="z")
exercises.decisive_cell(heads, answer=None, hint=0)

# %% [markdown]
# **Attribution patching** estimates all patches from one gradient: the gradient times the
# difference of the activations. It is quick, and not exact. The summary says how well it agrees.

# %%
quick = patching.attribution_patching(lab, clean=clean, corrupt=corrupt, metric=metric, site="z")
quick.agreement(heads)

# %% [markdown]
# ## Put it in and watch
# A **steering vector** is added to the residual stream. This one is the direction along which the
# logit of `4` is read, minus that of `3`. How strong must it be, and what does it break? The curve
# has random directions of the same norm beside it.

# %%
layer = lab.config.n_layers // 2
vector = steering.from_token(lab, wrong, other=right, layer=layer)
texts = [text.token_ids[:32] for text in tiny.texts(lab.tokenizer, n=1)]
curve = steering.strength_curve(
    lab, vector, [clean], patching.logit_difference(wrong, right), neutral=texts, n_random=2
)
figures.strength_curve(curve)

# %% [markdown]
# ### Exercise 4 (medium)
# Make the model go on with `4` after the text with `key 3`. Choose a strength, put it in place of
# `0`, and give `after=after` in place of `after=None`.

# %%
before = lab.generate(clean, max_new_tokens=1).text
after = lab.generate(clean, max_new_tokens=1, edits=0 * vector).text
print(f"before: {before!r}, after: {after!r}")
exercises.changes_the_text(before, after=None, wanted=wrong, hint=0)

# %% [markdown]
# ## Is it there, and is it used?
# A **linear probe** reads a property from an activation. Here it reads the role of each token in
# texts on arithmetic: operand, operator, running value and so on. The grey line is a probe of
# shuffled labels.

# %%
sums = tiny.texts(lab.tokenizer, n=lab.suggested.texts, families=["arithmetic"])
recordings = [lab.record(text.token_ids, capture=lenses.NEEDED) for text in sums]
roles = [[label.role for label in text.labels] for text in sums]
figures.probe_accuracy(probes.fit(lab, recordings, roles))

# %% [markdown]
# That a probe reads something shows that it is there. Whether the model uses it shows only a run
# with it changed: `steering.from_direction` makes a steering vector of a probe's `direction`.

# %% [markdown]
# ### Exercise 5 (hard)
# Fit probes that read something else: whether a token belongs to the question, to the thinking or
# to the answer. Give the probes as the answer. Is it there in every layer?

# %%
exercises.reads_label(answer=None, labels=["question", "thinking", "answer"], hint=0)

# %% [markdown]
# ## Where to go next
# - `patching.ablate(lab, clean, metric=metric)` takes heads away in place of patching them.
# - `paths = {"clean": clean, "corrupt": corrupt, "metric": metric}`, and then
#   `patching.path_patching(lab, sender=patching.head(0, 1), **paths)` follows one head to the parts
#   that read it.
# - In a mixture of experts, the sites `"expert"`, `"expert_choice"` and `"expert_weight"` patch
#   what single experts add, which experts are chosen, and their weights.
# - `attribution.neurons` splits a dense layer's MLP into its neurons.
# - `qwen3lab.metrics.gradients(lab, clean, of=metric)` gives the gradient of a metric at any hook.
