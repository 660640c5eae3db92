"""The sample's sentences: every template filled in `VARIANTS` times, for articles to draw from.

A kind of article (town, storm, ...) has `SHEETS` fact sheets: one river, one founder, one year of
birth. Every template is filled in `VARIANTS` times, `DRAWS` times for each sheet, and an article
keeps to one sheet, so that its sentences agree with each other. Slots of a template:

    {X}             the subject: its name, or a stand-in such as "the town" ({X}'s becomes "its")
    {a|b|c}         one of these
    {crop}          one of the list `crop`; an "a" before a slot becomes "an" where it has to
    {@river}        the sheet's river; {@founder.last} the last word of a fact
    {@y+20..35}     20 to 35 more than the sheet's y
    {12-40} {1200-9800,} {2-9.}    a whole number, one with thousands set apart, one with a decimal
"""

from __future__ import annotations

import re

from llmpipe.sample.lexicon import Dice, Kind, set_apart

SHEETS = 16
DRAWS = 4
VARIANTS = SHEETS * DRAWS
NAMES_PER_SHEET = 256

SLOT = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)-(\d+)([,.]?)")
OFFSET = re.compile(r"@(\w+)([+-])(@\w+|\d+)(?:\.\.(\d+))?")
ARTICLE = re.compile(r"\b([aA]) $")
VOWEL_SOUND = re.compile(r"(?!(?:one|uni(?!n)|use|usu|eu))[aeiou]|hour|heir|honest", re.IGNORECASE)


def number(value: int, style: str, spaced: bool) -> str:
    """4310 -> '4310'; with ',' '4 @,@ 310' or '4,310'; with '.', 47 -> '4 @.@ 7' or '4.7'."""
    if style == ".":
        return f"{value // 10}{' @.@ ' if spaced else '.'}{value % 10 or 5}"
    if style == ",":
        return f"{value:,}".replace(",", " @,@ " if spaced else ",")
    return str(value)


class Writer:
    """Fills in the templates of one kind; `spaced` asks for WikiText's typography."""

    def __init__(self, kind: Kind, words: dict[str, list[str]], dice: Dice, spaced: bool) -> None:
        self.words, self.dice, self.spaced = words, dice, spaced
        self.facts: dict[str, list[str]] = {}
        for key, template in kind.facts.items():
            self.facts[key] = self.fill(template, SHEETS)

    def fill(
        self, template: str, count: int = VARIANTS, start: str | None = None, goes_on: bool = False
    ) -> list[str]:
        """`count` strings; number i keeps to the facts of sheet i * SHEETS // count.

        With a `start`, they are the beginnings of sentences: `start` and a capital letter. What
        `goes_on` is the second half of the last template, and shares none of its words from a list
        either.
        """
        if not goes_on:
            self.drawn: dict[str, list[list[str]]] = {}
            for key in self.facts:
                if f"{{@{key}}}" in template:
                    self.drawn[key] = [self.fact(key, count)]
        segments = SLOT.split(template)
        if any("{" in segment or "}" in segment for segment in segments):
            raise ValueError(f"braces of a template must be closed and not nested: {template!r}")
        columns: list[list[str]] = []
        for index, segment in enumerate(segments):
            if index % 2 == 0:
                columns.append([self.typeset(segment)] * count)
                continue
            drawn = self.draw(segment, count)
            if segment in self.words:
                self.avoid_repeats(segment, drawn)
            if match := ARTICLE.search(columns[-1][0]):
                columns[-1] = [columns[-1][0][: match.start()]] * count
                drawn = [
                    f"{match[1]}{'n' * bool(VOWEL_SOUND.match(text))} {text}" for text in drawn
                ]
            columns.append(drawn)
        if start is not None:
            first = next((column for column in columns if column[0]), columns[0])
            first[:] = [start + text[:1].upper() + text[1:] for text in first]
        return list(map("".join, zip(*columns, strict=True)))

    def draw(self, slot: str, count: int) -> list[str]:
        if "|" in slot:
            return self.dice.pick([self.typeset(choice) for choice in slot.split("|")], count)
        if match := RANGE.fullmatch(slot):
            low, high = int(match[1]), int(match[2])
            if match[3] == ".":
                low, high = 10 * low + 1, 10 * high + 9
            picks = self.dice.below(high - low + 1, count)
            return [number(low + pick, match[3], self.spaced) for pick in picks]
        if match := OFFSET.fullmatch(slot):
            years = self.fact(match[1], count)
            if match[3].startswith("@"):
                steps = map(int, self.fact(match[3][1:], count))
            else:
                low, high = sorted((int(match[3]), int(match[4] or match[3])))
                steps = [low + pick for pick in self.dice.below(high - low + 1, count)]
            sign = -1 if match[2] == "-" else 1
            return [str(int(year) + sign * step) for year, step in zip(years, steps, strict=True)]
        if slot.startswith("@"):
            key, _, part = slot[1:].partition(".")
            values = self.fact(key, count)
            return [value.split()[-1] for value in values] if part == "last" else values
        if slot not in self.words:
            raise ValueError(f"no word list is called {slot!r}")
        return self.dice.pick(self.words[slot], count)

    def avoid_repeats(self, key: str, drawn: list[str]) -> None:
        """Exchanges words that the sentence has already from the same list for the next on it."""
        items = self.words[key]
        earlier = self.drawn.setdefault(key, [])
        for place, words in enumerate(zip(*earlier, strict=True)):
            while drawn[place] in words:
                drawn[place] = items[(items.index(drawn[place]) + 1) % len(items)]
        earlier.append(list(drawn))

    def typeset(self, text: str) -> str:
        return set_apart(text) if self.spaced else text

    def fact(self, key: str, count: int) -> list[str]:
        return [value for value in self.facts[key] for _ in range(count // SHEETS)]
