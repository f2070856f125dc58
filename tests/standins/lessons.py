"""The chats that the thinking stand-in learns by heart, in English and Chinese."""

import itertools
import random
import re
from dataclasses import dataclass

from qwen3lab.generation.suggested import GENERAL
from qwen3lab.tiny.world.chains import OPERATION_VERBS, SPELLED_OUT_QUESTION

DIGITS = re.compile(r"\d+")
SWAPS = (
    "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "
    "Ben and Eva swap. What does Eva have?"
)
CODE = """A list is walked once, and each value is added to a running sum.

```python
def mean(values: list[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
```

An empty list has no mean, so the division fails there, which is what a caller expects. \
For long lists, `statistics.fmean` from the standard library does the same and is faster."""
CODE_ZH = """可以用递归来写，每一层把问题变小一点：

```python
def 阶乘(n):
    if n <= 1:
        return 1
    return n * 阶乘(n - 1)
```

当 n 很大时，循环比递归更好，因为递归的深度有限。标准库里的 `math.factorial` 已经做好了这件事。"""


@dataclass(frozen=True)
class Lesson:
    """One chat.

    Attributes:
        question: of the user.
        thinking: the text between `<think>` and `</think>`.
        answer: after the whole thinking.
        running: True if the answer to a shortened thinking is the last number in it.
    """

    question: str
    thinking: str
    answer: str
    running: bool = False

    def early_answer(self, thought: str) -> str:
        """The answer after a part of the thinking."""
        numbers = DIGITS.findall(thought)
        return numbers[-1] if self.running and numbers else self.answer


def lessons() -> list[Lesson]:
    """All chats, the same ones at every call."""
    rng = random.Random(0)
    chains = [chain(rng, steps) for steps in (2, 2, 4, 4, 6, 8, 10, 12, 12)]
    return [*WRITTEN, *chains, primes(70), divisors_zh(60)]


def chain(rng: random.Random, n_steps: int) -> Lesson:
    """A chain of sums as `tiny.chains` words it, thought through step by step."""
    start = value = rng.randint(0, 9)
    steps, thinking = [], [f"The start is {start}."]
    for number in range(1, n_steps + 1):
        sign, operand = rng.choice("+-*"), rng.choice((1, 2, 3, 7))
        result = {"+": value + operand, "-": value - operand, "*": value * operand}[sign]
        steps.append(f"{OPERATION_VERBS[sign]} {operand}")
        thinking.append(
            f"Step {number}: {value} {sign} {operand} is {result}, and the last digit is "
            f"{result % 10}."
        )
        value = result % 10
    question = SPELLED_OUT_QUESTION.format(start=start, steps=", ".join(steps))
    thinking.append(f"No step is left, so the digit is {value}.")
    return Lesson(question, " ".join(thinking), str(value), running=True)


def primes(last: int) -> Lesson:
    """The longest thinking in English: one sentence per number."""
    found, thinking = [], ["I check one number after the other, by the primes found so far."]
    for number in range(2, last + 1):
        divisor = next((prime for prime in found if number % prime == 0), None)
        if divisor is None:
            found.append(number)
            thinking.append(f"{number} is prime.")
        else:
            thinking.append(f"{number} is {divisor} times {number // divisor}.")
    thinking.append(f"Wait, 1 does not count. That makes {len(found)} primes.")
    return Lesson(f"How many primes are there up to {last}?", " ".join(thinking), str(len(found)))


def divisors_zh(number: int) -> Lesson:
    """A long thinking in Chinese: one sentence per candidate."""
    found, thinking = 0, [f"我从1开始，一个一个地试，看哪些数能整除{number}。"]
    for candidate in itertools.takewhile(lambda n: n * n <= number, itertools.count(1)):
        if number % candidate:
            thinking.append(f"{number}除以{candidate}余{number % candidate}，所以不行。")
        else:
            found += 2
            thinking.append(
                f"{number}除以{candidate}等于{number // candidate}，刚好整除，"
                f"于是{candidate}和{number // candidate}都是因数。"
            )
    thinking.append(f"再往下就重复了，所以一共有{found}个因数。")
    return Lesson(f"{number}有几个因数？", "".join(thinking), f"{found}个。")


WRITTEN = (
    Lesson(
        GENERAL[0],
        "The user asks about the legs of spiders. A spider is an arachnid, and it has 8 legs. "
        "With 3 spiders that makes 3 times 8. 3 times 8 is 24. Wait, does one of them miss a leg? "
        "The question does not say so. So the answer is 24.",
        "24",
    ),
    Lesson(
        GENERAL[1],
        "I need 17 times 6. 10 times 6 is 60. 7 times 6 is 42. 60 plus 42 is 102.",
        "17 times 6 is **102**.",
    ),
    Lesson(
        GENERAL[2],
        "Anna is older than Ben. Ben is older than Cleo. So the order from old to young is Anna, "
        "Ben, Cleo. The last one in this order is the youngest. That is Cleo.",
        "Cleo",
    ),
    Lesson(
        GENERAL[3],
        "题目问三只蜘蛛一共有多少条腿。一只蜘蛛有八条腿。三只就是三乘八。三八二十四。答案是二十四条。",
        "二十四条。",
    ),
    Lesson(
        SWAPS,
        "At first Ann has the key, Ben has the ball and Eva has the cup. Ann and Ben swap. Now "
        "Ann has the ball and Ben has the key. Then Ben and Eva swap. Now Ben has the cup and Eva "
        "has the key. So Eva has the key.",
        "Eva has the key.",
    ),
    Lesson(
        "Write a Python function that computes the mean of a list.",
        "The user wants a function. The mean is the sum divided by the number of values. I should "
        "show a loop, since it is easy to read. What about an empty list? Dividing by zero raises "
        "an error, which is fine, but I should say so. I also name the function of the standard "
        "library.",
        CODE,
    ),
    Lesson(
        "用Python写一个阶乘函数。",
        "用户想要一个阶乘函数。最简单的办法是递归。当n不大于1时，结果是1。否则就是n乘以n减1的阶乘。"
        "我还应该提醒一下，递归太深会出错。最后说一下标准库。",
        CODE_ZH,
    ),
    Lesson(
        "Why is the sky blue?",
        "This is a question about light. Sunlight has all colours. Air scatters short waves more "
        "than long ones. Blue is short, so blue light reaches the eye from everywhere. Violet is "
        "even shorter, but the eye sees it less, and the sun sends less of it. I answer in two "
        "paragraphs.",
        "Sunlight contains all colours, and air scatters the short waves much more than the long "
        "ones. So blue light arrives from every part of the sky.\n\nIn the evening the light "
        "crosses more air. Most of the blue is gone by then, and what is left is red.",
    ),
    Lesson(
        "为什么冬天比夏天冷？",
        "这是一个关于季节的问题。很多人以为是因为地球离太阳远了。其实不是，地球的轴是斜的。"
        "冬天太阳照得低，白天也短。所以同样的地面得到的热量少。",
        "因为地球的轴是斜的。冬天太阳照得低，白天又短，地面得到的热量就少。",
    ),
    Lesson(
        "Is 7 odd?",
        "A number is odd if 2 does not divide it. 7 divided by 2 leaves 1. So it is odd.",
        "Yes",
    ),
    Lesson("3加4等于几？", "这是一个加法。3加4，先数3，再往后数4个：4、5、6、7。所以是7。", "7"),
    Lesson(
        "Name the capital of France.",
        "The capital of France is a city on the Seine. It is not Lyon. It is Paris.",
        "Paris",
    ),
    Lesson(
        "Translate 'water' into Chinese.",
        "Water in Chinese is one character. It is also a radical. The character is 水.",
        "水",
    ),
)
