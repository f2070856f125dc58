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

# %% [markdown] english="fdd8c94ceedd"
# # 思考预算
#
# Qwen3 可以直接回答，也可以先思考再回答，而思考的长度可以由你限制。在这个笔记本里，你会看着模型思考、让它停下来，测量准确率怎样随思考预算变化，并找出模型在思考的哪一处已经知道答案。
#
# **学完这个笔记本，你能够**
#
# - 让思考停在任意一处，看模型在那里给出的答案；
# - 画出准确率随思考预算变化的曲线，带置信区间和代价；
# - 找出答案依赖思考的哪些部分，又关注哪些部分；
# - 看出一句提示语是否左右了答案，以及思考里有没有说出来。

# %%
import qwen3lab
from qwen3lab import exercises, figures, thinking, tiny
from qwen3lab.analysis import budgets, thinking_text
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.widgets import ThinkingExplorer

# %% [markdown] english="e79dbb2e4234"
# 想换一个模型，只改下一个单元格就行：填 Hugging Face hub 上的名字，比如 `"Qwen/Qwen3-0.6B"`，或者你硬盘上的一个文件夹。

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown] english="4ae64e424411"
# ## 看它思考
# 1. 按**运行**，然后马上按**现在停止思考**。结束思考的那句话会被插进去（带下划线），后面就是答案。（小模型很快：试一个长一点的问题。）
# 2. 拖动**提前作答**下面的**滑块**，把思考截断。模型在那里会给出什么答案？打勾的答案和最终答案相同。
# 3. **回答**里也有不思考时的答案。它们一样吗？

# %%
explorer = ThinkingExplorer(lab)
explorer

# %% [markdown] english="80e3d9ddb461"
# ## 一次思考，用于所有预算
# 题目是一条条算术链条，从左往右算。`sweep` 对每道题只按最大的预算生成一次思考；对每个更小的预算，它在那一处截断 KV 缓存，插入提前停止句，只生成答案。得到的答案和每个预算单独运行一次时逐个词元都相同。
#
# 预算和题目数量是按这个模型和这台机器推荐的。单元格会先告诉你这次扫描最多要多久。想快一点，就中断它（做完的题目会保留），再把 `lab.suggested` 换成 `lab.suggested.smaller`。

# %%
suggested = lab.suggested
problems = tiny.chains(lab.tokenizer, n=suggested.problems, steps=suggested.steps, seed=1)
print(thinking.sweep_cost(lab, problems, suggested.budgets))
sweep = thinking.sweep(lab, problems, suggested.budgets, sampling=suggested.sampling)
sweep.to_pandas().head()

# %% [markdown] english="a6baa6e2430e"
# 准确率随预算的变化，带 95% 置信区间。空心圆是不思考时的准确率。从哪个预算开始，多思考就有用了？

# %%
figures.accuracy_curves([budgets.curve(sweep)])

# %% [markdown] english="9f9922ec1e70"
# 把短链条和长链条分开看，横轴换成实际用掉的词元数。短链条只需要很少的词元，模型在预算用完之前就自己结束了思考。

# %%
levels = [str(suggested.steps[place]) for place in (0, len(suggested.steps) // 2, -1)]
by_level = [budgets.curve(sweep, level=level) for level in dict.fromkeys(levels)]
figures.accuracy_curves(by_level, against="tokens")

# %%
figures.thinking_lengths(budgets.natural_lengths(sweep))

# %% [markdown] english="d83b022baeb5"
# **得到一个正确答案要花多少**？运算量包括问题的预填充和回答的生成，就像每个预算都单独运行一次那样。

# %%
for point in budgets.curve(sweep).points:
    print(f"budget {point.budget:4}: {point.right.value:.2f} right, {point.cut.value:.0%} cut,")
    print(f"    {point.tokens_per_right:6.1f} tokens", end=" and ")
    print(f"{point.flops_per_right:.2e} operations for each right answer")

# %% [markdown] english="eb1ff4b89658"
# ### 练习 1（容易）
# 图里画的是最短的、最长的和中间长度的链条。第二短的链条要做对至少 90%，最小需要多大的预算？把它填在 `None` 的位置上，运行这个单元格。

# %%
exercises.budget_needed(sweep, level=str(suggested.steps[1]), answer=None, hint=0)

# %% [markdown] english="81540fee5194"
# ### 练习 2（中等）
# 对**最长**的链条，用哪个预算时，得到一个正确答案用的词元最少？先猜一猜：是最小的预算、最大的预算，还是中间的某一个？

# %%
exercises.cheapest_budget(sweep, level=levels[-1], answer=None, hint=0)

# %% [markdown] english="7d02001bb4dc"
# ## 模型什么时候就知道答案了？
# 拿一道题，看它在思考的每一处会给出什么答案。竖线标出的那一处之后，答案不再变化：后面的思考，对得出答案来说已经不需要了。（`chat.thinking_tokens` 比最后一个点多一：它把 `</think>` 前面的换行也算作一个词元。）

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

# %% [markdown] english="ef0b362f2ef6"
# ### 练习 3（中等）
# 下一个单元格对另一道题做同样的事，不画图。经过多少个思考词元之后，它的答案就不再变了？

# %%
(other,) = tiny.chains(lab.tokenizer, n=1, steps=5, seed=7)
second = lab.chat(other.question, record=True, **options)
again = thinking.convergence(lab, second, every=every, problem=other, samples=samples)
exercises.settles(again, answer=None, hint=0)

# %% [markdown] english="af8ba84b117c"
# ## 哪些部分重要？
# 去掉思考的一个部分，其余不变，看答案会不会变。（另一种方法 `how="resample"` 让模型从那一处开始重新往下写。这就是“思想锚点”（thought anchors）那篇论文里的反事实重要性。它的代价更大；`importance_cost` 可以事先估计。）

# %%
print(thinking.importance_cost(chat, every=every, samples=samples, lab=lab))
parts = thinking.importance(lab, chat, every=every, read=problem.read, samples=samples)
figures.importance(parts)

# %% [markdown] english="a8e57ebf1fa7"
# ### 练习 4（中等）
# 在第二道题里，去掉哪一部分，答案变化最大？请给出它的编号；各部分从 0 开始编号。它在思考的什么地方，你能解释为什么吗？

# %%
needed = thinking.importance(lab, second, every=every, read=other.read, samples=samples)
exercises.crucial_part(needed, answer=None, hint=0)

# %% [markdown] english="16efd517010c"
# ## 思考的内部
# 熵显示模型在哪里没把握。“分叉词元”（forking tokens）是熵最高的 20% 的词元。

# %%
forks = thinking_text.forking_tokens(chat)
print([f"{place} {chat.recording.tokens[place]!r}" for place in forks][:20])
figures.uncertainty(uncertainty(chat))

# %% [markdown] english="56c29dd8d2cb"
# **答案的注意力**：每行是一个头，每列是思考的一个部分，编号和上图一致。对答案影响最大的那个部分，答案关注它了吗？

# %%
figures.answer_looks(thinking_text.answer_looks(chat.recording, thinking.pieces(chat, every)))

# %% [markdown] english="8767ca5aa5a3"
# **专家负载**：思考里的和答案里的。（稠密模型没有专家，图上会这样写明。）

# %%
loads = [thinking_text.part_loads(chat.recording, part) for part in ("thinking", "answer")]
figures.load_difference(*loads, names=("thinking", "answer"))

# %% [markdown] english="bd0f0153e21a"
# ## 一句提示语，以及再想一想
# 同一道题，旁边写上一个错误的结果。在内置模型的训练文本里，朋友的话十次里有一次被采纳，而且思考里总会提到；老师的话有一半的次数被采纳，有一半的次数被提到；写着答案的纸条十次里有九次被采纳，却从来不提。每个答案都是它思考的最后一个结果吗？如果你只读思考，你会相信什么？

# %%
wrong = int(problem.answer) + 10
hints = ["", f" I think it is {wrong}.", f" The teacher says {wrong}.", f" (answer key: {wrong})"]
for hint in hints:
    reply = lab.chat(problem.question + hint, **options)
    end = f"…{reply.thinking.strip()[-28:]}"
    print(f"{hint.strip() or 'no hint':24} {end!r} answer: {reply.answer.strip()[:40]!r}")

# %% [markdown] english="4e4069a23623"
# ### 练习 5（难）
# 写一道算式，带上一句**错误**的提示语，要让思考里提到这句提示语，而答案仍然正确。请给出整个问题，写法像 `answer="12+30=? The teacher says 7."`。

# %%
exercises.mentions_hint(lab, answer=None, hint=0)

# %% [markdown] english="85c22aabb1d6"
# **等一等**：延长会把第一个 `</think>` 换成“Wait”，让模型继续想。多出来的思考，模型拿来做什么了？

# %%
longer = lab.chat(problem.question, extend=qwen3lab.Extension(times=1), **options)
print(f"…{longer.thinking.strip()[-60:]}", "| answer:", longer.answer.strip()[:40])

# %% [markdown] english="c75e41f3b1f6"
# ## 接下来
# - 把几个模型画在一张图里：`figures.accuracy_curves([budgets.curve(sweep)], against="flops")` 里每个模型放一条曲线，`figures.accuracy_by_size([budgets.curve(sweep)])` 也一样。
# - 用你自己的题目：`thinking.read_problems("gsm8k.jsonl")` 能读 GSM8K 和 MATH 格式的文件。
# - `thinking.sweep(lab, problems[:4], suggested.budgets[:2], path="sweep.jsonl")` 会保存做完的题目；中断之后，再调用一次就接着做。
# - 对同一句提示语采样多次回答：`lab.chat_batch([problem.question + hint] * 5, seed=0)` 每次抽样都不同。每种来源有多大比例能左右模型？
