"""The sample's articles: pages of whole articles, in the shape of WikiText-2.

Of a page's rows 34 % are blank, 17 % headings and 48 % paragraphs (WikiText-2: 35, 17 and 48): a
heading has a blank row on either side. About every second page has one row of those that a quality
filter is for: too short, too few words, few letters or repetition (`bad.txt`), or an exact copy of
the paragraph before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmpipe.sample.lexicon import Dice, Section, read_kinds, read_lexicon
from llmpipe.sample.plans import Builder, Corpus, Segment, divide, sentence, spread
from llmpipe.sample.shelf import Shelf
from llmpipe.sample.text import VARIANTS, Writer

PAGE_ROWS = 128
NUM_PAGES = 96
MAX_ARTICLES = 5  # on a page

# Sentences in a paragraph, at about 140 characters a sentence, for WikiText-2's spread of lengths.
PARAGRAPH_SENTENCES = [1] * 21 + [2] * 19 + [3] * 12 + [4] * 8 + [5] * 9 + [6] * 12 + [7] * 13
PARAGRAPH_SENTENCES += [8] * 15 + [9] * 14 + [10] * 10 + [11] * 8 + [12] * 6 + [13] * 4 + [14] * 3
NAMED = 3  # besides the first sentence of a paragraph, one in so many has the article's name
SPOILED_PAGES = 2  # one page of so many has a bad row


@dataclass
class Run:
    """Paragraphs under one heading: `count` templates from `first` on, in order.

    The introduction stands under the title and opens with one of `definitions`, (first template,
    count).
    """

    headings: list[str]
    first: int
    count: int
    definitions: tuple[int, int] | None = None
    num_paragraphs: int = 0


def article_runs(shelf: Shelf, num_headings: int, dice: Dice) -> list[Run]:
    """The introduction and the sections of an article; its title is one of the headings."""
    kind = shelf.kind
    names = kind.varieties[dice.one(len(kind.varieties))]
    definition, introduction, *sections = [kind.sections[name] for name in names]
    num_split = [
        split  # a section in two parts takes three headings
        for split in range(num_headings // 3)
        if split <= num_headings - 1 - 2 * split <= len(sections)
        and split <= sum(bool(section.parts) for section in sections)
    ]
    split = num_split[0] if dice.one(8) else num_split[-1]
    chosen = choose(dice, sections, num_headings - 1 - 2 * split, split)
    in_parts = [section.name for section in chosen if section.parts]
    while len(in_parts) > split:
        in_parts.pop(dice.one(len(in_parts)))
    definitions = (shelf.first[definition.name], len(definition.templates))
    first, count = shelf.first[introduction.name], len(introduction.templates)
    runs = [Run([], first, count, definitions)]
    for section in chosen:
        first, count = shelf.first[section.name], len(section.templates)
        heading = f" = = {section.titles[dice.one(len(section.titles))]} = = \n"
        if section.name not in in_parts:
            runs.append(Run([heading], first, count))
            continue
        starts = [start for _, start in section.parts] + [count]
        for (title, start), end in zip(section.parts, starts[1:], strict=True):
            subheading = f" = = = {title} = = = \n"
            headings = [subheading] if start else [heading, subheading]
            runs.append(Run(headings, first + start, end - start))
    return runs


def choose(dice: Dice, sections: list[Section], count: int, num_split: int) -> list[Section]:
    """`count` of the sections in their order, at least `num_split` of them with parts."""
    kept = list(sections)
    while len(kept) > count:
        loose = [
            place
            for place, section in enumerate(kept)
            if not section.parts or sum(bool(other.parts) for other in kept) > num_split
        ]
        kept.pop(loose[dice.one(len(loose))])
    return kept


def named(shelf: Shelf, first: int, width: int, slot: int, name: int) -> list[Segment]:
    """A sentence with the article's name in it."""
    return [
        sentence(shelf.before + VARIANTS * first, width, slot),
        Segment(name, slot=slot + 1),
        sentence(shelf.after + VARIANTS * first, width, slot, back=2),
    ]


def paragraph(shelf: Shelf, ranges: list[tuple[int, int]], slot: int, dice: Dice) -> list[Segment]:
    """Sentences; the first, and one in `NAMED` of the others, has the article's short name."""
    segments = []
    for place, (first, width) in enumerate(ranges):
        if place == 0 or dice.one(int(shelf.kind.settings.get("named", NAMED))) == 0:
            segments += named(shelf, first, width, slot, shelf.short_name)
        else:
            segments.append(sentence(shelf.whole + VARIANTS * first, width, slot))
    return segments


def write_article(
    builder: Builder,
    shelf: Shelf,
    runs: list[Run],
    slot: int,
    spoil: int,
    dice: Dice,
    bad: list[Segment],
) -> None:
    """Adds the article's rows, with a bad one in place of paragraph `spoil`, if there is one."""
    newline = builder.constant(" \n")
    title = [
        builder.constant(" = "),
        Segment(shelf.full_name, slot=slot + 1),
        builder.constant(" = \n"),
    ]
    number = 0
    for run in runs:
        for heading in [[builder.constant(text)] for text in run.headings] or [title]:
            for row in ([], heading, []):
                builder.row(row)
        sizes = dice.pick(PARAGRAPH_SENTENCES, run.num_paragraphs)
        while sum(sizes) > run.count:
            sizes[sizes.index(max(sizes))] -= 1
        ranges = spread(sum(sizes), run.first, run.count)
        segments: list[Segment] = []
        for place, size in enumerate(sizes):
            own, ranges = ranges[:size], ranges[size:]
            which = dice.one(len(bad) + 1) if number == spoil else None
            if which is None:
                segments = [*paragraph(shelf, own, slot, dice), newline]
                if run.definitions and place == 0:
                    segments = named(shelf, *run.definitions, slot, shelf.full_name) + segments
                builder.row(segments)
            elif place and which == len(bad):
                builder.repeat_row(segments)
            else:
                builder.row([bad[which % len(bad)]])
            number += 1


def bad_rows(builder: Builder, words: dict[str, list[str]], dice: Dice) -> list[Segment]:
    """One segment for each kind of bad row in `bad.txt`."""
    (kind,) = read_kinds("bad.txt")
    writer = Writer(kind, words, dice, spaced=False)
    segments = []
    for section in kind.sections.values():
        rows = [f" {row} \n" for template in section.templates for row in writer.fill(template)]
        segments.append(Segment(builder.add(rows), len(section.templates), VARIANTS - 1))
    return segments


def article_corpus() -> Corpus:
    words = read_lexicon(spaced=True)
    dice = Dice(1, 1)
    builder = Builder()
    bad = bad_rows(builder, words, dice)
    shelves = [
        shelf
        for kind in read_kinds("articles.txt")
        for shelf in [Shelf(builder, kind, words, dice)] * int(kind.settings["weight"])
    ]
    for _ in range(NUM_PAGES):
        write_page(builder, shelves, dice, bad)
    return builder.corpus(MAX_ARTICLES)


def write_page(builder: Builder, shelves: list[Shelf], dice: Dice, bad: list[Segment]) -> None:
    num_articles = 4 + dice.one(2)
    num_headings = 22
    chosen = [shelves[dice.one(len(shelves))] for _ in range(num_articles)]
    spare = num_headings - 2 * num_articles
    sizes = [2 + share for share in divide(dice, spare, [5] * num_articles)]
    articles = [article_runs(shelf, size, dice) for shelf, size in zip(chosen, sizes, strict=True)]
    runs = [run for article in articles for run in article]
    num_paragraphs = PAGE_ROWS - 3 * num_headings
    most = [run.count // 3 for run in runs]
    for run, share in zip(runs, divide(dice, num_paragraphs, most), strict=True):
        run.num_paragraphs = share
    spoiled = dice.one(num_articles) if dice.one(SPOILED_PAGES) == 0 else None
    for place, (shelf, article) in enumerate(zip(chosen, articles, strict=True)):
        spoil = 1 + dice.one(8) if place == spoiled else -1
        write_article(builder, shelf, article, 1 + 2 * place, spoil, dice, bad)
    builder.end_unit()
