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

# %% [markdown] english="742fdf24a752"
# # 注意力
#
# 对每个词元，每一层的每个注意力头都要选择：从前面的哪些词元那里读取信息。在这个笔记本里，你会读一个头的注意力图，找出做复制的头，找出得到注意力最多的词元，再看答案怎样注意思考。
#
# **学完这个笔记本，你能够**
#
# - 读懂一个头的注意力图，并放大其中任意一块，查看精确的权重；
# - 根据得分找出前一词元头、重复词元头和归纳头，并判断这些得分有多可靠；
# - 找出注意力汇聚点，以及在写答案时读取思考的那些头。

# %%
import qwen3lab
from qwen3lab import exercises, figures, thinking
from qwen3lab.analysis import attention, circuits, sentences, thinking_text, value_weighted
from qwen3lab.interventions.sinks import MadeUpSink
from qwen3lab.widgets import AttentionExplorer

# %% [markdown] english="e79dbb2e4234"
# 想换一个模型，只改下一个单元格就行：填 Hugging Face hub 上的名字，比如 `"Qwen/Qwen3-0.6B"`，或者你硬盘上的一个文件夹。

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown] english="65644d4e9c06"
# ## 所有的头、一张图和文本
# 1. **点击一张缩略图**，打开那个头的注意力图。每一行是一个查询词元。
# 2. **在图的一部分上拖动**就能放大。双击则重新显示整张图。
# 3. **表格**列出所有的头，带有得分和最可能的类别。表格可以排序，也可以搜索；点击一行，就打开那个头。
# 4. 打开**文本**标签页，选择按**所选词元的注意力**上色。**把鼠标移到一个词元上**：它注意的词元会被上色；如果选**对它的注意力**，上色的就是注意它的词元。

# %%
question = "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "
question += "Ben and Eva swap. What does Eva have?"
explorer = AttentionExplorer(lab, question=question)
explorer

# %% [markdown] english="1805f723e952"
# ## 做复制的头
# 重复的序列能让它们现形。在后半段里，**重复词元头**注意前半段里相同的词元，**归纳头**则注意那个词元之后的词元，而它正好也是后半段里的下一个词元。这样，模型就能接着写出一段训练数据里从没有过的重复。

# %%
words = " tree king moon sun city road night star door table house water"
twice = lab.record(words + words)
scores = attention.head_profile(twice)
table = scores.to_pandas()
columns = ["layer", "head", "kind", "above_uniform", "sure", "previous", "duplicate", "induction"]
table[columns].sort_values("induction", ascending=False).head(8).round(2)

# %%
figures.head_map(scores, "induction")

# %% [markdown] english="290558c48a34"
# ## 练习 1
# 哪个头是归纳头？请给出它的层和头，比如 `(3, 1)`。（在这段文本上，得分最高只能到 0.5 左右，因为前半段没有东西可以复制。）

# %%
exercises.best_head(scores, "induction", answer=None, least=0.25)

# %% [markdown] english="cf5a38f121e2"
# 这是归纳得分最高的那个头，在同一段文本上的图。你看到对角线下方的两条亮线了吗？

# %%
best = table.sort_values("induction", ascending=False).iloc[0]
layer, head = int(best.layer), int(best["head"])
figures.attention_map(twice.attention[layer, head])

# %% [markdown] english="1b3ffd0a9958"
# **复制得分**只需要模型的权重。它沿着直接路径走：从词元的嵌入出发，经过这个头的 OV 回路，到达 logit。得分为 1，表示这个头会抬高它所注意的词元的 logit；-1 表示会压低。（对靠后的层里的头，这个得分说明不了太多：它们读到的不只是嵌入，还有前面各层写下的内容。）

# %%
copying = circuits.copying_scores(lab)
print(f"copying score of layer {layer}, head {head}: {float(copying[layer, head]):.2f}")
circuits.ov_pairs(lab, layer, head, n=6).to_pandas()

# %% [markdown] english="0ca314a3ca48"
# ## 注意力汇聚点
# 一行的权重之和总是 1，所以一个头就算没找到可读的东西，也必须注意某个词元。因为这个缘故而从许多头那里得到大量注意力的词元，就叫**注意力汇聚点**（attention sink）。在已发布的 Qwen3 模型里，它是对话的第一个词元。这个模型里也有吗？

# %%
chat = lab.chat(
    question,
    sampling=lab.suggested.sampling,
    seed=0,
    budget=lab.suggested.budget,
    max_new_tokens=lab.suggested.recorded_tokens,
    record=[*circuits.NEEDED, value_weighted.NEEDED],
)
rec = chat.recording
mass = attention.key_mass(rec)
figures.sink_profile(mass)

# %% [markdown] english="248364a9d170"
# 内置模型**没有汇聚点**：平均下来，没有一个头会把超过十分之一的注意力放在第一个词元上（它们的模型卡里有测量值）。所以下一个单元格造一个替身，让你看看汇聚点长什么样：在靠上的各层，给所有的头对第一个词元的打分加 4，相当于把它归一化之前的权重乘以 55。这不是模型学来的。

# %%
upper = range(lab.config.n_layers // 2, lab.config.n_layers)
made_up = lab.record(rec.token_ids.tolist(), edits=MadeUpSink(nats=4.0, layers=upper))
figures.sink_profile(attention.key_mass(made_up))

# %% [markdown] english="3b8ff4cb75a5"
# ## 练习 2
# 对所有的头和层取平均，哪个词元得到的注意力最多？请给出它的编号。

# %%
exercises.sink_token(mass.mean(dim=(0, 1)).tolist(), answer=None)

# %% [markdown] english="c1d9c76778df"
# 注意力权重并不说明一个头写了多少。**值加权注意力**把每个权重乘以这个头从那个词元搬走的向量的长度；这样衡量，汇聚点的贡献往往很小。头的**温度**说明它的选择能有多尖锐：它的打分就是查询与键的余弦除以温度。

# %%
weighed = next(iter(value_weighted.moved_blocks(lab, rec, layer)))[1][head]
print(f"layer {layer}, head {head}: the first token draws", end=" ")
print(f"{float(rec.attention[layer, head][:, 0].mean()):.0%} of the attention", end=" and ")
print(f"{float(weighed[:, 0].sum() / weighed.sum()):.0%} of what is moved")
temperature = circuits.norm_part(rec).temperature
print(f"temperatures from {float(temperature.min()):.2f} to {float(temperature.max()):.2f}")

# %% [markdown] english="a957be2d98be"
# ## 答案怎样注意思考
# 每行一个头：在生成答案的那些位置上，它把注意力怎样分配。

# %%
parts = thinking.pieces(chat, "sentence")
looks = thinking_text.answer_looks(rec, parts)
figures.answer_looks(looks)

# %% [markdown] english="c83759fa5c52"
# ## 练习 3
# 哪个头对思考的最后一步注意最多？下面的数字是每个头的注意力落在这一步上的占比。请给出层和头。

# %%
last = looks.mass[:, :, len(parts)]
print(
    {
        f"{place // last.shape[1]}, {place % last.shape[1]}": round(value, 2)
        for place, value in enumerate(last.flatten().tolist())
        if value > 0.2
    }
)
exercises.reads_most(last, answer=None)

# %% [markdown] english="0d7a34a83fe6"
# **接收头**（receiver heads）把后面各句的注意力集中在少数几个句子上。它们的得分，是每个句子从后面的句子那里得到的注意力的峰度。`apart` 是计入的最小距离，以句子为单位；思考短的时候，这个值要小。（内置模型的思考不分句子：对它们来说，两个词元算一句。句子少于 `at_least` 的思考，会被切成词元数相同的片段。）

# %%
parts = thinking.pieces(chat, lab.suggested.sentence, at_least=12)
between = sentences.sentence_attention(rec, parts)
receivers = between.receiver_scores(apart=2)
place = int(receivers.argmax())
print(f"layer {place // receivers.shape[1]}, head {place % receivers.shape[1]}", end=": ")
print(f"kurtosis {float(receivers.max()):.1f}")

# %% [markdown] english="8052b60acaf8"
# ## 接下来
# - `attention.rollout(rec, [-1])` 把所有层的注意力合在一起；`attention.likeness(rec)` 比较共用一个键值头的各个查询头。
# - `AttentionExplorer(rec)` 可以打开任何一份记录，哪怕有好几千个词元。
# - `figures.save(figure, "map.html")` 会写出一个不联网也能打开的网页；`figures.to_circuitsvis` 和 `figures.to_bertviz` 把注意力转换给这两个软件包使用。
