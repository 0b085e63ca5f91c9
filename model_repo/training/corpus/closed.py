"""Closed tables: capitals, colours, opposites, the order of days and months, small arithmetic.

Every fact occurs in training, since a table can't be guessed. Held out are wordings of questions.
"""

from __future__ import annotations

from random import Random

from corpus import words
from corpus.sample import Sample, Split, ask, in_split

CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Portugal": "Lisbon", "Italy": "Rome", "Germany": "Berlin",
    "Austria": "Vienna", "Greece": "Athens", "Poland": "Warsaw", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa", "Mexico": "Mexico City",
    "Brazil": "Brasília", "Peru": "Lima", "Chile": "Santiago", "Cuba": "Havana", "Turkey": "Ankara",
    "Hungary": "Budapest", "Belgium": "Brussels", "Switzerland": "Bern", "Iceland": "Reykjavik",
    "Thailand": "Bangkok", "Russia": "Moscow", "Argentina": "Buenos Aires", "Australia": "Canberra",
    "the Netherlands": "Amsterdam", "England": "London", "the United States": "Washington",
}  # fmt: skip
_COLORS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a banana": "yellow",
    "a tomato": "red", "an orange": "orange", "chocolate": "brown", "a lemon": "yellow",
    "blood": "red", "milk": "white", "a raven": "black", "a plum": "purple", "gold": "yellow",
}  # fmt: skip
_OPPOSITES = (
    "hot cold big small up down left right fast slow open closed light dark early late happy sad full "
    "empty hard soft wet dry old new high low long short strong weak near far rich poor day night"
).split()


def _table_wordings(rng: Random) -> tuple[list[str], str]:
    kind = rng.random()
    if kind < 0.5:
        country, city = rng.choice(list(CAPITALS.items()))
        if rng.random() < 0.8:
            return [
                f"What is the capital of {country}?", f"Capital of {country}?", f"Name the capital of {country}.",
                f"Which city is the capital of {country}?", f"What's the capital of {country}?",
                f"Tell me the capital of {country}.", f"The capital of {country}?",
            ], f"The capital of {country} is {city}."  # fmt: skip
        return [
            f"{city} is the capital of which country?", f"Which country has the capital {city}?",
            f"Of which country is {city} the capital?",
        ], f"{city} is the capital of {country}."  # fmt: skip
    if kind < 0.62:
        name, color = rng.choice(list(_COLORS.items()))
        return [
            f"What color is {name}?", f"What is the color of {name}?", f"Which color has {name}?",
            f"What colour is {name}?", f"Tell me the color of {name}.",
        ], f"{name[0].upper() + name[1:]} is {color}."  # fmt: skip
    if kind < 0.8:
        index = rng.randrange(len(_OPPOSITES))
        word, other = _OPPOSITES[index], _OPPOSITES[index ^ 1]
        return [
            f"What is the opposite of {word}?", f"Opposite of {word}?", f"Tell me the opposite of {word}.",
            f"What's the opposite of {word}?", f"Which word is the opposite of {word}?",
        ], f"The opposite of {word} is {other}."  # fmt: skip
    row, unit = (words.DAYS, "day") if rng.random() < 0.45 else (words.MONTHS, "month")
    index = rng.randrange(len(row))
    if rng.random() < 0.6:
        return [
            f"Which {unit} comes after {row[index]}?", f"What {unit} is after {row[index]}?",
            f"What comes after {row[index]}?", f"Which {unit} follows {row[index]}?",
        ], f"The {unit} after {row[index]} is {row[(index + 1) % len(row)]}."  # fmt: skip
    return [
        f"Which {unit} comes before {row[index]}?", f"What {unit} is before {row[index]}?",
        f"What comes before {row[index]}?",
    ], f"The {unit} before {row[index]} is {row[index - 1]}."  # fmt: skip


def _arithmetic_wordings(rng: Random) -> tuple[list[str], str]:
    sign = rng.choice("++--*")
    a, b = (rng.randint(0, 10), rng.randint(0, 10)) if sign == "*" else (rng.randint(0, 20), rng.randint(0, 20))
    if sign == "-":
        a, b = max(a, b), min(a, b)
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    text = f"{a} {sign} {b}"
    return [
        f"What is {text}?", text, f"Compute {text}.", f"{text} = ?", f"How much is {text}?", f"Calculate {text}.",
        f"What's {text}?",
    ], f"{text} = {result}"  # fmt: skip


def table(rng: Random, split: Split) -> Sample:
    while True:
        wordings, answer = _table_wordings(rng)
        if fitting := in_split(wordings, split):
            return ask("table", rng.choice(fitting), answer)


def arithmetic(rng: Random, split: Split) -> Sample:
    """Seen in all wordings: with punctuation dropped, sums and products would share a hash."""
    wordings, answer = _arithmetic_wordings(rng)
    return ask("arithmetic", rng.choice(wordings), answer)
