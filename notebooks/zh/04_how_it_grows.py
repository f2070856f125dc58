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

# %% [markdown] english="6d17966ed6c1"
# # 训练中，头和专家是怎样形成的
#
# 语言模型一开始只有随机权重。在这里，你用三分钟在这台机器上训练一个：采用 Qwen3 架构的混合专家模型，小到可以看着它学。每隔若干步做一次快照，在同一批留出的文本上测四样东西。之后，再看 `tiny-dense` 训练过程中的快照，它训练的时间要长得多。
#
# **学完这个笔记本，你能够**
#
# - 从曲线上看出模型什么时候学会了复制，是哪些头在做这件事，它们又按什么顺序形成；
# - 解释“专家专门化”是什么意思，并把它和随机水平作比较；
# - 读懂路由饱和度：路由器在训练的多早就做出了最终的选择；
# - 向一个你从头看着它训练出来的模型提问。
#
# **这个微型模型学什么**：`tiny-moe` 会的文本里的三种：算术、小故事，以及用来复述和查找的列表。前 450 步（两个核上一两分钟）几乎全是短序列，后面跟着它的倒序（`tree king moon moon king tree`）。要预测这种序列，相邻两层里的两个头就够了，而这样的头在这种文本上形成得最快。之后才轮到故事、算术和其他列表；在那之前，模型在它们上面的损失是上升的。

# %%
import qwen3lab
from qwen3lab import figures, tiny
from qwen3lab.tiny.growth import Growth, early_life, saturation
from qwen3lab.widgets import Nursery

# %% [markdown] english="8d2f7ca74552"
# ## 育苗室
# 运行下一个单元格，训练就在后台开始，你可以接着往下读。几张图分别是：
#
# 1. **超额损失**：交叉熵比最小值高出多少；文本本身的随机性决定了这个最小值。每种文本一条线。哪一种先降下来？在哪里突然下降？
# 2. **每一类头里最好的一个**：在重复出现两次的十二个单词上取得的最高得分。得分为 1，表示这个头只做这一件事。前一词元头注意前一个词元；重复词元头注意当前词元上一次出现的位置；归纳头注意那个位置之后的词元。前两类头合在一起，就能找到上一次出现位置**之前**的那个词元，而在倒序序列里，它正好就是下一个词元。这是怎么做到的？
# 3. **互信息**：所选专家与文本种类（题型）之间的互信息。灰线是打乱标签后得到的最大值。
# 4. **路由饱和度**：最后一次快照里的专家选择，有多大占比在更早的每次快照里就已经是这样了。
#
# **停止**会暂停训练，**训练**会让它继续。

# %%
nursery = Nursery(Growth(minutes=3))
nursery

# %% [markdown] english="bc96ef046f7d"
# ## 用 Python 做同样的事
# `wait()` 等训练结束，返回所有快照。（想提前结束，就中断内核；已有的快照会保留。）

# %%
history = nursery.wait()
figures.growth(history)

# %% [markdown] english="eff38b4a18f8"
# **每一类头什么时候形成**？它的最高得分在哪一步第一次超过 0.5？（三分钟里不会形成归纳头；下面你会找到一个。）

# %%
for kind in history[-1].heads:
    formed = [snapshot.step for snapshot in history if float(snapshot.heads[kind].max()) > 0.5]
    print(f"{kind:16} above 0.5", f"from step {formed[0]}" if formed else "never")

# %% [markdown] english="553f6518ad96"
# **是哪些头**？下面按层列出最后一次快照里所有头的得分。（训练里加入其他列表以后，重复词元头的得分会下降。那些列表要求模型做什么？）

# %%
for kind, of_heads in history[-1].heads.items():
    print(f"{kind:16}", [[round(score, 2) for score in layer] for layer in of_heads.tolist()])

# %% [markdown] english="4e2da51a14e4"
# **路由饱和度**：每行是一次快照，每列是一层。如果从八个专家里随机选两个，期望值是四分之一。

# %%
saturated = saturation(history)
every = max(1, len(history) // 8)
for snapshot, share in list(zip(history, saturated.tolist(), strict=True))[::every]:
    print(f"step {snapshot.step:5}", [round(value, 2) for value in share])

# %% [markdown] english="d5b260c5fe03"
# ## 使用训练好的模型
# `growth.lab` 就是当前的模型，凡是能对 `tiny-moe` 做的事，对它都能做。这是它最好的重复词元头。

# %%
lab = nursery.growth.lab
recording = lab.record(" tree king moon star road road star moon king tree")
layer, head = divmod(int(history[-1].heads["duplicate token"].argmax()), lab.config.n_heads)
figures.attention_map(recording.attention[layer, head])

# %% [markdown] english="8a3a0150d65e"
# ## `tiny-dense` 的早期训练
# `tiny-dense` 用同样的方法训练，只是时间更长，而且用上了所有种类的文本。软件包里带有它在训练中若干步的权重：`load("tiny-dense", revision="step500")` 加载的是第 500 步之后的权重。

# %%
tiny.revisions("tiny-dense")

# %%
childhood = early_life("tiny-dense")
figures.growth(childhood, log_steps=True)

# %% [markdown] english="034055447f33"
# **归纳头是怎样形成的**：它要读前一词元头的输出，所以前一词元头必须先形成，而且在更靠前的层里。这两类头各在哪一层？

# %%
for snapshot in childhood:
    scores = snapshot.heads["induction"].max(dim=1).values
    print(f"step {snapshot.step:5}  best induction score by layer", [f"{s:.2f}" for s in scores])

# %% [markdown] english="483588f4a911"
# 同一个头，在一段重复两次的序列上：先看 500 步之后的，再看训练完成之后的。

# %%
child = qwen3lab.load("tiny-dense", revision="step500")
layer, head = divmod(int(childhood[-1].heads["induction"].argmax()), child.config.n_heads)
recording = child.record(" tree king moon star road tree king moon star road")
figures.attention_map(recording.attention[layer, head])

# %%
adult = qwen3lab.load("tiny-dense")
recording = adult.record(recording.token_ids.tolist())
figures.attention_map(recording.attention[layer, head])

# %% [markdown] english="98fa52385833"
# ## 接下来
# - `Growth(minutes=10)` 训练得更久；换一个 `seed`，就从另一组随机权重开始。同样的头还会在同样的层里形成吗？
# - 向一个早期的模型提问：`qwen3lab.load("tiny-dense", revision="step2000").chat("12+30=?")`。
# - `qwen3lab train tiny-dense` 会把那个模型重新训练一遍，在一个核上要几个小时；中断了也能接着训练。它的模型卡列出了实测的能力。
