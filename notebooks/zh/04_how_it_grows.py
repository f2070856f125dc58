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

# %% [markdown] english="99718f97dfa6"
# # 训练中，头和专家是怎样形成的
#
# 语言模型一开始只有随机权重。在这里，你会看到一个模型怎样学习：它是采用 Qwen3 架构的混合专家模型，小到一台笔记本电脑几分钟就能训练好。每隔若干步做一次快照，在同一批留出的文本上测四样东西。然后，你去看 `tiny-dense` 训练过程中的快照，它训练的时间要长得多。
#
# **学完这个笔记本，你能够**
#
# - 从曲线上看出模型什么时候学会了复制，是哪些头在做这件事，它们又按什么顺序形成；
# - 解释“专家专门化”是什么意思，并把它和随机水平作比较；
# - 读懂路由器的饱和度：路由器在训练中多早就做出了最终的选择；
# - 向一个你从头看着它训练出来的模型提问。
#
# **这个微型模型学什么**：`tiny-moe` 会的文本里的三种，即算术、小故事，以及用来复述和查找的列表。前 450 步，也就是训练的一半，几乎全是这样的短文：先是一小段序列，再是它的倒序（`tree king moon moon king tree`）。要预测这种序列，相邻两层里的两个头就够了，而这样的头在这种文本上形成得最快。之后才轮到故事、算术和其他列表；在那之前，故事上的损失是上升的。

# %%
import qwen3lab
from qwen3lab import exercises, figures, tiny
from qwen3lab.tiny.growth import early_life, saturation
from qwen3lab.widgets import Nursery

# %% [markdown] english="be0cc3d4e7eb"
# ## 育苗室
# 这次训练是一份**记录**，是用同样的代码事先做好的：种子为 0，训练 900 步，2026 年 11 月 30 日在一台服务器的一个核上完成；软件包里带有它的各次快照和训练结束时的权重。想自己训练一个，就在下一个单元格里写 `train_now=True`：在你的机器上要三分钟，训练在后台进行，你可以接着往下读。你得到的曲线会有所不同，因为步数取决于机器的速度。几张图分别是：
#
# 1. **超出的损失**：交叉熵比最小值高出多少；文本本身的随机性决定了这个最小值。每种文本一条线。哪一种先降下来？在哪里突然下降？
# 2. **每种注意力头中得分最高的**：在重复出现两次的十二个单词上取得的最高得分。得分为 1，表示这个头只做这一件事。前一词元头关注前一个词元；重复词元头关注当前词元上一次出现的位置；归纳头关注那个位置之后的词元。前两类头合在一起，就能找到上一次出现位置**之前**的那个词元，而在倒序序列里，它正好就是下一个词元。这是怎么做到的？
# 3. **互信息**：所选专家与文本种类（题型）之间的互信息。灰线是打乱标签后得到的最大值。
# 4. **路由器的饱和度**：最后一次快照里的专家选择，有多大占比在更早的每次快照里就已经是这样了。
#
# 在这里训练时，**停止**会暂停训练，**训练**会让它继续。

# %%
nursery = Nursery(train_now=False)
nursery

# %% [markdown] english="0ef80a5250ec"
# ## `tiny-dense` 的早期训练
# 再来看另一个模型。`tiny-dense` 用同样的方法训练，只是时间更长，而且用上了所有种类的文本。软件包里带有它在训练中若干步的权重：`load("tiny-dense", revision="step500")` 加载的是第 500 步之后的权重。

# %%
tiny.revisions("tiny-dense")

# %%
childhood = early_life("tiny-dense")
figures.growth(childhood, log_steps=True)

# %% [markdown] english="5bb7c1d70d44"
# ### 练习 1（容易）
# 在这些训练步里，最好的**前一词元头**在哪一步第一次达到 0.4 分或更高？把这个步数填在 `None` 的位置上。再和下面的归纳头作比较。

# %%
exercises.formed(childhood, "previous token", answer=None, least=0.4, hint=0)

# %% [markdown] english="db3e4e610373"
# ### 练习 2（中等）
# 各种损失不是一起下降的。哪一种文本**最后**降到超出的损失不足 0.5 纳特？请给出它的名字，写法像 `answer="swaps"`。

# %%
exercises.last_family(childhood, answer=None, hint=0)

# %% [markdown] english="034055447f33"
# **归纳头是怎样形成的**？它要读前一词元头的输出，所以前一词元头必须先形成，而且在更靠前的层里。这两类头各在哪一层？

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

# %% [markdown] english="7ccd2a0dec10"
# ### 练习 3（中等）
# 训练完成的模型里，最好的**重复词元头**是哪一个？它的各个得分在 `childhood[-1].heads["duplicate token"]` 里。

# %%
exercises.head_of_kind(childhood[-1], "duplicate token", answer=None, hint=0)

# %% [markdown] english="5bfb4c3382b5"
# ### 练习 4（难）
# 归纳头要读更靠前的层里某个头写下的内容。是哪个头？请给出一个头：没有它，归纳头的最高得分会降到一半或更低。（检查时会把它拿掉，再测一次。）

# %%
words = " tree king moon sun city road night star door table house water"
exercises.feeds_induction(adult, words + words, answer=None, hint=0)

# %% [markdown] english="8b6572425483"
# ## 用 Python 看微型模型
# 回到微型模型。`wait()` 返回所有快照；如果模型是在这里训练的，就先等训练结束。（想提前结束，就中断内核；已有的快照会保留。）

# %%
history = nursery.wait()
figures.growth(history)

# %% [markdown] english="0d21c6c21033"
# **每一类头什么时候形成**？它的最高得分在哪一步第一次超过 0.25？在这份记录里，先出现的是前一词元头，然后是它上面一层的重复词元头。步数这么少，不会形成归纳头。（如果在慢的机器上自己训练，三分钟可能连 600 步都做不完，那么第二类头也不会形成：这时就多给几分钟。）

# %%
for kind in history[-1].heads:
    formed = [snapshot.step for snapshot in history if float(snapshot.heads[kind].max()) > 0.25]
    print(f"{kind:16} above 0.25", f"from step {formed[0]}" if formed else "never")

# %% [markdown] english="553f6518ad96"
# **是哪些头**？下面按层列出最后一次快照里所有头的得分。（训练里加入其他列表以后，重复词元头的得分会下降。那些列表要求模型做什么？）

# %%
for kind, of_heads in history[-1].heads.items():
    print(f"{kind:16}", [[round(score, 2) for score in layer] for layer in of_heads.tolist()])

# %% [markdown] english="4e2da51a14e4"
# **路由器的饱和度**：每行是一次快照，每列是一层。如果从八个专家里随机选两个，期望值是四分之一。

# %%
saturated = saturation(history)
every = max(1, len(history) // 8)
for snapshot, share in list(zip(history, saturated.tolist(), strict=True))[::every]:
    print(f"step {snapshot.step:5}", [round(value, 2) for value in share])

# %% [markdown] english="de867e655f26"
# ### 练习 5（容易）
# 饱和度要和随机水平比较才有意义。一层有十六个专家，每个词元选六个。如果是随机选择，饱和度平均会是多少？

# %%
exercises.chance_overlap(16, 6, answer=None, hint=0)

# %% [markdown] english="d5b260c5fe03"
# ## 使用训练好的模型
# `growth.lab` 就是当前的模型，凡是能对 `tiny-moe` 做的事，对它都能做。这是它最好的重复词元头。

# %%
lab = nursery.growth.lab
recording = lab.record(" tree king moon star road road star moon king tree")
layer, head = divmod(int(history[-1].heads["duplicate token"].argmax()), lab.config.n_heads)
figures.attention_map(recording.attention[layer, head])

# %% [markdown] english="5dd11b40e42c"
# ## 接下来
# - `growth = tiny.growth.Growth(minutes=10)` 训练得更久，用 `Nursery(growth)` 显示它；换一个随机种子，比如 `tiny.growth.Growth(seed=1)`，就从另一组随机权重开始。同样的头还会在同样的层里形成吗？`tiny.growth.Growth(steps=900)` 就是记录下来的这次训练。
# - 向一个早期的模型提问：`qwen3lab.load("tiny-dense", revision="step2000").chat("12+30=?")`。
# - `tiny.read_card("tiny-dense")` 里有训练完成的模型的实测能力。
# - 在终端里，`qwen3lab train tiny-dense` 会把那个模型重新训练一遍，在一个核上要几个小时；中断了也能接着训练。
