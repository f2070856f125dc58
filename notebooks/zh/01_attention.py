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
# 对每个词元，每一层的每个注意力头都要选择：从前面的哪些词元那里读取信息。在这个笔记本里，你会读一个头的注意力图，找出做复制的头，找出得到注意力最多的词元，再看答案怎样关注思考。
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
# 4. 打开**文本**标签页，选择按**选中词元给出的注意力**着色。**把鼠标移到一个词元上**：它关注的词元会被着色；如果选**选中词元收到的注意力**，着色的就是关注它的词元。

# %%
question = "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "
question += "Ben and Eva swap. What does Eva have?"
explorer = AttentionExplorer(lab, question=question)
explorer

# %% [markdown] english="378c05d19dfd"
# ## 做复制的头
# 重复的序列能让它们现形。在后半段里，**重复词元头**关注前半段里相同的词元，**归纳头**则关注那个词元之后的词元，而它正好也是后半段里的下一个词元。这样，模型就能接着写出一段训练数据里从没有过的重复。**前一词元头**关注前一个词元；归纳头就建立在它之上。图里是前一词元头的得分。

# %%
words = " tree king moon sun city road night star door table house water"
twice = lab.record(words + words)
scores = attention.head_profile(twice)
figures.head_map(scores, "previous")

# %% [markdown] english="b3209647ecfe"
# ### 练习 1（容易）
# 这个模型里，哪个头是重复词元头？请给出它的层和头，比如 `(3, 1)`。（在这段文本上，得分最高只能到 0.5 左右，因为前半段没有东西可以重复。）

# %%
exercises.best_head(scores, "duplicate", answer=None, hint=0)

# %% [markdown] english="75441aaedb50"
# ### 练习 2（中等）
# `tiny-moe` 没有归纳头：在这段文本上，最高得分只有 0.09。（它用别的办法把重复接着写下去。）`tiny-dense` 里有几个。它的哪个头是归纳头？

# %%
dense = qwen3lab.load("tiny-dense")
repeated = dense.record(words + words)
copying_heads = attention.head_profile(repeated)
exercises.best_head(copying_heads, "induction", answer=None, hint=0)

# %% [markdown] english="f8cca9a24947"
# 这是归纳得分最高的那个头，在同一段文本上的图。你看到对角线下方的那条亮线了吗？它在对角线下方多少个词元处？

# %%
best = copying_heads.to_pandas().sort_values("induction", ascending=False).iloc[0]
layer, head = int(best.layer), int(best["head"])
figures.attention_map(repeated.attention[layer, head])

# %% [markdown] english="4da10698ce56"
# **复制得分**只需要模型的权重。它沿着直接路径走：从词元的嵌入出发，经过这个头的 OV 回路，到达 logit。得分为 1，表示这个头会抬高它所关注的每个词元的 logit：它在复制。得分为 -1，表示它会压低这些 logit。同一层里其他种类的头，得分接近 -1：沿着直接路径，它们让自己所关注的词元变得**更不可能**，而它们写下的内容是给后面的层读的。（对靠后的层里的头，这个得分说明不了太多：它们读到的不只是嵌入，还有前面各层写下的内容。）

# %%
copying = circuits.copying_scores(dense)
print(f"induction head {head}: {float(copying[layer, head]):.2f}; all heads of layer {layer}:")
print([round(score, 2) for score in copying[layer].tolist()])
circuits.ov_pairs(dense, layer, head, n=6).to_pandas()

# %% [markdown] english="0ca314a3ca48"
# ## 注意力汇聚点
# 一行的权重之和总是 1，所以一个头就算没找到可读的东西，也必须关注某个词元。因为这个缘故而从许多头那里得到大量注意力的词元，就叫**注意力汇聚点**（attention sink）。在已发布的 Qwen3 模型里，它是对话的第一个词元。这个模型里也有吗？

# %%
options = {"sampling": lab.suggested.sampling, "seed": 0}
options |= {"budget": lab.suggested.budget, "max_new_tokens": lab.suggested.recorded_tokens}
chat = lab.chat(question, record=[*circuits.NEEDED, value_weighted.NEEDED], **options)
rec = chat.recording
mass = attention.key_mass(rec)
figures.sink_profile(mass)

# %% [markdown] english="ace7509e0394"
# 内置模型**没有汇聚点**：平均下来，没有一个头会把超过十分之一的注意力放在第一个词元上（它们的模型卡里有测量值）。一段文本的最后几个词元，数值也可能很高，但它们不是汇聚点：几乎没有查询看得到它们，最后一个词元更是只有它自己能看到。所以下一个单元格造一个替身，让你看看汇聚点长什么样：在上半部分的各层，给所有的头对第一个词元的打分加 4，相当于把它归一化之前的权重乘以 55。这不是模型学来的。

# %%
upper = range(lab.config.n_layers // 2, lab.config.n_layers)
capture = [*circuits.NEEDED, value_weighted.NEEDED]
ids, sink = rec.token_ids.tolist(), MadeUpSink(nats=4.0, layers=upper)
made_up = lab.record(ids, edits=sink, capture=capture)
sink_mass = attention.key_mass(made_up)
figures.sink_profile(sink_mass)

# %% [markdown] english="63b571cace89"
# ### 练习 3（中等）
# 一个头如果把超过 30% 的注意力给了第一个词元，通常就算作有汇聚点的头（arXiv 2410.10781）。在带有人造汇聚点的这次运行里，这样的头有多少个？图里画的是对头取的平均，所以要你自己来数：`sink_mass` 的三个轴是层、头和词元。

# %%
exercises.sink_heads(sink_mass, answer=None, without=mass, hint=0)

# %% [markdown] english="429e92c6507f"
# 注意力权重并不说明一个头写了多少。**值加权注意力**把每个权重乘以这个头从那个词元搬走的向量的长度。在已发布的模型里，这样衡量的话，汇聚点的贡献往往很小，因为它的值向量很短；而人造汇聚点的值向量和别的词元没有两样。头的**温度**说明它的选择能有多尖锐：它的打分就是查询与键的余弦除以温度。

# %%
layer, head = divmod(int(sink_mass[:, :, 0].argmax()), lab.config.n_heads)
moved = next(iter(value_weighted.moved_blocks(lab, made_up, layer)))[1][head]
print(f"layer {layer}, head {head}: the first token draws", end=" ")
print(f"{float(made_up.attention[layer, head][:, 0].mean()):.0%} of the attention", end=" and ")
print(f"{float(moved[:, 0].sum() / moved.sum()):.0%} of what is moved")
temperature = circuits.norm_part(rec).temperature
print(f"temperatures from {float(temperature.min()):.2f} to {float(temperature.max()):.2f}")

# %% [markdown] english="a957be2d98be"
# ## 答案怎样关注思考
# 每行一个头：在生成答案的那些位置上，它把注意力怎样分配。

# %%
parts = thinking.pieces(chat, "sentence")
looks = thinking_text.answer_looks(rec, parts)
figures.answer_looks(looks)

# %% [markdown] english="fd77fbd7b56e"
# ### 练习 4（中等）
# 另一个问题里，有一个要查出来的数字。模型写答案时，哪个头在读 `7`？查询是提示的最后一个词元，由它来预测答案；键是词元 `7`。请比较所有头的权重。

# %%
lookup = "lamp 2, book 7, cat 1. book?"
found = lab.chat(lookup, thinking=False, record=True, max_new_tokens=16)
query, key = len(found.prompt_ids) - 1, found.recording.tokens.index("7")
exercises.reads_token(found.recording, query, key, answer=None, hint=0)

# %% [markdown] english="c03f4b1967a1"
# ### 练习 5（难）
# 要得出这个答案，模型**需要**哪个头？拿掉一个头，再问一次，直到找出一个头：没有它，答案就变了。它是读那个数字的头吗？（`qwen3lab.interventions` 里的 `scaling.head(layer, head)` 是一个把头拿掉的编辑。）

# %%
exercises.needed_head(lab, lookup, answer=None, hint=0)

# %% [markdown] english="0d7a34a83fe6"
# **接收头**（receiver heads）把后面各句的注意力集中在少数几个句子上。它们的得分，是每个句子从后面的句子那里得到的注意力的峰度。`apart` 是计入的最小距离，以句子为单位；思考短的时候，这个值要小。（内置模型的思考不分句子：对它们来说，两个词元算一句。句子少于 `at_least` 的思考，会被切成词元数相同的片段。）

# %%
parts = thinking.pieces(chat, lab.suggested.sentence, at_least=12)
between = sentences.sentence_attention(rec, parts)
receivers = between.receiver_scores(apart=2)
place = int(receivers.argmax())
print(f"layer {place // receivers.shape[1]}, head {place % receivers.shape[1]}", end=": ")
print(f"kurtosis {float(receivers.max()):.1f}")

# %% [markdown] english="e2369cc76d06"
# ## 接下来
# - `attention.rollout(rec, [-1])` 把所有层的注意力合在一起；`attention.likeness(rec)` 比较共用一个键值头的各个查询头。
# - `AttentionExplorer(rec)` 可以打开任何一份记录，哪怕有好几千个词元。
# - `figures.save(figures.sink_profile(mass), "map.html")` 会写出一个不联网也能打开的网页。
# - `figures.to_circuitsvis(rec, 0)` 和 `figures.to_bertviz(rec)` 把注意力转换给这两个软件包使用，前提是装了它们。
