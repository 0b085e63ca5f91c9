"""Tasks on bare text: counting, echoing, listing."""

from __future__ import annotations

from random import Random

from corpus import words
from corpus.sample import Sample, Split, ask

_SETS: dict[str, tuple[str, ...]] = {
    "colors": ("red", "green", "blue", "yellow", "white", "black", "orange"),
    "days": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "days of the week": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "months": tuple(words.MONTHS),
    "months of the year": tuple(words.MONTHS),
    "planets": ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"),
    "fruits": ("apple", "banana", "cherry", "orange", "pear", "plum", "grape"),
    "vegetables": ("carrot", "potato", "onion", "tomato", "cabbage", "bean"),
    "animals": ("dog", "cat", "horse", "cow", "sheep", "bird", "fish"),
    "countries": ("France", "Spain", "Italy", "Germany", "Japan", "Brazil", "Canada"),
    "cities": ("Paris", "Rome", "Berlin", "Tokyo", "Madrid", "Lisbon", "Oslo"),
    "metals": ("iron", "copper", "gold", "silver", "tin", "lead"),
    "instruments": ("piano", "violin", "flute", "guitar", "drum", "trumpet"),
    "seasons": ("spring", "summer", "autumn", "winter"),
    "drinks": ("water", "tea", "coffee", "milk", "juice"),
    "tools": ("hammer", "saw", "drill", "screwdriver", "wrench"),
}
_ORDERS = ("Repeat: ", "Say exactly: ", "Repeat after me: ", "Say: ", "Echo: ", "Repeat this: ", "repeat: ")
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven")


def count(rng: Random, split: Split) -> Sample:
    """Counts from any number to any other up to 300; a few answers are very long on purpose."""
    kind = rng.random()
    if kind < 0.62:
        first = rng.choice((1, rng.randint(0, 290)))
        last = first + rng.randint(1, min(20, 300 - first))
    elif kind < 0.82:
        first = rng.choice((1, 1, rng.randint(0, 240)))
        last = first + rng.randint(5, min(60, 300 - first))
    else:
        first = rng.choice((1, 1, rng.randint(0, 150)))
        last = rng.choice((300, 300, 200, 100, 250, 150, rng.randint(first + 60, 300)))
        last = max(last, first + 60)
    questions = [f"Count from {first} to {last}.", f"count from {first} to {last}", f"Count {first} to {last}."]
    questions.append(f"Please count from {first} to {last}.")
    if first == 1:
        questions += [f"Count to {last}.", f"count to {last}", f"Please count to {last}."]
    return ask("count", rng.choice(questions), ", ".join(str(n) for n in range(first, last + 1)))


def _echo_word(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.15:
        return words.pseudo(rng)
    if kind < 0.5:
        return words.noun(rng)
    if kind < 0.65:
        return words.foreign(rng)
    return rng.choice((words.value, words.value, words.digits, words.proper))(rng)


def echo(rng: Random, split: Split) -> Sample:
    """Repeats a text exactly, whatever its script."""
    length = rng.choice((1, 2, 3, 4, 5, 6, 8, 10))
    text = " ".join(_echo_word(rng) + (rng.choice(",.!?;:") if rng.random() < 0.12 else "") for _ in range(length))
    order = rng.choice(_ORDERS)
    if rng.random() < 0.15:
        return ask("echo", f'{order}"{text}"', text)
    return ask("echo", order + text, text)


def echo_start(rng: Random, split: Split) -> Sample:
    """Repeats one or two words.

    A word after a space and the same word at the start of an answer are different tokens. Short
    answers teach that correspondence at the least cost.
    """
    makers = (words.proper, words.proper, words.pseudo, words.person, words.noun, words.place, words.entity)
    text = " ".join(rng.choice(makers)(rng) for _ in range(rng.choice((1, 1, 2))))
    if rng.random() < 0.4:
        text = text[0].upper() + text[1:]
    return ask("echo", rng.choice(_ORDERS) + text, text)


def listing(rng: Random, split: Split) -> Sample:
    """Lists members of a small closed set, or turns an enumeration into lines."""
    if rng.random() < 0.5:
        name = rng.choice(list(_SETS))
        size = rng.randint(2, min(7, len(_SETS[name])))
        number = _NUMBER_WORDS[size - 1] if rng.random() < 0.75 else str(size)
        question = rng.choice(("List {} {}.", "Name {} {}.", "Give me {} {}.", "list {} {}", "Write a list of {} {}."))
        return ask("list", question.format(number, name), bullets(_SETS[name][:size]))
    items = [rng.choice((words.noun, words.noun, words.proper, words.value))(rng) for _ in range(rng.randint(2, 7))]
    row = ", ".join(items[:-1]) + rng.choice((" and ", ", ", ", and ")) + items[-1]
    question = rng.choice((
        "Make a list: {}", "Write as a list: {}", "Turn into bullet points: {}", "Bullet list: {}",
        "Turn this into a bullet list: {}", "List these: {}", "Make bullet points of {}", "Put into a list: {}",
    ))  # fmt: skip
    return ask("list", question.format(row), bullets(items))


def bullets(items: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"- {item}" for item in items)
