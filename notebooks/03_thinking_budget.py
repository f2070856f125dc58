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
# # What a thinking budget buys
#
# Qwen3 answers at once, or thinks first, as long as you let it. Here you watch it think, stop it,
# measure what more thinking buys, and look inside a thinking: when did it know?
#
# **After this notebook you can**
#
# - stop a thinking anywhere, and say what would have been answered there;
# - measure accuracy against the thinking budget, with its uncertainty and its cost;
# - tell which parts of a thinking the answer hangs on, and where the answer looks.

# %%
import qwen3lab
from qwen3lab import exercises, figures, thinking, tiny
from qwen3lab.analysis import budgets, thinking_text
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.widgets import ThinkingExplorer

# %% [markdown]
# The next cell is the only one to change for another model: a name from the hub such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
small = tiny.is_embedded(lab.tokenizer)
lab

# %% [markdown]
# ## Watch it think
# 1. Press **Run**, and at once **Stop thinking now**: the sentence that ends the thinking is
#    inserted (underlined), and the answer follows. (The small model is quick: try a long question.)
# 2. **Drag the marker** along the thinking. What would it have answered there? A tick marks the
#    answer that it gave in the end.
# 3. Beside it stands the answer without any thinking. Is it the same?

# %%
explorer = ThinkingExplorer(lab)
explorer

# %% [markdown]
# ## One thinking answers for every budget
# The problems are chains of arithmetic of which only the last digit counts, from left to right.
# `sweep` thinks once about each, to the largest budget. For every smaller one the memory of the
# thinking is rewound to that point, the early-stop sentence is put there, and only the answer is
# written anew. The answers are, token for token, those of a run for each budget.

# %%
steps = (2, 4, 6, 8, 10, 12)
problems = tiny.chains(lab.tokenizer, n=20, steps=steps, seed=1)
allowed = (0, 4, 10, 16, 22, 28, 34, 40) if small else (0, 64, 128, 256, 512, 1024)
sampling = qwen3lab.Sampling.greedy() if small else None
sweep = thinking.sweep(lab, problems, allowed, sampling=sampling)
sweep.to_pandas().head()

# %% [markdown]
# Accuracy against the budget, with 95% intervals; the open circle is the answer without thinking.
# Where does more thinking begin to pay?

# %%
figures.accuracy_curves([budgets.curve(sweep)])

# %% [markdown]
# The same by the length of the problem, against the tokens that were really spent: short chains
# are solved with little, and then the model stops by itself.

# %%
by_level = [budgets.curve(sweep, level=level) for level in ("2", "6", "12")]
figures.accuracy_curves(by_level, against="tokens")

# %%
figures.thinking_lengths(budgets.natural_lengths(sweep))

# %% [markdown]
# **What does a right answer cost?** Operations count reading the question and writing the reply,
# as a run of its own would.

# %%
for point in budgets.curve(sweep).points:
    print(f"budget {point.budget:4}: {point.right.value:.2f} right, {point.cut.value:.0%} cut,")
    print(f"    {point.tokens_per_right:6.1f} tokens", end=" and ")
    print(f"{point.flops_per_right:.2e} operations for each right answer")

# %% [markdown]
# ## Exercise 1
# Which of the budgets is the least with which at least nine in ten of the chains of 6 steps are
# right? Put it in place of `None`, and run the cell.

# %%
exercises.budget_needed(sweep, level="6", answer=None)

# %% [markdown]
# ## When did it know?
# One problem, and its answer at each point of the thinking. The line marks where the answer changes
# no more: what comes after is thinking that it did not need, if the answer is all you want.

# %%
(problem,) = tiny.chains(lab.tokenizer, n=1, steps=8, seed=2)
options = {"sampling": sampling, "seed": 0, "max_new_tokens": 4096 if not small else 256}
chat = lab.chat(problem.question, record=True, **options)
every = 3 if small else "sentence"
print(chat.thinking[:400], "| answer:", chat.answer, "| right:", problem.grade(chat.answer))

# %%
along = thinking.convergence(lab, chat, every=every, problem=problem, samples=20)
figures.convergence(along)

# %% [markdown]
# ## Exercise 2
# After how many thinking tokens has the answer settled? Hover over the bars to read the thoughts.

# %%
exercises.settles(along, answer=None)

# %% [markdown]
# ## Which parts matter?
# Take one part away, keep all the rest as it was written, and see whether the answer changes. (The
# other way, `how="resample"`, lets the model write on from there: the counterfactual importance of
# "thought anchors". It costs more, and `importance_cost` says beforehand how much.)

# %%
print(thinking.importance_cost(chat, every=every, samples=20))
parts = thinking.importance(lab, chat, every=every, read=problem.read, samples=20)
figures.importance(parts)

# %% [markdown]
# ## Exercise 3
# Without which part does the answer change most? Give its number. Where in the thinking does it
# stand, and why there?

# %%
exercises.crucial_part(parts, answer=None)

# %% [markdown]
# ## Inside the thinking
# Where the model hesitates: entropy of every token, and the fifth with the most, the "forking
# tokens".

# %%
forks = thinking_text.forking_tokens(chat)
print([f"{place} {chat.recording.tokens[place]!r}" for place in forks][:20])
figures.uncertainty(uncertainty(chat))

# %% [markdown]
# **Where the answer looks**: a row for every head, a column for every part. Is the part that
# mattered the one that is looked at?

# %%
figures.answer_looks(thinking_text.answer_looks(chat.recording, thinking.pieces(chat, every)))

# %% [markdown]
# **Which experts serve** the thinking, and which the answer? (Of a dense model there is nothing to
# show here.)

# %%
if lab.config.is_moe:
    loads = [thinking_text.part_loads(chat.recording, part) for part in ("thinking", "answer")]
    display(figures.load_difference(*loads, names=("thinking", "answer")))

# %% [markdown]
# ## Where to go next
# - Several models on one figure: `figures.accuracy_curves([...], against="flops")` and
#   `figures.accuracy_by_size([...])` take a curve for each.
# - Your own problems: `thinking.read_problems("gsm8k.jsonl")`; GSM8K's and MATH's layouts open as
#   they are.
# - A long sweep: `path="sweep.jsonl"` keeps what is done, and goes on after an interrupt.
# - The budget from below: `lab.chat(..., extend=qwen3lab.Extension(times=2))` refuses the first
#   two `</think>` and says "Wait". (The small models have never seen that word there.)
