"""The sample's reviews: invented films, judged by people of mixed feelings, in the shape of IMDB.

A review has an opener with the title, sentences that tell the story, sentences that praise or
blame, some that do neither, and a last word. Most of what a positive review says about its film is
praise, but not all: to tell the label one has to weigh the words of a whole review, since no word
of it gives the label away.
"""

from __future__ import annotations

from llmpipe.sample.lexicon import Dice, read_kinds, read_lexicon
from llmpipe.sample.plans import Builder, Corpus, Segment, sentence, spread
from llmpipe.sample.text import NAMES_PER_SHEET, SHEETS, VARIANTS, Writer

NUM_PLANS = 1024  # for each label

# Sentences in a review, 32 equally likely numbers: at about 13 words each, IMDB's spread of
# lengths.
REVIEW_SENTENCES = [4, 6, 7, 8, 8, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 13, 14, 15, 16, 17, 18, 19]
REVIEW_SENTENCES += [21, 22, 24, 27, 30, 33, 37, 43, 52, 62]

PLOT, OPINION = 25, 63  # per cent of the sentences; the rest are neither
SAME_SIDE = 78  # per cent of the opinions are on the side of the label
SAME_END = 84  # per cent of the last words are

Plan = list[tuple[str, bool, bool]]  # (section, on the side of the label, in a new paragraph)


def draw_plan(dice: Dice) -> Plan:
    """What follows the opener, sentence by sentence; half of the reviews have paragraphs."""
    count = dice.pick(REVIEW_SENTENCES, 1)[0] - 1
    in_paragraph = 3 + dice.one(5) if dice.one(2) else count + 1
    plan = []
    for place in range(count):
        roll = dice.one(100)
        if place == count - 1:
            section, agrees = "end", dice.one(100) < SAME_END
        elif place < 2 or roll < PLOT:
            section, agrees = "plot", True
        elif roll < PLOT + OPINION:
            section, agrees = "opinion", dice.one(100) < SAME_SIDE
        else:
            section, agrees = "hedge", True
        plan.append((section, agrees, place % in_paragraph == in_paragraph - 1))
    return plan


class ReviewShelf:
    """The sentences of the reviews in the pool, by section and by whether a break comes first."""

    def __init__(self, builder: Builder, dice: Dice) -> None:
        (kind,) = read_kinds("reviews.txt")
        writer = Writer(kind, read_lexicon(spaced=False), dice, spaced=False)
        self.count = {name: len(section.templates) for name, section in kind.sections.items()}
        self.bases: dict[tuple[str, bool], int] = {}
        for name, section in kind.sections.items():
            if name == "opener":
                halves = [template.split("{X}") for template in section.templates]
                self.before, self.after = (
                    builder.add([text for half in halves for text in writer.fill(half[side])])
                    for side in (0, 1)
                )
                continue
            for is_break, start in ((False, " "), (True, "<br /><br />")):
                texts = [text for t in section.templates for text in writer.fill(t, start=start)]
                self.bases[name, is_break] = builder.add(texts)
        self.titles = builder.add(writer.fill(kind.settings["name"], SHEETS * NAMES_PER_SHEET))


def write_review(builder: Builder, shelf: ReviewShelf, plan: Plan, sides: tuple[str, str]) -> None:
    """Adds a review in which sentences that agree with the label come from `sides[0]`.

    Praise and blame are about the same subjects in the same order, so that no review contradicts
    itself.
    """
    segments = [
        sentence(shelf.before, shelf.count["opener"], 1),
        Segment(shelf.titles, slot=2),
        sentence(shelf.after, shelf.count["opener"], 1, back=2),
    ]
    sections = [section for section, _, _ in plan]
    templates = {"opinion": shelf.count["good"], "end": shelf.count["end good"]} | shelf.count
    ranges = {
        section: iter(spread(sections.count(section), 0, templates[section]))
        for section in dict.fromkeys(sections)
    }
    for section, agrees, is_break in plan:
        side = sides[0] if agrees else sides[1]
        name = {"opinion": side, "end": f"end {side}"}.get(section, section)
        first, width = next(ranges[section])
        segments.append(sentence(shelf.bases[name, is_break] + VARIANTS * first, width, 1))
    builder.row(segments)
    builder.end_unit()


def review_corpus() -> Corpus:
    """`NUM_PLANS` plans of negative reviews, then the same plans of positive ones."""
    dice = Dice(2, 1)
    builder = Builder()
    shelf = ReviewShelf(builder, dice)
    plans = [draw_plan(dice) for _ in range(NUM_PLANS)]
    for sides in (("bad", "good"), ("good", "bad")):
        for plan in plans:
            write_review(builder, shelf, plan, sides)
    return builder.corpus(1)
