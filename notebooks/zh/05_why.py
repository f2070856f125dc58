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

# %% [markdown] english="b7399bfee2b2"
# # 模型为什么这样写？
#
# 模型刚写出了一个词元（token）。在这个笔记本里，你要顺着它往回查：算到哪一层，模型就已经会写它了；哪些注意力头、MLP 或专家抬高了它的 logit，把某个部分拿掉、或者换成另一次运行里的同一个部分，结果又会怎样。最后，你来让模型改变主意。
#
# **学完这个笔记本，你能够**
#
# - 读懂透镜图：假如模型到某一层就结束，它会写什么；
# - 把一个 logit 拆成模型各部分的贡献，并说清楚这种拆法看不到什么；
# - 用激活修补找出提示里的信息在哪里：一次只动一层、一个词元；
# - 用一个向量引导模型的回答，并测出这个向量还弄坏了什么。

# %%
import qwen3lab
from qwen3lab import attribution, exercises, figures, lenses, patching, probes, steering, tiny
from qwen3lab.widgets import WhyExplorer

# %% [markdown] english="e79dbb2e4234"
# 想换一个模型，只改下一个单元格就行：填 Hugging Face hub 上的名字，比如 `"Qwen/Qwen3-0.6B"`，或者你硬盘上的一个文件夹。

# %%
lab = qwen3lab.load("tiny-moe")
lab

# %% [markdown] english="815fd0d38702"
# ## 探索器
# 1. **点击回答里的一个词元**。上面那张图显示它作为下一个词元的概率：在每一层之后、在它前面的每个词元处各是多少。下面是它的 logit 减去第二名的 logit，按各部分拆开。点击一根条，就能看到那个头或专家做了什么；它自己的视图也从那里打开。
# 2. **它需要什么**会让模型重新运行，每次去掉一个头（模型大的话，要按**测量**）。点击效应最大的格子，再点**去掉并重问**。答案变了吗？
# 3. 选择**换上另一个问题的残差流**，输入一个词元数相同的问题（只改一个数字），按**测量**。那个数字在哪里？结果又在哪里？点击一个深色的格子，再点**修补并重问**。
# 4. 在**而不是**那里输入另一个答案：**引导并重问**会把回答往那个答案推。

# %%
explorer = WhyExplorer(lab, question="lamp 2, book 7, cat 1. book?", thinking=False)
explorer

# %% [markdown] english="d29bcbb0d4bc"
# ## 用 Python 做同样的事
# 下面这段文本很短，可以把每个部分都看一遍。模型要往下写，就必须查出那个再次出现的单词对应的数字。

# %%
clean, corrupt = "ball 7, key 3, cup 5. key ", "ball 7, key 4, cup 5. key "
right, wrong = "3", "4"
needed = [*lenses.NEEDED, *attribution.needed(lab)]
rec = lab.record(clean, capture=needed)
lab.generate(clean, max_new_tokens=1).text

# %% [markdown] english="7016fedb7813"
# ## 到哪一层就知道了？
# **logit 透镜**在每一层之后，直接用最后的归一化和反嵌入去读残差流，就好像模型到这里就结束了。每个格子写的是概率最大的下一个词元。

# %%
lens = lenses.logit_lens(lab, rec)
figures.lens_map(lens, right)

# %% [markdown] english="0f3095666154"
# ### 练习 1（容易）
# 查一个数字很快，算一个数字也这么快吗？从哪一层开始，在 `7*8=` 之后 `5` 是概率最大的词元？请给出最早的那一层：从它起 `5` 领先，并且一直领先到最后。

# %%
product = lab.record("7*8=", capture=needed)
exercises.first_layer(lenses.logit_lens(lab, product), "5", answer=None, hint=0)

# %% [markdown] english="6ea4bd79abef"
# 透镜是用最后一层的基来读每一层的：一个词元没有显示出来，并不说明它的信息不在那里。**调优透镜**（tuned lens）把每一层的残差流映射到最终输出的预测，**雅可比透镜**（Jacobian lens）则用该层对最后一层的平均一阶影响来映射。内置模型自带这两种透镜；别的模型可以用 `lenses.train` 和 `lenses.fit_jacobian` 来做。在探索器里，可以在图的上方选择透镜。

# %% [markdown] english="f283b886ac55"
# ## 是谁写的？
# 残差流是一个和；如果把最后归一化的缩放系数固定为这次运行的值，logit 也是一个和。瀑布图显示：对于 `3` 的 logit 减去 `4` 的 logit，哪些部分贡献最大。

# %%
parts = attribution.direct(lab, rec, right, other=wrong)
figures.attribution_waterfall(parts)

# %%
figures.attribution_layers(parts)

# %% [markdown] english="75f1fe1a562c"
# ### 练习 2（中等）
# 做计算的也是这些头吗？对 `7*8=`，哪个头对 `5` 的 logit 减去 `6` 的 logit 直接贡献最大？请给出层和头，比如 `(3, 1)`。

# %%
product_parts = attribution.direct(lab, product, "5", other="6")
exercises.strongest_head(product_parts, answer=None, hint=0)

# %% [markdown] english="f47436f69b8c"
# 各部分还会影响后面的部分：如果一个头把某个单词搬到一个词元上，让另一个头在那里找到它，那么前一个头自己对 logit 没有直接贡献。要找到这样的头，就要用激活修补。

# %% [markdown] english="c228775fa662"
# ## 它需要什么？
# **激活修补**（activation patching）用 `key 4` 的文本运行模型，同时把其中一个激活值换成 `key 3` 那次运行的值。如果 logit 差还和 `key 4` 时一样，值就是 0；如果变得和 `key 3` 时一样，值就是 1。

# %%
metric = patching.logit_difference(right, wrong)
found = patching.patch(lab, clean=clean, corrupt=corrupt, metric=metric)
figures.patching_map(found)

# %% [markdown] english="12d1832ccd75"
# 在前面的层，一切都取决于两段文本不同的那个词元；到最后，一切都取决于最后一个词元。信息是在哪几层搬过去的？

# %% [markdown] english="6e26bdebbbd2"
# ### 练习 3（中等）
# 对每个头的输出做同样的事。是哪个头在搬信息？画出图来，再找一处修补，它的效应至少是最大效应的一半，给出它的层和头。

# %%
heads = patching.patch(lab, clean=clean, corrupt=corrupt, metric=metric, site="z")
exercises.decisive_cell(heads, answer=None, hint=0)

# %% [markdown] english="5605645a27ce"
# **归因修补**只用一次梯度就估计出所有的修补：梯度乘以激活值之差。它很快，但不精确。下面的摘要会告诉你两者有多一致。

# %%
quick = patching.attribution_patching(lab, clean=clean, corrupt=corrupt, metric=metric, site="z")
quick.agreement(heads)

# %% [markdown] english="4bfe3838678c"
# ## 加进去看看
# **引导向量**（steering vector）会被加到残差流上。这里用的是读出 `4` 的 logit 减去 `3` 的 logit 的那个方向。它要多强才起作用？又会弄坏什么？曲线旁边有几个范数相同的随机方向作对照。

# %%
layer = lab.config.n_layers // 2
vector = steering.from_token(lab, wrong, other=right, layer=layer)
texts = [text.token_ids[:32] for text in tiny.texts(lab.tokenizer, n=1)]
curve = steering.strength_curve(
    lab, vector, [clean], patching.logit_difference(wrong, right), neutral=texts, n_random=2
)
figures.strength_curve(curve)

# %% [markdown] english="f024fc5166b2"
# ### 练习 4（中等）
# 让模型在 `key 3` 的文本之后接着写 `4`。选一个强度，填在 `0` 的位置上，再把 `after=None` 改成 `after=after`。

# %%
before = lab.generate(clean, max_new_tokens=1).text
after = lab.generate(clean, max_new_tokens=1, edits=0 * vector).text
print(f"before: {before!r}, after: {after!r}")
exercises.changes_the_text(before, after=None, wanted=wrong, hint=0)

# %% [markdown] english="51e7bd665e41"
# ## 信息在那里，模型用了吗？
# **线性探针**从一个激活值里读出某种性质。这里读的是算术文本里每个词元的角色：操作数、运算符、当前的中间值等等。灰线是用打乱的标签训练的探针。

# %%
sums = tiny.texts(lab.tokenizer, n=lab.suggested.texts, families=["arithmetic"])
recordings = [lab.record(text.token_ids, capture=lenses.NEEDED) for text in sums]
roles = [[label.role for label in text.labels] for text in sums]
figures.probe_accuracy(probes.fit(lab, recordings, roles))

# %% [markdown] english="8665d69af816"
# 探针能读出来，说明信息在那里。模型是否用到它，只有改动它再运行一次才知道：`steering.from_direction` 能用探针的 `direction` 做出一个引导向量。

# %% [markdown] english="f91e0d6cc635"
# ### 练习 5（难）
# 训练几个读别的东西的探针：一个词元属于问题、思考还是答案。把这些探针作为答案交上来。是不是每一层都读得出来？

# %%
exercises.reads_label(answer=None, labels=["question", "thinking", "answer"], hint=0)

# %% [markdown] english="52bf05dbe617"
# ## 接下来
# - `patching.ablate(lab, clean, metric=metric)` 不做修补，而是把头拿掉。
# - 先写 `paths = {"clean": clean, "corrupt": corrupt, "metric": metric}`，再用 `patching.path_patching(lab, sender=patching.head(0, 1), **paths)` 从一个头出发，追踪读取它的那些部分。
# - 在混合专家模型里，位置 `"expert"`、`"expert_choice"` 和 `"expert_weight"` 分别修补单个专家写出的内容、选中了哪些专家，以及它们的权重。
# - `attribution.neurons` 把稠密层的 MLP 拆成一个个神经元。
# - `qwen3lab.metrics.gradients(lab, clean, of=metric)` 给出一个指标在任意钩子点处的梯度。
