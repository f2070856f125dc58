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

# %% [markdown] english="20e85383ecf3"
# # 专家路由
#
# 在混合专家模型里，每一层都有一个路由器，为每个词元选出几个专家。在这个笔记本里，你先看一个词元的路由，再测量专家专精于什么，最后改动路由，测量它的效应。
#
# **学完这个笔记本，你能够**
#
# - 找出一个词元的专家，看路由器有多大把握，以及这些专家写了什么；
# - 测量专家专精于什么，并和随机水平作比较；
# - 关掉专家，或者强制用上某些专家，测量哪些文本对模型来说变难了。

# %%
import torch

import qwen3lab
from qwen3lab import exercises, figures, tiny
from qwen3lab.analysis import expert_output, routing, specialisation
from qwen3lab.analysis.choices import margin, router_entropy
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.structure import co_activation, transitions
from qwen3lab.experiments import controls, costs, effects, knockout
from qwen3lab.interventions import rerouting
from qwen3lab.widgets import RoutingExplorer

# %% [markdown] english="076df37733c6"
# 想换一个模型，只改下一个单元格就行：填一个名字，比如 `"Qwen/Qwen3-30B-A3B"`，或者你硬盘上的一个文件夹。稠密模型没有专家；`with_experts` 会说明这一点，然后改用 `tiny-moe` 继续。

# %%
lab = tiny.with_experts(qwen3lab.load("tiny-moe"))
layers, k = lab.config.moe_layers, lab.config.n_experts_per_token
lab

# %% [markdown] english="bd1e356b2a6d"
# ## 一个词元
# 模型先思考，再回答一个问题。下面的条带就是这段文本；每个词元的颜色，表示它权重最大的那个专家。数字、运算符和特殊词元，是不是被路由到了不同的专家？

# %%
suggested = lab.suggested  # Lengths, questions and numbers that fit this model.
options = {"sampling": suggested.sampling, "seed": 0, "budget": suggested.budget}
options["max_new_tokens"] = suggested.recorded_tokens
chat = lab.chat(suggested.questions[0], record=expert_output.NEEDED, **options)
rec, row = chat.recording, len(layers) // 2
layer = layers[row]
figures.token_strip(rec.routing.layer(layer))

# %% [markdown] english="f7e7cc5ef873"
# **路由熵**衡量路由器有多没把握。**间隔**（margin）是最后一个入选专家的 logit 与没入选的专家里最高的 logit 之差。间隔接近 0，说明只要有一点点变化，选择就会不同。

# %%
logits = rec.routing.layer(layer).logits
open_share = router_entropy(logits, relative=True)
near = margin(logits, k)
for token in near.argsort()[:5].tolist():
    print(f"{token:3} {rec.tokens[token]!r:12}", end=" ")
    print(f"margin {near[token]:.3f} logits, entropy {open_share[token]:.0%} of its maximum")

# %%
figures.routing_map(routing.layer_weights(rec, layer))

# %% [markdown] english="8bf5483d1424"
# ### 练习 1（容易）
# 图里画的是一层。到了**下一**层，这次运行的词元被路由到哪个专家的最多？画出那一层的图，或者算出来。然后把专家的编号填在 `None` 的位置上，运行这个单元格。

# %%
after = layers[min(row + 1, len(layers) - 1)]
exercises.busiest_expert(rec, after, answer=None, shown=layer, hint=0)

# %% [markdown] english="0c492660d264"
# ### 练习 2（中等）
# 在这次运行里，哪一层的路由器**最有把握**：也就是说，哪一层的相对熵对所有词元取平均后最低？

# %%
exercises.surest_router(rec, answer=None, hint=0)

# %% [markdown] english="d4b52432bc13"
# ## 探索器
# 点击一个词元，再点击它的一个专家，就能看到被路由到这个专家的词元。**直接 logit 效应**显示这个专家让哪些词元更可能成为下一个词元，让哪些更不可能。**关掉并重问**会在没有这个专家的情况下再问一遍，并把两个回答并排显示。

# %%
held_out = tiny.texts(lab.tokenizer, n=suggested.texts)
recordings = [lab.record(text.token_ids) for text in held_out]
explorer = RoutingExplorer(lab, corpus=recordings)
explorer

# %% [markdown] english="350c1e777254"
# ## 一个语料库
# 语料库里有内置模型小世界的五种题型的文本，第六种是来自世界之外的问题。每个词元都带有标签。`RoutingCorpus` 只保存计数，所以一百万个词元的语料库也不会占用更多内存。

# %%
families = RoutingCorpus(lab.config)
for text, recording in zip(held_out, recordings, strict=True):
    families.add(recording, text.family)
figures.expert_load(families.load())

# %% [markdown] english="5cedf3715dd2"
# **一个专家专精于什么**？图中是这一层里各题型之间占比差异最大的专家，置信区间是对文档取的。没有专门化的专家，在每种题型里的占比应该都一样。

# %%
names = families.groups
pairs = list(zip(held_out, recordings, strict=True))
of = {name: [run for text, run in pairs if text.family == name] for name in names}
spread = families.slots[row] / families.tokens[:, None]
expert = int(spread.std(dim=0).argmax())
counts, tokens, labels = specialisation.by_document(of, row)
bars = specialisation.share_intervals(counts, tokens, labels)
figures.specialisation(bars, names, expert=expert, k=k, layer=layer)

# %% [markdown] english="a80b504c28f6"
# **这比随机水平高吗**？下面是所选专家与题型之间的互信息（单位是纳特），以及打乱标签后得到的最大值。

# %%
for at in range(len(layers)):
    counts, _, labels = specialisation.by_document(of, at)
    found = specialisation.label_information(counts, labels)
    print(
        f"layer {layers[at]:2}: {found.value:.3f} nats, shuffled at most {found.shuffled[-1]:.3f}"
    )

# %% [markdown] english="487033e63c32"
# 同样的结果列成表，只看一种题型。`npmi` 是归一化点互信息：专家和题型只一起出现时为 1，互相独立时为 0。要找“专才”专家，这两列里你会按哪一列排序？

# %%
table = families.to_pandas()
table[(table.layer == layer) & (table.group == "swaps")].sort_values("share").tail(6)

# %% [markdown] english="7a8fd9153e96"
# ### 练习 3（中等）
# 这一层里，哪个专家与程序（题型 `code`）的关联最强？

# %%
exercises.specialist(families, "code", layer, answer=None, hint=0)

# %% [markdown] english="4a9ce654983d"
# ## 思考与答案
# 它们被路由到同样的专家吗？红色格子在思考里负载更高，蓝色格子在答案里负载更高。

# %%
parts = RoutingCorpus(lab.config)
for text, recording in zip(held_out, recordings, strict=True):
    parts.add(recording, [label.part for label in text.labels])
figures.load_difference(parts.load("thinking"), parts.load("answer"), names=("thinking", "answer"))

# %% [markdown] english="56a67115c670"
# ## 共同激活与转移
# 第一张图显示这一层里哪些专家会被一起选中；共用词元的专家排在一起。第二张图显示：每个专家的词元，到了下一层会被路由到哪些专家。

# %%
chosen, later = (
    torch.cat([recording.routing.layer(at).experts for recording in recordings])
    for at in (layer, after)
)
n_experts = lab.config.n_experts
figures.co_activation(co_activation(chosen, n_experts), layer=layer)

# %%
figures.transitions(transitions(chosen, later, n_experts), layers=(layer, after))

# %% [markdown] english="7df537d2f618"
# ### 练习 4（中等）
# 在**第一**层，哪个专家最常和专家 3 一起被选中？

# %%
first = torch.cat([recording.routing.layer(layers[0]).experts for recording in recordings])
exercises.partner(first, n_experts, expert=3, answer=None, hint=0)

# %% [markdown] english="18f9ba46aceb"
# ## 专家写了什么
# 把专家的平均输出乘以反嵌入，就能看出：沿着通往 logit 的直接路径，它让哪些词元更可能成为下一个词元，让哪些更不可能。

# %%
favourite = int(rec.routing.layer(layer).experts.flatten().mode().values)
expert_output.expert_writing(lab, [rec], layer, favourite, n=6).to_pandas()

# %% [markdown] english="3090006e27f9"
# ## 动手干预
# `rerouting` 会在 `record`、`generate` 和 `chat` 里改动路由器的选择；用 `+` 可以把几个改动合在一起。下一个单元格把问题再问几遍：不改动；去掉用得最多的那个专家；每个词元只用一个专家；用随机的专家。

# %%
question = chat.messages[0]["content"]
for name, edits in {
    "unchanged": None,
    f"without expert {favourite}": rerouting.off(favourite, layers=layer),
    "one expert each": rerouting.top_k(1),
    "random experts": rerouting.shuffled(),
}.items():
    print(f"{name:20} {lab.chat(question, edits=edits, **options).answer[:40]!r}")

# %% [markdown] english="047ad2ab80fc"
# **逐个敲除**第一层的专家，在一半的语料上重新计算损失。哪种题型的损失上升了？损失只计算由前文就能确定的那些词元。（在 `tiny-moe` 里，第一层的专家最要紧；在更高的层，少了一个，其他专家可以顶上。换一层试试。）在 CPU 上，大模型只会关掉 `busiest` 个最忙的专家。单元格会先告诉你最多要多久；想快一点，就少取几个专家或几段文本：`suggested.smaller`。

# %%
texts = [effects.Text(text.family, text.token_ids, text.known) for text in held_out[::2]]
which = {"layers": layers[:1], "busiest": suggested.experts}
print(costs.knock_out_cost(lab, texts, **which))
knocked_out = knockout.knock_out(lab, texts, **which)
figures.knock_out(knocked_out)

# %% [markdown] english="63dd9e424eeb"
# **这个专家特别吗**？拿它和负载相近的其他专家比一比：没有那些专家时，损失也上升这么多吗？

# %%
damage = knocked_out.to_pandas()
expert, group = int(damage.expert[0]), damage.group[0]
comparison = controls.compare_with_others(lab, texts, [expert], layer=layers[0], n_controls=9)
others = ", ".join(f"{value:.2f}" for value in comparison.control_added[group])
print(f"expert {expert}: {comparison.added[group]:.2f} nats more on {group}; others: {others}")
print(f"p = {comparison.p_value(group):.2f}")

# %% [markdown] english="753aa134df33"
# **答案会变吗**？损失是对词元取的平均。下一个单元格测量答案错误的占比：先用全部专家，再去掉这一个。

# %%
sums = tiny.chains(lab.tokenizer, n=suggested.problems, steps=suggested.steps[:2])
problems = {"sums": sums}
for name, edits in {"unchanged": None, "without": rerouting.off(expert, layers=layers[0])}.items():
    print(f"{name:10} {effects.error_rates(lab, problems, edits=edits)['sums']:.0%} wrong")

# %% [markdown] english="31b1d4f77596"
# ### 练习 5（难）
# 找一种干预，让程序文本的损失增加得比其他任何题型都多，至少是两倍。上面的图会帮你。你也可以试试别的层，或者一次关掉几个专家，比如 `rerouting.off([3, 5], layers=2)`。

# %%
exercises.hurts_most(lab, texts, "code", answer=None, hint=0)

# %% [markdown] english="babc673194b4"
# ## 接下来
# - `families.save("counts.safetensors")` 保存计数；`families.merge(parts)` 把另一个语料库的计数加进来。
# - `expert_output.extreme_experts([rec])` 找出激活值特别极端的专家。
# - `lab.record(texts[0].token_ids, edits=rerouting.borrowed(recordings[0]))` 用另一次运行的路由来运行一段文本。
