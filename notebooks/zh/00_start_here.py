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

# %% [markdown] english="b7e779e36553"
# # 从这里开始：从一个问题到几张图
#
# 这个软件包里带有一个小的 Qwen3 模型，是混合专家（MoE）模型。在这个笔记本里，你向它提一个问题，看着它思考，再看看模型内部发生了什么。
#
# **学完这个笔记本，你能够**
#
# - 分清模型的思考和它的答案，并解释思考预算有什么作用；
# - 读懂注意力图：在某一层的某个头里，每个词元（token）注意前面的哪些词元；
# - 读懂路由图：每个词元被路由到哪些专家；
# - 用 Python 得到所有这些结果，对任何一个 Qwen3 模型都行。
#
# **`tiny-moe` 会什么**。它是从零开始训练的，训练文本是一个小世界里的短文，有英文也有中文：整数的算式（`12+30=?`、`What is 7 times 8?`；从左往右算，任何一个中间值都不能小于 0 或大于 999），几个人交换东西之后谁拿着什么，小故事，程序，以及用来查找的列表。遇到别的问题，比如 `hello`，它会回答说这不在它的世界里。这一点也是它从例子里学来的，所以也可能出错。它的架构和大的 Qwen3 模型一样，只是规模小；你在它里面看到的一切，都是学出来的。

# %%
import qwen3lab
from qwen3lab import figures, tiny
from qwen3lab.analysis.routing import layer_loads, layer_weights
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.widgets import Workbench

# %% [markdown] english="e79dbb2e4234"
# 想换一个模型，只改下一个单元格就行：填 Hugging Face hub 上的名字，比如 `"Qwen/Qwen3-0.6B"`，或者你硬盘上的一个文件夹。

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown] english="6a3ae1cf5e5c"
# ## 工作台
# 运行这个单元格，工作台就会提出第一个问题。每个标签页显示的都是同一次运行；你在一个标签页里选中的东西，在所有标签页里都会选中。试试这些：
#
# 1. 在**文本**标签页里，每个词元按惊异度（surprisal）上色。模型在哪里没把握？点击一个词元，它的各项数值就列在对话下面。
# 2. 打开**注意力**标签页，点击一张缩略图：它的图会在旁边打开，并标出你那个词元所在的行。换一换**层**和**头**；模型不用重新运行。
# 3. 打开**路由**标签页：你的词元在每一层用的是哪些专家？
# 4. 打开设置（问题下面那一行），调低**思考预算**，按**运行**。一句结束思考的话会被插进去（带下划线的词元）。答案还对吗？再关掉**先思考**，重新运行一次。
# 5. 在**例题**里选另一个问题，比如英文或中文的交换题，再到**为什么**标签页里看：是哪一层就知道了答案。
# 6. 输入一道你自己出的算式，再输入一个和这个小世界毫无关系的问题。

# %%
bench = Workbench(lab)
bench

# %% [markdown] english="fb2d88f20c2e"
# ## 用 Python 做同样的事
# `wait()` 等工作台运行完，返回这次运行。（想停下太长的运行，就中断内核；已经生成的词元会保留。）下面的单元格画的就是这次运行。在上面换一个问题，再运行这些单元格，看看图有什么变化。

# %%
chat = bench.wait()
print(chat.thinking)
print("answer:", chat.answer, "| stop:", chat.stop, "| thinking tokens:", chat.thinking_tokens)

# %% [markdown] english="5c1c43c56e04"
# **注意力**：每一行是一个查询，也就是去注意别人的词元；每一列是一个键，也就是被它注意的词元。一行的权重之和是 1，而且一个词元不能注意后面的词元。

# %%
rec = chat.recording
layer, head = bench.state.layer, bench.state.head
figures.attention_map(rec.attention[layer, head])

# %% [markdown] english="3060617ddede"
# **路由**：在每一层，路由器为每个词元选出几个专家，并给每个选中的专家一个权重。这一层把它们的输出按这些权重加起来。灰色的格子表示这个专家没有被选中。稠密模型没有专家，图上会这样写明。

# %%
layer = bench.state.routing_layer
figures.routing_map(layer_weights(rec, layer))

# %% [markdown] english="3f625d5ccd49"
# **负载**：这次运行有多少词元被路由到每个专家？每一层里，哪个专家的负载最高？

# %%
figures.expert_load(layer_loads(rec))

# %% [markdown] english="5370969590f9"
# **不确定性**：熵衡量模型在选定下一个词元之前有多没把握。惊异度衡量选中的词元有多出乎意料。两者的单位都是纳特，0 表示完全确定。这个模型在哪里没把握？

# %%
figures.uncertainty(uncertainty(chat))

# %% [markdown] english="2582558476e3"
# ## 思考预算的作用
# 同一个问题，不同的预算。预算用完时，一句结束思考的话会被插进去，模型只能根据已有的思考作答。这里的预算和采样方式都适合这个模型：它们列在 `lab.suggested` 里。

# %%
question = bench.state.asked
longest = lab.suggested.answer_tokens
for budget in lab.suggested.budgets[:4]:
    options = {"budget": budget, "max_new_tokens": budget + longest}
    short = lab.chat(question, sampling=lab.suggested.sampling, seed=0, **options)
    print(f"budget {budget:3}: {short.answer!r} ({short.stop})")

# %% [markdown] english="2b6d710ea3ce"
# 一个问题说明不了什么。下一张图是 `tiny-moe` 在 500 道题上的准确率，这些题有 1 到 10 步，都不在训练数据里：思考得越多，答对的就越多。这些数字来自软件包里的模型卡。

# %%
card = tiny.read_card("tiny-moe")
figures.budget_curve(card.by_budget, at_once=card.mixed_at_once)

# %% [markdown] english="2c09011b2640"
# ## 接下来
# - `lab.record("any text")` 只记录一段提示，不生成词元。想多记录一些钩子点，就用 `capture=` 写上它们的名字，再用 `rec["blocks.0.hook_resid_post"]` 读出来。
# - `rec.save("run.safetensors")` 保存一份记录；`qwen3lab.Recording.load` 再把它读回来。
# - `rec.routing.to_pandas()` 是一张表，列出路由器的所有选择。
# - 笔记本 `04_how_it_grows` 用三分钟训练一个微型模型，让你看到头和专家是怎样形成的。
# - `qwen3lab.models()` 列出已发布的 Qwen3 模型，以及每个模型需要的内存。
