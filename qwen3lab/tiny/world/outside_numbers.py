"""Arithmetic from outside of the world: out of range, or with operations that it does not have."""

import random
from collections.abc import Callable, Mapping

from qwen3lab.tiny.world.settings import Language

Filler = Callable[[random.Random, Language], str]
SPACED_PROBABILITY = 0.35
TIMES_SIGNS = ("*", "*", "*", "x", "×")
WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {"+": " plus ", "-": " minus ", "*": " times "},
    "zh": {"+": "加", "-": "减", "*": "乘"},
}
NUMBER_WORDS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        *("eleven", "twelve", "fifteen", "twenty", "thirty", "fifty", "a hundred"),
    ),
    "zh": (*"一二三四五六七八九十", "十二", "十五", "二十", "三十五", "一百"),
}
MAX_VALUE = 999
MAX_OPERAND = 99


def small(rng: random.Random, _: Language) -> str:
    """A number from 1 to 12."""
    return str(rng.randint(1, 12))


def number(rng: random.Random, _: Language) -> str:
    """A number of one to three digits."""
    return str(rng.choice((rng.randint(0, 9), rng.randint(10, 99), rng.randint(100, 999))))


def long_number(rng: random.Random, _: Language) -> str:
    """A number of four to twelve digits."""
    n = rng.randint(4, 12)
    return str(rng.randint(10 ** (n - 1), 10**n - 1))


def digits(rng: random.Random, _: Language) -> str:
    """Single digits with spaces between them."""
    return " ".join(str(rng.randrange(10)) for _ in range(rng.randint(2, 8)))


def decimal(rng: random.Random, _: Language) -> str:
    """A decimal such as 3.75."""
    return f"{rng.randint(0, 99)}.{rng.randint(1, 99)}"


def _expression(rng: random.Random, terms: list[str], signs: str) -> str:
    """Terms with signs between them, with or without spaces; one sign for all multiplications."""
    times = rng.choice(TIMES_SIGNS)
    space = " " if rng.random() < SPACED_PROBABILITY else ""
    text = terms[0]
    for sign, term in zip(signs, terms[1:], strict=True):
        text += f"{space}{times if sign == '*' else sign}{space}{term}"
    return text


def quotient(rng: random.Random, language: Language) -> str:
    """A division such as `84/7`, sometimes within a chain."""
    sign = rng.choice("//÷:")
    pair = [number(rng, language), small(rng, language)]
    if rng.random() < 0.3:
        return _expression(rng, [*pair, small(rng, language)], sign + rng.choice("+-*"))
    return _expression(rng, pair, sign)


def power(rng: random.Random, language: Language) -> str:
    """A power such as `2^8` or `2**8`."""
    base = rng.choice((small, number))(rng, language)
    return f"{base}{rng.choice(('^', '**', ' ^ ', ' ** '))}{rng.randint(2, 9)}"


def decimals(rng: random.Random, language: Language) -> str:
    """A sum or another chain with a decimal, such as `3.5+2`."""
    terms = [decimal(rng, language), rng.choice((decimal, small))(rng, language)]
    rng.shuffle(terms)
    return _expression(rng, terms, rng.choice("+-*"))


def fraction(rng: random.Random, language: Language) -> str:
    """A sum of two fractions, such as `1/2+3/4`."""
    halves = [f"{small(rng, language)}/{small(rng, language)}" for _ in range(2)]
    return _expression(rng, halves, rng.choice("+-*"))


def _below(rng: random.Random) -> tuple[list[int], str]:
    """Numbers and signs of a chain that goes below zero."""
    subtracted = rng.randint(1, 9) if rng.random() < 0.3 else rng.randint(10, MAX_OPERAND)
    least = rng.randrange(subtracted)
    if rng.random() < 0.25:
        return [least, subtracted, rng.randint(1, 99)], "-" + rng.choice("+-")
    if rng.random() < 0.2:
        first = rng.randint(0, least)
        return [first, least - first, subtracted], "+-"
    if rng.random() < 0.2:
        return _dips(rng, least, subtracted)
    return [least, subtracted], "-"


def _dips(rng: random.Random, least: int, subtracted: int) -> tuple[list[int], str]:
    """A chain of three or four steps that is below zero in its middle, or only at its end."""
    first = rng.randint(0, least)
    numbers, signs = [first, least - first, subtracted], "+-"
    if rng.random() < 0.4:
        added = rng.randint(1, MAX_OPERAND)
        numbers, signs = [first, added, added, least - first, subtracted], "+-+-"
    if rng.random() < 0.6:
        numbers, signs = [*numbers, rng.randint(1, MAX_OPERAND)], signs + rng.choice("++-*")
    return numbers, signs


def _above(rng: random.Random) -> tuple[list[int], str]:
    """Numbers and signs of a chain that goes above 999."""
    if rng.random() < 0.4:
        factor = rng.randint(2, 9)
        return [rng.randint(MAX_VALUE // factor + 1, MAX_VALUE), factor], "*"
    if rng.random() < 0.5:
        added = rng.randint(10, MAX_OPERAND)
        return [rng.randint(MAX_VALUE + 1 - added, MAX_VALUE), added], "+"
    added = rng.randint(100, MAX_VALUE)
    return [rng.randint(MAX_VALUE + 1 - added, MAX_VALUE), added], "+"


def _product(rng: random.Random) -> tuple[list[int], str]:
    """Two or three numbers, the second of which is a factor of two digits."""
    numbers = [rng.randint(10, 99), rng.randint(10, 99)]
    return (numbers, "*") if rng.random() < 0.8 else ([*numbers, rng.randint(1, 9)], "*+")


def _operand(rng: random.Random) -> tuple[list[int], str]:
    """A chain of one step within 0 and 999 whose operand is above 99."""
    if rng.random() < 0.2:
        factor = rng.randint(2, 9)
        return [factor, rng.randint(MAX_OPERAND + 1, MAX_VALUE // factor)], "*"
    operand = rng.randint(MAX_OPERAND + 1, 900)
    if rng.random() < 0.5:
        return [rng.randint(1, MAX_VALUE - operand), operand], "+"
    return [rng.randint(operand, MAX_VALUE), operand], "-"


def _huge(rng: random.Random) -> tuple[list[int], str]:
    """Two numbers of which one at least has four digits or more."""
    first = rng.randint(1000, 10 ** rng.randint(4, 7))
    second = rng.randint(1, 10 ** rng.randint(1, 5))
    numbers = [first, second]
    rng.shuffle(numbers)
    return numbers, rng.choice("+-*")


def _in_symbols(chain: Callable[[random.Random], tuple[list[int], str]]) -> Filler:
    def fill(rng: random.Random, _: Language) -> str:
        numbers, signs = chain(rng)
        return _expression(rng, [str(n) for n in numbers], signs)

    return fill


def _in_words(chain: Callable[[random.Random], tuple[list[int], str]]) -> Filler:
    def fill(rng: random.Random, language: Language) -> str:
        numbers, signs = chain(rng)
        text = str(numbers[0])
        for sign, n in zip(signs, numbers[1:], strict=True):
            text += f"{WORDS[language][sign]}{n}"
        return text

    return fill


def negative(rng: random.Random, language: Language) -> str:
    """A chain with a negative number, such as `-3+5`."""
    terms = [f"-{number(rng, language)}", number(rng, language)]
    return _expression(rng, terms, rng.choice("+-*"))


def equation(rng: random.Random, language: Language) -> str:
    """An equation with an unknown, such as `x+3=7`."""
    name, (n, other) = rng.choice("xxxyzn?"), (small(rng, language), number(rng, language))
    forms = (
        f"{name}+{n}={other}",
        f"{name}-{n}={other}",
        f"{n}{name}={other}",
        f"{n}*{name}={other}",
        f"{n}+{name}={other}",
        f"{name} + {n} = {other}",
        f"{name}^2={other}",
        f"{n}{name} - {n} = {other}",
    )
    return rng.choice(forms)


def brackets(rng: random.Random, language: Language) -> str:
    """A chain with brackets that do not stand at its beginning, such as `2*(3+4)`."""
    a, b, c = (small(rng, language) for _ in range(3))
    first, second = rng.choice("+-*"), rng.choice("+-*")
    forms = (
        f"{a}{first}({b}{second}{c})",
        f"{a} {first} ({b} {second} {c})",
        f"({a}{first}{b})*({b}{second}{c})",
        f"{a}{first}({b}{second}{number(rng, language)})-{c}",
    )
    return rng.choice(forms)


def broken(rng: random.Random, language: Language) -> str:
    """A chain that lacks an operand or an operation, such as `3+=?`."""
    n, other, sign = number(rng, language), small(rng, language), rng.choice("+-*")
    forms = (
        f"{n}{sign}",
        f"{sign}{n}",
        f"{n}{sign}{rng.choice('+*/')}{other}",
        f"{n} {sign}",
        f"{sign}",
        f"{n}{sign}{other}{rng.choice('+*')}",
        f"({n}{sign}{other}",
        f"{n}{sign}?",
        f"?{sign}{n}={other}",
        f"{n} {other} {sign}",
    )
    return rng.choice(forms)


def number_words(rng: random.Random, language: Language) -> str:
    """A sum in number words, such as `three plus four`."""
    first, second = (rng.choice(NUMBER_WORDS[language]) for _ in range(2))
    return f"{first}{WORDS[language][rng.choice('+-*')]}{second}"


NUMBERS: Mapping[str, Filler] = {
    "small": small,
    "n": number,
    "long": long_number,
    "digits": digits,
    "decimal": decimal,
    "quotient": quotient,
    "power": power,
    "decimals": decimals,
    "fraction": fraction,
    "below": _in_symbols(_below),
    "belowwords": _in_words(_below),
    "above": _in_symbols(_above),
    "abovewords": _in_words(_above),
    "product": _in_symbols(_product),
    "productwords": _in_words(_product),
    "operand": _in_symbols(_operand),
    "huge": _in_symbols(_huge),
    "negative": negative,
    "equation": equation,
    "brackets": brackets,
    "broken": broken,
    "numberwords": number_words,
}
"""Draws the text of a slot for numbers."""
