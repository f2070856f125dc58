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

# %% [markdown] english="2793266d00e1"
# # 从这里开始：从一个问题到几张图
#
# 这个软件包里带有一个小的 Qwen3 模型，是混合专家（MoE）模型。在这个笔记本里，你向它提一个问题，看着它思考，再看看模型内部发生了什么。
#
# **学完这个笔记本，你能够**
#
# - 分清模型的思考和它的答案，并解释思考预算有什么作用；
# - 读懂注意力图：在某一层的某个头里，每个词元（token）关注前面的哪些词元；
# - 读懂路由图：每个词元被路由到哪些专家；
# - 用 Python 得到所有这些结果，对任何一个 Qwen3 模型都行。
#
# **怎样运行单元格**：点击它，再按 **Shift+Enter**。从上到下依次运行；还没运行完的单元格，左边会有 `[*]`。
#
# **`tiny-moe` 会什么**：它是从零开始训练的，训练文本是一个小世界里的短文，有英文也有中文：整数的算式（`12+30=?`、`What is 7 times 8?`；从左往右算，任何一个中间值都不能小于 0 或大于 999），几个人交换东西之后谁拿着什么，小故事，程序，以及用来查找的列表。遇到别的问题，比如 `hello`，它会回答说这不在它的世界里。这一点也是它从例子里学来的，所以也可能出错。它的架构和大的 Qwen3 模型一样，只是规模小；你在它里面看到的一切，都是学出来的。

# %%
import qwen3lab
from qwen3lab import exercises, figures, tiny
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
# 1. 在**文本**标签页里，每个词元按惊异度（surprisal）着色。模型在哪里没把握？点击一个词元，它的各项数值就列在对话下面。
# 2. 打开**注意力**标签页，点击一张缩略图：它的图会在旁边打开，并标出你那个词元所在的行。换一换**层**和**头**；模型不用重新运行。
# 3. 打开**路由**标签页：你的词元在每一层用的是哪些专家？
# 4. 打开设置（问题下面那一行），调低**思考预算**，按**运行**。一句结束思考的话会被插进去（带下划线的词元）。答案还对吗？再关掉**先思考**，重新运行一次。
# 5. 在**例子**里选另一个问题，比如英文或中文的交换题，再到**为什么**标签页里看：是哪一层就知道了答案。
# 6. 输入一道你自己出的算式，用中文也行：`12加30等于几？`。再试一道交换题：`小明拿着球。小红拿着书。小刚拿着灯。小明和小红交换。小红拿着什么？`。最后输入一个和这个小世界毫无关系的问题，比如 `今天天气怎么样？`。

# %%
bench = Workbench(lab)
bench

# %% [markdown] english="6f88b11d6b2e"
# ## 用 Python 做同样的事
# `wait()` 等工作台运行完，返回这次运行。（想停下太长的运行，就中断内核；已经生成的词元会保留。）下面的单元格画的就是这次运行。在上面换一个问题，再运行这些单元格，看看图有什么变化。`tiny.mark` 告诉你答案对不对：算式和交换题的正确答案，它自己会算。（打印出来的 answer 是答案，stop 是停下来的原因，thinking tokens 是思考用掉的词元数。）

# %%
chat = bench.wait()
question = bench.state.asked
print(chat.thinking)
print("answer:", chat.answer, "|", tiny.mark(question, chat.answer), "| stop:", chat.stop)
print("thinking tokens:", chat.thinking_tokens)

# %% [markdown] english="5c1c43c56e04"
# **注意力**：每一行是一个查询，也就是去关注别人的词元；每一列是一个键，也就是被它关注的词元。一行的权重之和是 1，而且一个词元不能关注后面的词元。

# %%
rec = chat.recording
layer, head = bench.state.layer, bench.state.head
figures.attention_map(rec.attention[layer, head])

# %% [markdown] english="e16dd72f8247"
# ### 练习 1（容易）
# 下一个单元格换了一个头。在这个头里，词元 12 关注得最多的是哪个词元？把那个词元的位置填在 `None` 的地方，运行这个单元格：它会告诉你对不对，不对的话，为什么。把 `hint=0` 换成 `hint=1`、2 或 3，它会给你提示；只有最后一个提示才说出答案。

# %%
pattern = rec.attention[1, 3]
exercises.most_attended(pattern, query=12, answer=None, hint=0)

# %% [markdown] english="3060617ddede"
# **路由**：在每一层，路由器为每个词元选出几个专家，并给每个选中的专家一个权重。这一层把它们的输出按这些权重加起来。灰色的格子表示这个专家没有被选中。稠密模型没有专家，图上会这样写明。

# %%
layer = bench.state.routing_layer
figures.routing_map(layer_weights(rec, layer))

# %% [markdown] english="1355467e5ce7"
# ### 练习 2（容易）
# 在**最后**一层，词元 8 的哪个专家权重最大？（上面的图画的是另一层。）

# %%
last_layer = lab.config.n_layers - 1
exercises.heaviest_expert(rec, last_layer, token=8, answer=None, hint=0)

# %% [markdown] english="3f625d5ccd49"
# **负载**：这次运行有多少词元被路由到每个专家？每一层里，哪个专家的负载最高？

# %%
figures.expert_load(layer_loads(rec))

# %% [markdown] english="616db07f5ddb"
# **不确定性**：熵衡量模型在选定下一个词元之前有多没把握。惊异度衡量选中的词元有多出乎意料。两者的单位都是纳特，0 表示完全确定。一道算式的大多数词元都接近 0：前面的文本已经把它们定下来了。这个模型在哪里没把握？看那些峰：那里是什么词元，换成别的什么也说得通？

# %%
figures.uncertainty(uncertainty(chat))

# %% [markdown] english="63b8b0474a51"
# ### 练习 3（中等）
# 再来一道算式，模型在思考时会退回去重做一步。在写出回答里的哪个词元之前，它最没把握？请给出这个词元在整段文本里的位置。那里发生了什么？

# %%
doubt = lab.chat("7*6*7-0*3-31-9=?", sampling=lab.suggested.sampling, seed=0, record=True)
exercises.most_uncertain(uncertainty(doubt), answer=None, hint=0)

# %% [markdown] english="2582558476e3"
# ## 思考预算的作用
# 同一个问题，不同的预算。预算用完时，一句结束思考的话会被插进去，模型只能根据已有的思考作答。这里的预算和采样方式都适合这个模型：它们列在 `lab.suggested` 里。

# %%
longest = lab.suggested.answer_tokens
for budget in lab.suggested.budgets[:4]:
    options = {"budget": budget, "max_new_tokens": budget + longest}
    short = lab.chat(question, sampling=lab.suggested.sampling, seed=0, **options)
    mark = tiny.mark(question, short.answer)
    print(f"budget {budget:3}: {short.answer!r} is {mark} (stop: {short.stop})")

# %% [markdown] english="0ec1a1e80f53"
# 对第一个例子来说，预算小时答案是错的，预算最大时答案才对。（在上面换一个问题，结果可能就不一样。）`stop` 说明思考是被预算打断的，还是模型自己结束的（`natural`）。

# %% [markdown] english="c77870bb1feb"
# ### 练习 4（中等）
# 对下面这道算式，多大的预算才**刚好够**：用它能答对，再少一个词元就答错？像上面的单元格那样，换成你自己的预算去问。

# %%
exercises.enough_thinking(lab, "9*6-27+15*2+38=?", answer=None, hint=0)

# %% [markdown] english="9fb5f36890e9"
# ### 练习 5（难）
# 写一道算式，让模型直接回答时出错，先思考再回答时答对，写法像 `answer="12+30=?"`。这道算式最短能短到什么程度？

# %%
exercises.needs_thinking(lab, answer=None, hint=0)

# %% [markdown] english="2b6d710ea3ce"
# 一个问题说明不了什么。下一张图是 `tiny-moe` 在 500 道题上的准确率，这些题有 1 到 10 步，都不在训练数据里：思考得越多，答对的就越多。这些数字来自软件包里的模型卡。

# %%
card = tiny.read_card("tiny-moe")
figures.budget_curve(card.by_budget, at_once=card.mixed_at_once)

# %% [markdown] english="6f46ca999c17"
# ## 接下来
# 其他的笔记本，依次是：
#
# - `01_attention`：注意力头读取什么，其中哪些在做复制；
# - `02_expert_routing`：专家专精于什么，没有它们会怎样；
# - `03_thinking_budget`：一个答案需要多少思考，需要思考的哪一部分；
# - `04_how_it_grows`：一个微型模型就在你眼前训练，你会看到头和专家怎样形成；
# - `05_why`：是什么写出了一个词元，又怎样让模型改变主意；
# - `06_at_scale`：十万个词元，一份所有专家的图谱，以及专家更少的模型。
#
# 在这里还可以试试：
#
# - `lab.record("any text")` 只记录一段提示，不生成词元。
# - `more = lab.record("7*8=?", capture="blocks.0.hook_resid_post")` 多记录一个钩子点，再用 `more["blocks.0.hook_resid_post"]` 读出它的值。
# - `rec.save("run.safetensors")` 保存一份记录；`qwen3lab.Recording.load("run.safetensors")` 再把它读回来。
# - `rec.routing.to_pandas()` 是一张表，列出路由器的所有选择。
# - `qwen3lab.models()` 列出已发布的 Qwen3 模型，以及每个模型需要的内存。
