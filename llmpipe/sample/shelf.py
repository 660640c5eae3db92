"""All sentences about one kind of article, in the sample's pool, with a name and without."""

from __future__ import annotations

import re

from llmpipe.sample.lexicon import Dice, Kind
from llmpipe.sample.plans import Builder
from llmpipe.sample.text import NAMES_PER_SHEET, SHEETS, VARIANTS, Writer

TAILED = 10  # one sentence in so many ends in its source: "according to Ada Holm"

BRACKET = re.compile(r"(.*)\[(.*) // (.*)\](.*)")
SHORT_NAMES = {
    "all": lambda name: name,
    "last": lambda name: name.split()[-1],
    "initial": lambda name: f"{name[0]}. {name.split()[-1]}",
}


class Shelf:
    """The strings of one kind in the pool: `VARIANTS` a template, in each of three forms.

    A template has the subject in one place, written {X}, or {N} where it goes without the kind's
    article. It is kept as what stands `before` and `after` the name, for the first sentence of a
    paragraph, and as a `whole` sentence with a stand-in, {X}'s with "its" or the kind's setting
    `its`. [The house of {X} // her house] says what the stand-in is.
    """

    def __init__(
        self, builder: Builder, kind: Kind, words: dict[str, list[str]], dice: Dice
    ) -> None:
        writer = Writer(kind, words, dice, spaced=True)
        self.kind = kind
        self.first: dict[str, int] = {}
        tails = [tail for template in words["tails"] for tail in writer.fill(f", {template}.")]
        before, after, whole = [], [], []
        for section in kind.sections.values():
            self.first[section.name] = len(whole) // VARIANTS
            for template in section.templates:
                named, stand_in = self.two_forms(template)
                left, right = named.split("{X}")
                before += writer.fill(left, start=" ") if left else [" "] * VARIANTS
                after += with_tails(dice, writer.fill(right, goes_on=True), tails)
                whole += with_tails(dice, writer.fill(stand_in, start=" "), tails)
        names = writer.fill(kind.settings["name"], SHEETS * NAMES_PER_SHEET)
        shorten = SHORT_NAMES[kind.settings["short"]]
        self.before, self.after, self.whole = map(builder.add, (before, after, whole))
        self.full_name = builder.add(names)
        self.short_name = builder.add([shorten(name) for name in names])

    def two_forms(self, template: str) -> tuple[str, str]:
        """(with {X} for the name, without it)"""
        settings = self.kind.settings
        article = f"{settings['article']} {{X}}" if "article" in settings else "{X}"
        if match := BRACKET.fullmatch(template):
            start, named, other, end = match.groups()
            return f"{start}{named.replace('{X}', article)}{end}", f"{start}{other}{end}"
        if "{N}" in template:
            return template.replace("{N}", "{X}"), template.replace("{N}", settings["noun"])
        stand_ins = settings["it"].replace(" | ", "|")
        whose = template.replace("{X}'s", settings.get("its", "its"))
        other = f"{{{stand_ins}}}" if template.startswith("{X}") else stand_ins.split("|")[0]
        return template.replace("{X}", article), whose.replace("{X}", other)


def with_tails(dice: Dice, sentences: list[str], tails: list[str]) -> list[str]:
    """The sentences, of which one in `TAILED` says in the end where it is from."""
    for place, tail in enumerate(dice.below(TAILED * len(tails), len(sentences))):
        if tail < len(tails):
            sentences[place] = sentences[place].removesuffix(" .") + tails[tail]
    return sentences
