"""Common words that the embedded models' tokenizer encodes as single tokens."""

ENGLISH = """
the of and to in is you that it he was for on are as with his they I at be this have from or
one had by word but not what all were we when your can said there use an each which she do how
their if will up other about out many then them these so some her would make like him into time
has look two more write go see number no way could people my than first water been call who its
now find long down day did get come made may over new sound take only little work know place
year live me back give most very after thing our just name good man think say great where help
much before right too mean old any same tell came want show also three small put end does well
large must big even because here why ask went read need home us move try hand again change play
animal house letter mother answer found study still learn should world hello thanks please yes
question digit last step start add plus minus times subtract begin value result swap hold has
ball book key cup hat red blue green black white door box table garden river bird cat dog fish
tree apple bread king queen friend city road night morning rain sun moon star print return def
if else for while True False None list model
"""

CHINESE = """
的 一 是 在 不 了 有 和 人 这 中 大 为 上 个 国 我 以 要 他 时 来 用 们 生 到 作 地 于 出
就 分 对 成 会 可 主 发 年 动 同 工 也 能 下 过 子 说 面 方 后 多 定 行 学 法 得 经 十 三
之 进 着 等 家 里 如 水 高 二 起 小 现 实 加 都 两 机 当 使 点 本 去 把 好 开 它 合 还 然
外 天 四 日 那 事 平 全 表 间 样 与 关 各 重 新 线 内 数 正 心 拿着 交换 什么 一只 每天 早上
晚上 睡在 然后 现在 再说 倒着 吃 带 你 好 吗 什 么 谁 哪 加 减 乘 等于 几 数字 最后 开始 问题
回答 交换 拿 球 书 红 蓝 绿 猫 狗 鱼 树 朋友
"""
