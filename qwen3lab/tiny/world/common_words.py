"""Common words that the embedded models' tokenizer encodes as single tokens."""

ENGLISH = """
the of and to in is you that it he was for on are as with his they I at be this have from or one
had by word but not what all were we when your can said there use an each which she do how their
if will up other about out many then them these so some her would make like him into time has look
two more write go see number no way could people my than first water been call who oil its now
find long down day did get come made may part over new sound take only little work know place year
live me back give most very after thing our just name good sentence man think say great where help
through much before line right too mean old any same tell boy follow came want show also around
form three small set put end does another well large must big even such because turn here why ask
went men read need land different home us move try kind hand picture again change off play spell
air away animal house point page letter mother answer found study still learn should world hello
thanks please yes question digit last step start add plus minus times subtract begin value result
swap hold has ball book key cup hat red blue green black white door box table garden river bird
cat dog fish tree apple bread king queen friend city road night morning rain sun moon star print
return def if else for while True False None list item index model token layer head expert
"""

CHINESE = """
的 一 是 在 不 了 有 和 人 这 中 大 为 上 个 国 我 以 要 他 时 来 用 们 生 到 作 地 于 出 就 分 对
成 会
可 主 发 年 动 同 工 也 能 下 过 子 说 产 种 面 而 方 后 多 定 行 学 法 所 民 得 经 十 三 之 进
着 等 部
度 家 电 力 里 如 水 化 高 自 二 理 起 小 物 现 实 加 量 都 两 体 制 机 当 使 点 从 业 本 去 把
性 好 应
开 它 合 还 因 由 其 些 然 前 外 天 政 四 日 那 社 事 平 形 相 全 表 间 样 与 关 各 重 新 线 内 数
正 心
拿着 交换 什么 一只 每天 早上 晚上 睡在 然后 现在 再说 倒着 吃 带
你 好 吗 什 么 谁 哪 加 减 乘 等于 几
数字 最后 开始 问题 回答 思考 交换 拿 球 书 红 蓝 绿 猫 狗 鱼 树
苹果 朋友
"""
