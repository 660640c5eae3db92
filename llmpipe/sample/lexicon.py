"""What the sample is written from: the lists and templates in `llmpipe/sample/data`, read in.

`lexicon.json` holds word lists, and syllables from which names are put together. A template file
holds kinds: a line `kind town`, then settings (`weight: 3`), facts (`fact river: {river}`), the
order of its sections (`sections: define, intro, history`), and the sections themselves, one
template a line, some in parts:

    section history = History | History of the town
    part Early history
    {X} lost {a third|half} of its houses to {disaster}.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from importlib import resources

import numpy as np


class Dice:
    """Whole numbers that are the same on every platform: raw words of PCG64, and a remainder.

    >>> Dice(1).below(6, 3)
    [1, 0, 1]
    """

    def __init__(self, *seed: int) -> None:
        self.bits = np.random.PCG64(list(seed))

    def below(self, bound: int, count: int) -> list[int]:
        return (self.bits.random_raw(count) % np.uint64(bound)).tolist()

    def one(self, bound: int) -> int:
        return self.bits.random_raw() % bound

    def pick(self, items: list, count: int) -> list:
        """`count` of the items; of a long list the early ones are met more often, as names are."""
        bound = len(items)
        picks = self.below(bound, count)
        if bound > 256:
            skews = self.below(bound, count)
            picks = [
                pick * (bound + skew) // (2 * bound)
                for pick, skew in zip(picks, skews, strict=True)
            ]
        return [items[pick] for pick in picks]


@dataclass(frozen=True)
class Section:
    """A run of templates, in the order in which their sentences may follow one another."""

    name: str
    titles: list[str]
    templates: list[str] = field(default_factory=list)
    # Subsections, or none: (title, index of its first template).
    parts: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """What articles of one kind share; `settings` holds the lines `key: value` of the file."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    varieties: list[list[str]] = field(default_factory=list)
    sections: dict[str, Section] = field(default_factory=dict)


def read_data(name: str) -> str:
    return resources.files("llmpipe.sample").joinpath("data", name).read_text(encoding="utf-8")


def read_kinds(name: str) -> list[Kind]:
    """The kinds in a template file; one with `forms` is read once for each form (she, he)."""
    kinds = []
    for block in read_data(name).split("\nkind ")[1:]:
        forms = re.search(r"^forms: (.*)$", block, re.MULTILINE)
        words = [form.split() for form in forms.group(1).split("|")] if forms else [[]]
        for form in words:
            text = block
            for key, word in zip(("$he", "$his", "$him", "$himself", "$sex"), form, strict=False):
                text = re.sub(re.escape(key) + r"\b", word, text)
            kinds.append(read_kind(text))
    return kinds


def read_kind(block: str) -> Kind:
    title, *lines = [line.strip() for line in block.splitlines()]
    kind = Kind(title)
    section = None
    for line in lines:
        if not line or line.startswith("#"):
            continue
        if line.startswith("section "):
            name, _, titles = line.removeprefix("section ").partition(" = ")
            section = kind.sections[name] = Section(name, titles.split(" | "))
        elif line.startswith("part "):
            section.parts.append((line.removeprefix("part "), len(section.templates)))
        elif section is not None:
            section.templates.append(line)
        elif line.startswith("fact "):
            key, value = line.removeprefix("fact ").split(": ", 1)
            kind.facts[key] = value
        elif line.startswith("sections: "):
            kind.varieties.append(line.removeprefix("sections: ").split(", "))
        else:
            key, value = line.split(": ", 1)
            kind.settings[key] = value
    return kind


def read_lexicon(spaced: bool) -> dict[str, list[str]]:
    """Word lists by name: those of `lexicon.json`, and names put together from its syllables.

    `spaced` is for WikiText's typography: "red @-@ haired".
    """
    lexicon = json.loads(read_data("lexicon.json"))
    words = {key: value.split(", ") for key, value in lexicon["words"].items()}
    if spaced:
        words = {key: list(map(set_apart, values)) for key, values in words.items()}
    parts = {key: value.split() for key, value in lexicon["syllables"].items()}
    for seed, (name, (count, *sources)) in enumerate(lexicon["names"].items()):
        dice = Dice(seed, 7)
        columns = [dice.pick(sorted(parts[source]), count + count // 4) for source in sources]
        names = dict.fromkeys(map(join_syllables, zip(*columns, strict=True)))  # no name twice
        words[name] = list(names)[:count]
    for name, sources in lexicon["unions"].items():
        words[name] = [word for source in sources for word in words[source]]
    words["tails"] = lexicon["tails"]
    return words


def join_syllables(syllables: tuple[str, ...]) -> str:
    """('Vell', 'low') -> 'Vellow': letters that meet their like are written once."""
    name = syllables[0]
    for syllable in syllables[1:]:
        if name[-1] == syllable[0] or name[-2:] == syllable[:2]:
            syllable = syllable[1 if name[-1] == syllable[0] else 2 :]
        name += syllable
    return name


def set_apart(text: str) -> str:
    """Ordinary typography to WikiText's: "well-known, red." -> "well @-@ known , red ."."""
    for mark in (",", ";", ":", ")", "'s ", "' "):
        text = text.replace(mark, f" {mark}")
    text = text.replace("(", "( ").replace("-", " @-@ ")
    text = f"{text[:-2]} 's" if text.endswith("'s") else text
    return f"{text[:-1]} ." if text.endswith(".") else text
