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
# # The thinking budget
#
# Qwen3 can answer directly or think first, and you can limit the thinking. In this notebook you
# watch the model think, stop it, measure how accuracy depends on the thinking budget, and find the
# point of the thinking where the model knows the answer.
#
# **After this notebook you can**
#
# - stop the thinking at any point, and see the answer that the model gives there;
# - measure accuracy against the thinking budget, with confidence intervals and cost;
# - find the parts of the thinking that the answer depends on, and the parts that it attends to;
# - see whether a hint sways the answer, and whether the thinking says so.

# %%
import qwen3lab
from qwen3lab import exercises, figures, thinking, tiny
from qwen3lab.analysis import budgets, thinking_text
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.widgets import ThinkingExplorer

# %% [markdown]
# To use another model, change only the next cell: give a name from the Hugging Face hub, such as
# `"Qwen/Qwen3-0.6B"`, or a folder on your disk.

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown]
# ## Watch it think
# 1. Press **Run**, and quickly **Stop thinking now**. The sentence that ends the thinking is
#    inserted (underlined), and the answer follows. (The small model is fast: try a long question.)
# 2. **Drag the slider** under **Early answers** to cut the thinking. Which answer does the model
#    give there? A tick marks answers that are equal to the final answer.
# 3. **Replies** also shows the answer without thinking. Is it the same?

# %%
explorer = ThinkingExplorer(lab)
explorer

# %% [markdown]
# ## One thinking for all budgets
# The problems are chains of arithmetic, calculated from left to right. `sweep` generates the
# thinking of each problem once, with the largest budget. For each smaller budget it cuts the KV
# cache at that point, inserts the early-stop sentence, and generates only the answer. The answers
# are the same, token for token, as in separate runs for each budget.
#
# Budgets and number of problems are those suggested for this model and machine. The cell first
# says how long the sweep takes at most. For a shorter one, interrupt it (finished problems are
# kept), and put `lab.suggested.smaller` in place of `lab.suggested`.

# %%
suggested = lab.suggested
problems = tiny.chains(lab.tokenizer, n=suggested.problems, steps=suggested.steps, seed=1)
print(thinking.sweep_cost(lab, problems, suggested.budgets))
sweep = thinking.sweep(lab, problems, suggested.budgets, sampling=suggested.sampling)
sweep.to_pandas().head()

# %% [markdown]
# Accuracy against the budget, with 95% confidence intervals. The open circle is the accuracy
# without thinking. From which budget does more thinking help?

# %%
figures.accuracy_curves([budgets.curve(sweep)])

# %% [markdown]
# The same for short and long chains, against the number of tokens actually used. Short chains
# need few tokens, and the model then ends its thinking before the budget is used up.

# %%
levels = [str(suggested.steps[place]) for place in (0, len(suggested.steps) // 2, -1)]
by_level = [budgets.curve(sweep, level=level) for level in dict.fromkeys(levels)]
figures.accuracy_curves(by_level, against="tokens")

# %%
figures.thinking_lengths(budgets.natural_lengths(sweep))

# %% [markdown]
# **What does a right answer cost?** The operations include the prefill of the question and the
# generation of the reply, as in a separate run for each budget.

# %%
for point in budgets.curve(sweep).points:
    print(f"budget {point.budget:4}: {point.right.value:.2f} right, {point.cut.value:.0%} cut,")
    print(f"    {point.tokens_per_right:6.1f} tokens", end=" and ")
    print(f"{point.flops_per_right:.2e} operations for each right answer")

# %% [markdown]
# ### Exercise 1 (easy)
# The figures show the shortest, the longest and the middle length of the chains. For the second
# shortest, what is the smallest budget with which at least 90% are right? Put it in place of `None`
# and run the cell.

# %%
exercises.budget_needed(sweep, level=str(suggested.steps[1]), answer=None, hint=0)

# %% [markdown]
# ### Exercise 2 (medium)
# For the **longest** chains, with which budget does a right answer cost the fewest tokens? Guess
# first: is it the smallest budget, the largest one, or one between?

# %%
exercises.cheapest_budget(sweep, level=levels[-1], answer=None, hint=0)

# %% [markdown]
# ## When does the model know the answer?
# One problem, and the answer at each point of its thinking. The line marks the point after which
# the answer does not change any more. The thinking after this point is not needed for the answer.
# (`chat.thinking_tokens` is one more than the last point: it also counts the line break before
# `</think>`.)

# %%
(problem,) = tiny.chains(lab.tokenizer, n=1, steps=5, seed=1)
options = {"sampling": suggested.sampling, "seed": 0, "budget": suggested.budget}
options["max_new_tokens"] = suggested.recorded_tokens
chat = lab.chat(problem.question, record=True, **options)
every, samples = suggested.every, suggested.samples
print(chat.thinking[:400], "| answer:", chat.answer, "| right:", problem.grade(chat.answer))

# %%
print(thinking.convergence_cost(lab, chat, every=every, samples=samples))
along = thinking.convergence(lab, chat, every=every, problem=problem, samples=samples)
figures.convergence(along)

# %% [markdown]
# ### Exercise 3 (medium)
# The next cell does the same for another problem, without a figure. After how many thinking tokens
# does its answer stay the same?

# %%
(other,) = tiny.chains(lab.tokenizer, n=1, steps=5, seed=7)
second = lab.chat(other.question, record=True, **options)
again = thinking.convergence(lab, second, every=every, problem=other, samples=samples)
exercises.settles(again, answer=None, hint=0)

# %% [markdown]
# ## Which parts matter?
# Remove one part of the thinking, keep the rest unchanged, and see whether the answer changes. (The
# other method, `how="resample"`, lets the model continue from that point with new text. This is the
# counterfactual importance from the paper on "thought anchors". It costs more; `importance_cost`
# estimates the cost in advance.)

# %%
print(thinking.importance_cost(chat, every=every, samples=samples, lab=lab))
parts = thinking.importance(lab, chat, every=every, read=problem.read, samples=samples)
figures.importance(parts)

# %% [markdown]
# ### Exercise 4 (medium)
# In the second problem, which part changes the answer most when it is removed? Give its number;
# parts are counted from 0. Where in the thinking is it, and can you explain why?

# %%
needed = thinking.importance(lab, second, every=every, read=other.read, samples=samples)
exercises.crucial_part(needed, answer=None, hint=0)

# %% [markdown]
# ## Inside the thinking
# The entropy shows where the model is uncertain. The "forking tokens" are the 20% of the tokens
# with the highest entropy.

# %%
forks = thinking_text.forking_tokens(chat)
print([f"{place} {chat.recording.tokens[place]!r}" for place in forks][:20])
figures.uncertainty(uncertainty(chat))

# %% [markdown]
# **Attention of the answer**: one row per head, one column per part of the thinking, with the
# numbers of the figure above. Does the answer attend to the part that changed it most?

# %%
figures.answer_looks(thinking_text.answer_looks(chat.recording, thinking.pieces(chat, every)))

# %% [markdown]
# **Expert load** in the thinking and in the answer. (A dense model has no experts, and the figure
# says so.)

# %%
loads = [thinking_text.part_loads(chat.recording, part) for part in ("thinking", "answer")]
figures.load_difference(*loads, names=("thinking", "answer"))

# %% [markdown]
# ## A hint, and a second thought
# The same problem, with a wrong result beside it. In the training texts of the embedded models, a
# friend was followed one time in ten and always mentioned in the thinking; a teacher was followed,
# and mentioned, every second time; a note with the answer was followed nine times in ten and never
# mentioned. Is each answer the last result of its thinking? What would you believe if you read only
# the thinking?

# %%
wrong = int(problem.answer) + 10
hints = ["", f" I think it is {wrong}.", f" The teacher says {wrong}.", f" (answer key: {wrong})"]
for hint in hints:
    reply = lab.chat(problem.question + hint, **options)
    end = f"…{reply.thinking.strip()[-28:]}"
    print(f"{hint.strip() or 'no hint':24} {end!r} answer: {reply.answer.strip()[:40]!r}")

# %% [markdown]
# ### Exercise 5 (hard)
# Write a sum with a **wrong** hint such that the thinking names the hint, and the answer is right
# all the same. Give the whole question, as in `answer="12+30=? The teacher says 7."`.

# %%
exercises.mentions_hint(lab, answer=None, hint=0)

# %% [markdown]
# **Wait.** An extension puts "Wait" in place of the first `</think>`, and the model goes on. What
# does it do with the additional thinking?

# %%
longer = lab.chat(problem.question, extend=qwen3lab.Extension(times=1), **options)
print(f"…{longer.thinking.strip()[-60:]}", "| answer:", longer.answer.strip()[:40])

# %% [markdown]
# ## Where to go next
# - Several models in one figure: `figures.accuracy_curves([budgets.curve(sweep)], against="flops")`
#   takes one curve per model, and so does `figures.accuracy_by_size([budgets.curve(sweep)])`.
# - Your own problems: `thinking.read_problems("gsm8k.jsonl")` reads files in the formats of GSM8K
#   and MATH.
# - `thinking.sweep(lab, problems[:4], suggested.budgets[:2], path="sweep.jsonl")` saves finished
#   problems, and the same call continues after an interrupt.
# - Sample the replies to a hint: `lab.chat_batch([problem.question + hint] * 5, seed=0)` draws
#   differently for each. How often does each source sway the model?
