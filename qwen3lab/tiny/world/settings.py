"""The words and facts that the task families share, in English and Chinese."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class World:
    """The vocabulary of one language.

    The lists of both languages have the same length. Entries at the same index of `objects`,
    `animals`, `foods`, `places` and `colours` are translations.

    Attributes:
        names: names of people.
        objects: objects that people hold.
        animals: animals that people own.
        foods: `foods[i]` is the food of `animals[i]`.
        places: places that people and animals go to.
        colours: colours of animals.
        words: words of lists and sequences.
    """

    names: tuple[str, ...]
    objects: tuple[str, ...]
    animals: tuple[str, ...]
    foods: tuple[str, ...]
    places: tuple[str, ...]
    colours: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def vocabulary(self) -> set[str]:
        """All words of all lists."""
        groups = (self.names, self.objects, self.animals, self.foods, self.places, self.colours)
        return {word for group in (*groups, self.words) for word in group}


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


WORLDS: dict[Language, World] = {
    "en": World(
        names=_split("Ann Ben Eva Max Tom Zoe Ida Leo"),
        objects=_split("ball key cup book hat box pen lamp"),
        animals=_split("cat dog bird horse rabbit duck"),
        foods=_split("fish meat seeds grass carrots bread"),
        places=_split("garden river forest hill market school bridge barn"),
        colours=_split("red blue green black white yellow"),
        words=_split("""tree king moon sun city road night star door table house water letter mother
            friend hand world print paper stone music chair window wall sea ship snow wind fire
            gold"""),
    ),
    "zh": World(
        names=_split("小明 小红 小刚 小丽 小华 小美 阿强 阿珍"),
        objects=_split("球 钥匙 杯子 书 帽子 盒子 笔 灯"),
        animals=_split("猫 狗 鸟 马 兔子 鸭子"),
        foods=_split("鱼 肉 种子 草 萝卜 面包"),
        places=_split("花园 河边 森林 山上 市场 学校 桥边 谷仓"),
        colours=_split("红 蓝 绿 黑 白 黄"),
        words=_split("""树 王 月亮 太阳 城 路 夜 星星 门 桌子 房子 水 信 妈妈 朋友 手 世界
            云 纸 石头 音乐 椅子 窗 墙 海 船 雪 风 火 金"""),
    ),
}
