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

# %% [markdown] english="4d8dc90cdaea"
# # 上规模：一份专家图谱
#
# 第 0 层的专家 7 是做什么的？只看一段文本，说不出来。在这个笔记本里，你要记录十万个词元（token），由它们做出一份所有专家的图谱，再来检验两个流传很广的说法：专家按主题分工；用得最多的专家最要紧。
#
# **学完这个笔记本，你能够**
#
# - 把一个语料库记录到文件夹里，给每段文本和每个词元都带上标签；
# - 读懂专家图谱：专家的标签、典型词元、例子和邻居；
# - 分清两种专门化：按文本的主题，还是按词元的类型；
# - 按得分去掉专家，测量代价有多大，并和随机选择作比较；
# - 在集群上做同样的事。

# %%
import tempfile

import qwen3lab
from qwen3lab import corpus, exercises, figures, tiny
from qwen3lab.experiments import effects, merging, pruning
from qwen3lab.widgets import AtlasExplorer

# %% [markdown] english="03a603bd4eee"
# 想换一个模型，只改下一个单元格就行。不是内置的模型比较慢，所以读的文本会少一些。稠密模型没有专家；`with_experts` 会说明这一点，然后改用 `tiny-moe` 继续。

# %%
lab = tiny.with_experts(qwen3lab.load("tiny-moe"))
n_texts = 200 if tiny.is_embedded(lab.tokenizer) else lab.suggested.texts
rows = tiny.corpus_rows(lab.tokenizer, n=n_texts)
print(f"{len(rows):,} texts, {sum(len(row['text']) for row in rows):,} tokens")
rows[0].keys()

# %% [markdown] english="c02b0ed4c917"
# ## 记录一个语料库
# 每一行有词元编号、这段文本的**题型**（也就是它的主题），还有一个列表，写着每个词元的**角色**（也就是它的类型），比如操作数、关键字或人名。打乱的标签没有含义：后面要靠它们看出，一个指标仅凭偶然能有多大。
#
# 下一个单元格大约要一分钟。`keep` 决定保存什么：计数；每个专家权重最大的那些文本（`top`）；专家输出的大小（`saliency`）。图中显示词元怎样分给各个专家。负载均衡吗？

# %%
labels = {"label": ("family", "shuffled family"), "token_label": "role", "cross": True}
kept = {"keep": ("counts", "top", "saliency"), "out": tempfile.mkdtemp()}
run = corpus.record(rows, model=lab, **labels, **kept)
figures.expert_load(run.load())

# %% [markdown] english="e1f7d304e3a2"
# 文件夹里存的是计数和例子，不是激活值：每个词元只占几个字节。`corpus.open(run.folder)` 不用模型就能再次打开它；它的表格可以用 `duckdb` 或 `pyarrow` 来读。

# %%
run

# %% [markdown] english="efa77662d2bb"
# ## 图谱
# **npmi**（归一化点互信息）说明一个专家和一个标签的关系有多紧密：只一起出现时为 1，互相独立时为 0。图中对每个专家写出 npmi 最大的那个角色。把鼠标移到格子上，可以看到更多。

# %%
atlas = corpus.atlas(run, columns=("family", "role"))
figures.atlas_map(atlas, "role")

# %% [markdown] english="0e6dc0abf860"
# 在 `tiny-moe` 里，前几层有好几个专家与算式的中间值联系在一起，另一些与运算符、人名或动词联系在一起。但是，**没有哪个专家只做一件事**：在这个模型里，无论哪个专家，它的格子上写的那个角色都不到它全部词元的 40%。
#
# 同样的结果列成表，最专门化的专家排在最前面：除了典型词元，还有和它分到相同词元的专家编号（`with`），下一层里的也有（`then`）。

# %%
table = atlas.to_pandas().sort_values("npmi of role", ascending=False)
table.head(12).round(3)

# %% [markdown] english="96ff22720756"
# ### 练习 1（容易）
# 第 0 层的哪个专家与 `operator` 的关联最强？从图上或表里读出来，把它的编号填在 `None` 的位置上，运行这个单元格。`hint=1`、2 或 3 会给你提示。

# %%
first, last = lab.config.moe_layers[0], lab.config.moe_layers[-1]
exercises.expert_of_label(run, first, "role", "operator", answer=None, hint=0)

# %% [markdown] english="2f1e2203c7c3"
# ## 点击一个专家
# 选好标签，点击一个格子，读一读这个专家做什么：它权重最大的那些文本（标出了词元），以及和它分到相同词元的专家。按按钮就能转到那些专家。这些例子有什么共同点？标签说的也是这个吗？

# %%
explorer = AtlasExplorer(atlas)
explorer

# %% [markdown] english="d50fd81e3e3d"
# ## 邻居
# 一个词元会同时去到几个专家。这张图的每行是第一层的一个专家，格子里是：它的词元里，有多大占比也分给了那一列的专家。在 `tiny-moe` 里，你会看到有三个专家几乎总是一起工作：处理数字。

# %%
together = run.co_activation(first).float()
figures.co_activation(together / together.diagonal()[:, None], layer=first)

# %%
atlas[first, 7]

# %% [markdown] english="f0770b16fce6"
# ### 练习 2（中等）
# 第 0 层的哪个专家分到专家 12 的词元，**比分到其他词元更频繁**？它不是占比最大的那个：负载高的专家，会从每个专家那里都分到很多词元。

# %%
exercises.nearest_expert(run, first, 12, answer=None, hint=0)

# %% [markdown] english="c163901f495a"
# ## 主题还是类型？
# 有没有专管算术的专家，专管故事的专家？下一张图看上去是有的。但是算式里有操作数，故事里有动词：一个管操作数的专家，看上去就像一个管算术的专家。

# %%
figures.atlas_map(atlas, "family")

# %% [markdown] english="9adda048475e"
# **互信息**衡量一个词元的专家透露了多少关于标签的信息，单位是纳特。要把两者分开，就在一个标签已知时看另一个：在**角色相同**的词元里看题型，在**题型相同**的词元里看角色。

# %%
found = corpus.topic_and_type(run, topic="family", kind="role")
chance = corpus.topic_and_type(run, topic="shuffled family", kind="role")
figures.topic_and_type(found, chance=chance)

# %% [markdown] english="57e335f9e350"
# 在 `tiny-moe` 的前几层，专家透露了很多关于题型的信息（黄线），但大部分只是因为不同题型用的词元不同：只看同一种角色的词元，剩下的就少了（红线）。专家透露的关于角色的信息，在同一种题型里仍然很多（蓝线）：在每一层都是红线的三倍左右或者更多。所以，它的专家首先是按词元的类型专门化的。主题也确实有作用：红线远高于打乱的题型（灰线）。
#
# 对大模型的研究也是这个结论：三个模型的专家按词元的类型专门化，比如标点和虚词，而几乎不按主题（Silvestre Lopez 2026, doi 10.5281/zenodo.19457411）；靠后的层对毫不相关的文本，选的也是差不多的专家（Wang 等 2026, arXiv 2604.09780）。

# %% [markdown] english="2b72941b1ca2"
# ### 练习 3（中等）
# 哪一层的专家透露的关于文本**题型**的信息最多？词元的角色已经透露的那部分不算。

# %%
exercises.layer_of_topic(found, answer=None, hint=0)

# %% [markdown] english="67ea62c5fcd9"
# ## 哪些专家要紧？
# 没有它，模型就变差，这样的专家才要紧。得分是在去掉任何专家之前作出的猜测：**使用量**是词元的个数；**REAP** 是权重乘以输出长度，对这个专家的词元取平均（Lasby 等 2025, arXiv 2510.13999）。得分要在同一层里比较：最后一层的输出比其他层的长。

# %%
scores = corpus.expert_scores(run)
scores.to_pandas().sort_values("reap", ascending=False).head(6).round(3)

# %% [markdown] english="1ddc65e7a3ac"
# **检验**：把得分低的专家连同它们在路由器里的那几行一起去掉，再在**另外的**文本上测损失。旁边的随机选择是对照：一个得分如果不比随机好，它就什么也没猜到。

# %%
held_out = tiny.texts(lab.tokenizer, n=min(4, n_texts), seed=2)
texts = [effects.Text(text.family, text.token_ids, text.known) for text in held_out]
chosen_by = {"REAP": scores.reap, "usage": scores.slots.float()}
shares = (1, 0.75, 0.5, 0.25)
curve = pruning.pruning_curve(lab, chosen_by, texts, shares=shares)
figures.pruning_curve(curve)

# %% [markdown] english="39addef15b01"
# 在 `tiny-moe` 里，REAP 比使用量好，也比每一次随机选择都好；而留下四分之三的专家时，使用量几乎不比随机好：**用得最多的专家，并不就是最要紧的专家**。这个小模型的专家没有多余的。至于大模型，论文里去掉一半专家，损失也只增加一点。

# %% [markdown] english="c290ac6b3273"
# ### 练习 4（中等）
# 按 REAP 来选，每一层要留下多少个专家，才能让损失不超过每词元 0.3 纳特？从这条曲线上的那些数里选。

# %%
fine = pruning.pruning_curve(
    lab, {"REAP": scores.reap}, texts, shares=(1, 0.875, 0.75, 0.625, 0.5), n_random=0
)
exercises.experts_needed(fine, "REAP", answer=None, most=0.3, hint=0)

# %% [markdown] english="4f50c60eb79c"
# ### 练习 5（难）
# 做一个只会**算术**的模型：选出一半的专家，让算术的损失比 REAP 选的那一半更低，不用管其他题型怎么样。`answer=` 要给一张按层和专家排列的得分表；得分最大的那些留下。这个笔记本里的哪张表知道算术需要哪些专家？（`corpus.slots_of(run, "family")` 给出按层、题型和专家排列的计数。）

# %%
exercises.best_half_for(lab, texts, "arithmetic", scores.reap, answer=None, hint=0)

# %% [markdown] english="6d6ee8a86f8f"
# **合并**：不去掉一个专家，而是把它的矩阵加到留下的专家里和它最相似的那一个上。留下一半专家时，按 REAP 的得分来合并，`tiny-moe` 损失得比去掉还多：合并出来的专家，是几个不同专家的平均。两种模型都可以用 `qwen3lab.checkpoints.save_checkpoint` 写成 `transformers` 能打开的检查点。

# %%
merged = merging.merging_curve(
    lab, {"REAP": scores.reap}, texts, similar_on=texts, shares=(1, 0.75, 0.5)
)
figures.pruning_curve(curve + merged)

# %% [markdown] english="84aee0061e7a"
# ## 在集群上做同样的事
# 计划不用变：在有很多处理器或 GPU 的机器上，或者在集群上，只是多一个参数。把这些行写进一个文件，然后运行（先装 `pip install "qwen3lab[ray]"`）：
#
# ```console
# qwen3lab corpus texts.parquet --model Qwen/Qwen3-30B-A3B --dtype bfloat16 \
#     --label domain --token-label pos --cross --keep counts --keep top --keep saliency \
#     --out run --address auto --workers 8
# ```
#
# `--address auto` 加入这台机器上正在运行的 Ray 集群，`--ray` 则在这里启动一个。如果中途停下，`--resume` 会接着做。计数都是整数，所以用一个进程和用很多个进程，结果是一样的。指南里的《**记录一个语料库**》一页，写了一百万个和十亿个词元各要花多少。

# %% [markdown] english="a67fdbbe6b34"
# ## 接下来
# - `corpus.routing_difference(run, labels=("arithmetic", "stories"))` 比较两个标签的路由。
# - `run.tokens(first, 7)` 列出一个专家的所有词元，`run.top(run.hooks[1], 7)` 列出它的例子。
# - 先写 `half = pruning.best_experts(scores.reap, lab.config.moe_layers, lab.config.n_experts // 2)`，那么 `small = pruning.prune(lab, half)` 就是一个普通的模型，可以照常使用：`small.chat("3+4=?", max_new_tokens=40)`。
# - 先写 `groups = merging.similar_groups(lab, texts, scores.reap, lab.config.n_experts // 2)`，那么 `merging.merge(lab, groups, scores.reap)` 就不去掉专家，而是把它们合并。
# - `qwen3lab corpus` 把一个文件里的文本做成语料库。
# - `02_expert_routing` 改动单个专家的路由，并测量它的效应。
