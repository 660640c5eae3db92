"""The figures: every number is said in words, nothing is cut off, colours can be told apart."""

import itertools
import re
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_hex
from matplotlib.text import Text

from llmpipe.classroom import plots
from llmpipe.classroom.plots.colours import GREY, ORANGE, PALETTE, VERMILION
from llmpipe.classroom.plots.figure import CaptionedFigure
from llmpipe.ledger import Entry, Ledger

WIKITEXT = Ledger(
    Entry("filter", "documents", 36718, 16859, dropped={"blank": 12951, "too_short": 6908}),
    Entry("tokenize", "documents", 16859, 16859),
    Entry("tokenize", "ids", 0, 2357942, added={"text": 2357942}),
    Entry("chunk", "ids", 2357942, 2357888, remainder=54),
)
PADDED = Ledger(
    Entry(
        "filter",
        "documents",
        1200,
        15,
        dropped={"blank": 500, "heading": 300, "too_short": 200, "low_letter_ratio": 185},
    ),
    Entry("tokenize", "documents", 15, 15),
    Entry("tokenize", "ids", 0, 1000, added={"text": 1000}),
    Entry("chunk", "ids", 1000, 1024, added={"padding": 24}),
    Entry("batch", "ids", 1024, 512, dropped={"stopped early": 500}, remainder=12),
)
RNG = np.random.default_rng(0)
BEFORE = np.concatenate([np.zeros(12951, int), RNG.integers(1, 39, 6908)])
AFTER = RNG.lognormal(6.3, 0.8, 16859).astype(int) + 40

LABS = ("Lab 1: all in memory", "Lab 2: streamed")
MEASURES = {
    "time": (0.43, 0.38),
    "peak memory": (152.3, 12.4),
    "time to first batch": (0.386, 0.0123),
    "ids lost": (54, 54),
}
LARGE = {"time": (1234.5, 3e-5), "time to first batch": (98765.4, 1e-3), "ids lost": (10**9, 0)}
UNITS = {"time": "s", "peak memory": "MB", "time to first batch": "s", "ids lost": "ids"}


def spans_of(world_size, num_steps):
    """A start, then steps of three kinds each and a short wait, of lengths that differ."""
    rng, spans = np.random.default_rng(0), []
    for rank in range(world_size):
        now = 0.3 + rank / 100
        spans.append((rank, "start-up", 0.0, now))
        for what in ("read", "tokenize", "yield") * num_steps:
            took = (rng.random() + 0.1) / num_steps
            spans.append((rank, what, now, now + took))
            now += took + (what == "yield") * 0.01 / num_steps
    return spans


def round_robin(num_documents, world_size):
    """How often each rank reads each document: rank 0 the first, rank 1 the second, and so on."""
    return (np.arange(num_documents)[:, None] % world_size == np.arange(world_size)).astype(int)


def with_faults(times_read):
    """Document 3 read by nobody, 5 by two ranks, 7 twice by one."""
    times_read[3], times_read[5], times_read[7] = 0, 0, times_read[7] * 2
    times_read[5, :2] = 1
    return times_read


LENGTHS = RNG.lognormal(5.5, 0.7, 25_000).astype(int) + 10

# Each figure of typical and of awkward numbers, and what its caption has to say.
FIGURES = {
    "map of lab 1": (
        lambda: plots.pipeline_map({"load", "filter", "tokenize", "chunk", "batch", "ledger"}),
        [
            "document -> token ids -> block",
            "(B, T)",
            "load, filter, tokenize, chunk, batch, ledger",
        ],
    ),
    "map, nothing lit": (lambda: plots.pipeline_map(()), ["none of the parts"]),
    "map, all lit": (plots.pipeline_map, ["shard", "buffer"]),
    "lengths": (
        lambda: plots.lengths_before_after(
            np.concatenate([BEFORE, AFTER]), AFTER, {"blank": 12951, "too_short": 6908}
        ),
        ["36,718", "16,859", "45.9%", "blank 12,951", "too_short 6,908"],
    ),
    "lengths, one document": (
        lambda: plots.lengths_before_after([7], [7], {"blank": 0}, unit="ids"),
        ["1 documents before, 1 after", "dropped: none", "7 -> 7 ids"],
    ),
    "lengths, all gone": (
        lambda: plots.lengths_before_after([0, 0], [], {"low_letter_ratio": 2}),
        ["2 documents before, 0 after", "0 -> none", "low_letter_ratio 2"],
    ),
    "speeds": (
        lambda: plots.tokenizer_speeds(
            {"one by one": 0.41e6, "batched, 1,000 a call": 0.92e6, "fast backend": 37.2e6}
        ),
        ["410,000", "920,000, 2.24 times", "37.2 M, 90.7 times"],
    ),
    "speeds, long name, first fastest": (
        lambda: plots.tokenizer_speeds(
            {"a way of tokenizing with a long name": 5e9, "b": 12.3, "c": 1, "d": 2, "e": 3, "f": 4}
        ),
        ["5 G", "12.3"],
    ),
    "waterfall": (
        lambda: plots.ledger_waterfall(WIKITEXT),
        ["36,718", "blank 12,951", "16,859", "2,357,942", "54", "2,357,888"],
    ),
    "waterfall, padded": (
        lambda: plots.ledger_waterfall(PADDED),
        ["padding 24", "stopped early 500", "low_letter_ratio 185"],
    ),
    "loss": (
        lambda: plots.loss_curve(10.8 * np.exp(-np.arange(60) / 80), vocab_size=50257),
        ["60 steps", "10.80 at the first", "5.17 at the last", "step 60", "50,257", "10.82"],
    ),
    "loss, one step": (lambda: plots.loss_curve([2.5]), ["1 steps: loss 2.50"]),
    "throughput by batch size": (
        lambda: plots.throughput_by(
            [2**power for power in range(11)],
            [4e5, 5e5, 7e5, 8e5, 9e5, 9e5, 9.2e5, 9.3e5, 9.2e5, 9e5, 9e5],
            "documents a call",
            marked=16,
        ),
        ["1: 400,000", "1,024: 900,000", "best at 128", "marked: 16"],
    ),
    "throughput by block size": (
        lambda: plots.throughput_by([64, 128, 256, 512, 1024], [31e6, 36e6, 4e7, 42e6, 41e6], "T"),
        ["64: 31 M", "1,024: 41 M", "best at 512"],
    ),
    "throughput, one size": (
        lambda: plots.throughput_by([8], [0.0], "batch size", unit="samples/s"),
        ["samples/s by batch size: 8: 0"],
    ),
    "ids lost": (
        lambda: plots.ids_lost({1: 1013430, 10: 106806, 100: 10550, 1000: 694}, 2357942, 54),
        ["2,357,942", "1: 1,013,430", "1,000: 694", "leaves 54"],
    ),
    "nothing lost": (lambda: plots.ids_lost({1: 0}, 128, 0), ["1: 0", "leaves 0"]),
    "quadratic": (
        lambda: plots.quadratic(
            [1000, 2000, 4000, 8000],
            {
                "sum(lists, [])": [0.04, 0.16, 0.64, 2.56],
                "np.concatenate": [1e-3, 2e-3, 4e-3, 8e-3],
            },
        ),
        ["1,000 -> 8,000", "0.04 s -> 2.56 s, power 2.0", "0.008 s, power 1.0"],
    ),
    "loaders": (
        lambda: plots.loader_speeds(
            {
                "blocks, 0 workers": 1.9e6,
                "batches, 0 workers": 15.7e6,
                "blocks, 2 workers": 0.31e6,
                "batches, 2 workers": 6.2e6,
            }
        ),
        ["0 workers: 1.9 M", "15.7 M, 8.26 times", "310,000, 0.16 times", "6.2 M, 3.26 times"],
    ),
    "loaders, one": (lambda: plots.loader_speeds({"batches": 5}), ["tokens/s: batches: 5"]),
    "memory": (
        lambda: plots.memory_by_rows(
            [1000, 9180, 36718],
            {"load it all": [4_000_000, 36_500_000, 152_000_000], "stream": [9e6, 12e6, 12.4e6]},
        ),
        ["load it all: 1,000: 4 MB, 9,180: 36.5 MB, 36,718: 152 MB", "36,718: 12.4 MB"],
    ),
    "memory, one way that needs none": (
        lambda: plots.memory_by_rows([10**6], {"stream": [0]}),
        ["stream: 1,000,000: 0 MB"],
    ),
    "memory, as many ways as there are colours": (
        lambda: plots.memory_by_rows(
            [10**7, 10], {f"way {i} of reading rows": [i * 10**9, i * 1000] for i in range(7)}
        ),
        ["way 6 of reading rows: 10,000,000: 6,000 MB, 10: 0.006 MB"],
    ),
    "origins": (
        lambda: plots.block_origins([3, 7, 1, 4, 5], block_size=6),
        [
            "20 ids of 5 documents",
            "block 0: 0-2 of d0, 3-5 of d1; block 1: 6-9 of d1, 10 of d2, 11 of d3; block 2: ",
            "remainder: 18-19 of d4",
        ],
    ),
    "origins, as many as can be drawn": (
        lambda: plots.block_origins([5] * 40, block_size=20),
        ["block 9: 180-184 of d36", "195-199 of d39; no remainder"],
    ),
    "origins, no block": (
        lambda: plots.block_origins([0, 2, 0], block_size=20),
        ["2 ids of 3 documents; remainder: 0-1 of d1"],
    ),
    "origins, blocks of one": (lambda: plots.block_origins([1, 2], 1), ["block 2: 2 of d1"]),
    "rate over time": (
        lambda: plots.throughput_over_time(
            [0, 0.2, 0.4, 0.6, 0.8],
            [0, 1_000_000, 4_000_000, 8_000_000, 10_000_000],
            [310e6, 311e6, 316e6, 314e6, 312e6],
        ),
        [
            "10 M tokens in 0.8 s: mean 12.5 M tokens/s",
            "slowest interval 5 M (from 0 s to 0.2 s), fastest 20 M (from 0.4 s to 0.6 s)",
            "memory first 310 MB, last 312 MB, peak 316 MB",
        ],
    ),
    "rate over time, nothing came": (
        lambda: plots.throughput_over_time([0, 0.001], [0, 0], [0, 0]),
        ["0 tokens in 0.001 s: mean 0 tokens/s", "peak 0 MB"],
    ),
    "rate over time, two hours": (
        lambda: plots.throughput_over_time(
            [0, 100, 100.5, 7200], [0, 10**10, 10**10 + 5, 9 * 10**11], [5e9, 6e9, 1e9, 4e9]
        ),
        ["7,200 s", "slowest interval 10 (from 100 s to 100.5 s)", "peak 6,000 MB"],
    ),
    "labs compared": (
        lambda: plots.labs_compared(
            {measure: dict(zip(LABS, values, strict=True)) for measure, values in MEASURES.items()},
            UNITS,
        ),
        [
            "time (s): Lab 1: all in memory: 0.43, Lab 2: streamed: 0.38",
            "peak memory (MB): Lab 1: all in memory: 152, Lab 2: streamed: 12.4",
            "ids lost (ids): Lab 1: all in memory: 54, Lab 2: streamed: 54",
        ],
    ),
    "labs compared, far apart": (
        lambda: plots.labs_compared(
            {measure: dict(zip(LABS, values, strict=True)) for measure, values in LARGE.items()},
            UNITS,
        ),
        ["time to first batch (s): Lab 1: all in memory: 98,765", "1 G, Lab 2: streamed: 0"],
    ),
    "labs compared, one measure of three ways": (
        lambda: plots.labs_compared({"ids lost": dict.fromkeys(["classic", *LABS], 0)}, UNITS),
        ["ids lost (ids): classic: 0, Lab 1"],
    ),
    "map of lab 4": (
        lambda: plots.pipeline_map({"load", "tokenize", "labels", "pad", "batch", "shard"}),
        ["row padded to T ids -> batch", "load, tokenize, batch, shard, labels, pad."],
    ),
    "time line": (
        lambda: plots.time_line(
            [(0, "start-up", 0, 0.5), (1, "start-up", 0, 0.25)] * 1
            + [(1, "read", 0.25, 0.5), (0, "read", 0.5, 1), (0, "tokenize", 1, 3)]
        ),
        [
            "seconds of all ranks together: start-up 0.75, read 0.75, tokenize 2",
            "rank 1 ends first, after 0.5 s, rank 0 last, after 3 s",
        ],
    ),
    "time line, short spans": (lambda: plots.time_line(spans_of(4, 1500)), ["tokenize", "yield"]),
    "time line, nine ranks": (lambda: plots.time_line(spans_of(9, 40)), ["start-up 3.06"]),
    "time line, more ranks than can be named": (
        lambda: plots.time_line(spans_of(64, 3)),
        ["read", "rank"],
    ),
    "time line, two ranks that did nothing": (
        lambda: plots.time_line(
            [(1, f"kind {i} of what was done", i * 3600, i * 3600 + 3600) for i in range(7)], 3
        ),
        ["kind 6 of what was done 3,600; rank 1 ends first, after 25,200 s"],
    ),
    "time line, no time": (lambda: plots.time_line([(0, "read", 0, 0)]), ["read 0"]),
    "rank bars": (
        lambda: plots.rank_bars([500, 500], [60_000, 61_234], [2.1e6, 2.05e6]),
        ["rank 1: 500 rows, 61,234 ids, 2.05 M tokens/s"],
    ),
    "rank bars, nine ranks": (
        lambda: plots.rank_bars([18359] * 9, [1_178_971] * 9, [2.36e6 * i for i in range(9)]),
        ["rank 0: 18,359 rows, 1,178,971 ids, 0 M tokens/s", "rank 8"],
    ),
    "rank bars, nothing": (lambda: plots.rank_bars([0], [0], [0]), ["rank 0: 0 rows, 0 ids"]),
    "rank bars, far apart": (
        lambda: plots.rank_bars([1, 10**9, 0, 3], [10**12, 0, 0, 1], [1e9, 1, 0, 0]),
        ["rank 1: 1,000,000,000 rows, 0 ids"],
    ),
    "coverage": (
        lambda: plots.coverage_map(round_robin(12, 2)),
        ["12 documents, 2 ranks: 12 read exactly once, 0 missing, 0 read more than once; each"],
    ),
    "coverage, faults": (
        lambda: plots.coverage_map(with_faults(round_robin(12, 4))),
        ["12 documents, 4 ranks: 9 read exactly once, 1 missing (3), 2 read more than once (5, 7)"],
    ),
    "coverage, many": (
        lambda: plots.coverage_map(with_faults(round_robin(36_718, 9))),
        ["36,718 documents, 9 ranks: 36,715 read exactly once, 1 missing (3), 2 read more than"],
    ),
    "coverage, none": (
        lambda: plots.coverage_map(np.zeros((7, 1), int)),
        ["7 missing (0, 1, 2, 3, 4, ...)", "each rank reads 0 of them"],
    ),
    "coverage, all by all of many ranks": (
        lambda: plots.coverage_map(np.ones((10**5, 64), bool)),
        ["100,000 read more than once (0, 1, 2, 3, 4, ...)"],
    ),
    "amplification": (
        lambda: plots.read_amplification(
            {"every rank reads all": 42_400_000, "row groups": 21e6, "virtual shards": 10.7e6},
            10_600_000,
        ),
        [
            "of a split of 10.6 MB: every rank reads all: 42.4 MB, 4.00 times the split",
            "virtual shards: 10.7 MB, 1.01 times the split",
        ],
    ),
    "amplification, less than once": (
        lambda: plots.read_amplification({"one column": 500}, 1000),
        ["0.50 times the split"],
    ),
    "amplification, nine ways": (
        lambda: plots.read_amplification(
            {f"way {i} to divide": i * 10**9 for i in range(9)}, 10**9
        ),
        ["way 8 to divide: 8,000 MB, 8.00 times the split"],
    ),
    "scaling": (
        lambda: plots.scaling([4, 2, 1], [4.2e6, 4.1e6, 2.4e6], 2, 0.17, [4, 2, 1]),
        [
            "speed-up over one rank: 1: 1.00, 2: 1.71, 4: 1.75; 2 cores",
            "Amdahl's law, 17.0% serial: 1.71 with 4 ranks; predicted: 1: 1, 2: 2, 4: 4",
        ],
    ),
    "scaling, slower": (
        lambda: plots.scaling([1, 2, 3, 4, 9], [2.4, 1.9, 1.8, 1.2, 0.9], 2, 1),
        ["9: 0.38"],
    ),
    "scaling, more cores than ranks": (
        lambda: plots.scaling([1, 8, 9], [1, 6.5, 7], 16, predicted=[1, 9.25, 100]),
        ["16 cores; predicted: 1: 1, 8: 9.25, 9: 100"],
    ),
    "scaling, one rank": (lambda: plots.scaling([1], [5], 1), ["1: 1.00; 1 core"]),
    "threads or processes": (
        lambda: plots.threads_or_processes(
            {
                "1 process, 1 thread": 2.4e6,
                "1 process, 2 threads": 2.9e6,
                "2 processes, 1 thread each": 4.5e6,
            }
        ),
        ["tokens/s: 1 process, 1 thread: 2.4 M; 1 process, 2 threads: 2.9 M, 1.21 times"],
    ),
    "label shares": (
        lambda: plots.label_shares(
            {"contiguous": [0, 0, 1, 1], "interleaved": [0.5, 0.498, 0.503, 0.5]}, overall=0.5
        ),
        ["contiguous: 0%, 0%, 100%, 100%; interleaved: 50%, 49.8%, 50.3%, 50%; in all 50%"],
    ),
    "label shares, unlike panels": (
        lambda: plots.label_shares(
            {"contiguous": [0.99999] * 9, "round robin": [1 / 3], "a": [0.00274, 0.5], "b": [1]}
        ),
        ["99.9%, 99.9%; round robin: 33.3%; a: 0.274%, 50%; b: 100%; in all"],
    ),
    "label shares, one worker": (lambda: plots.label_shares({"all": [0]}), ["all: 0%; in all 0%"]),
    "lengths and cuts": (
        lambda: plots.lengths_and_cuts(LENGTHS, [64, 128, 256, 512]),
        ["25,000 reviews of", "longer than 64: 98.", "512: 15."],
    ),
    "lengths and cuts, close": (
        lambda: plots.lengths_and_cuts(LENGTHS, [2000, 250, 256, 260, 262, 262]),
        ["250: 50.", "262: 48.", "2,000: 0.1"],
    ),
    "lengths and cuts, one review": (
        lambda: plots.lengths_and_cuts([7], [512]),
        ["1 reviews of 7 to 7 ids, median 7; longer than 512: 0%"],
    ),
    "lengths and cuts, empty and very long": (
        lambda: plots.lengths_and_cuts([0, 5, 5, 10**6], [1, 3]),
        ["1: 75%, 3: 75%"],
    ),
    "padding": (
        lambda: plots.padding_costs(
            {"fixed": 0.62, "dynamic": 0.41, "bucketed": 0.048},
            {"fixed": 14.2, "dynamic": 22.5, "bucketed": 40_300},
        ),
        ["fixed: 62% padding, 14.2 samples/s", "bucketed: 4.8% padding, 40,300 samples/s"],
    ),
    "padding, none": (lambda: plots.padding_costs({"fixed": 0}, {"fixed": 0}), ["0% padding"]),
    "cost by length": (
        lambda: plots.cost_by_length([512, 64, 128], [50.5, 410, 220], [0.09, 0.97, 0.86]),
        ["64: 410 samples/s, 97% of the reviews cut; 128: 220", "512: 50.5 samples/s, 9% of"],
    ),
    "cost by length, large": (
        lambda: plots.cost_by_length([64, 1024], [1_234_567, 654_321], [0.99999, 0.1234]),
        ["64: 1.23 M samples/s, 99.9%"],
    ),
    "cost by length, one": (lambda: plots.cost_by_length([512], [0], [0]), ["512: 0 samples/s"]),
    "accuracy": (
        lambda: plots.accuracy_curves(
            {"contiguous": [(10, 0.5), (20, 0.52)], "shuffled": [(10, 0.6), (20, 0.86)]}
        ),
        ["contiguous: 10: 50%, 20: 52%; shuffled: 10: 60%, 20: 86%; guessing: 50%"],
    ),
    "accuracy, as many curves as there are colours": (
        lambda: plots.accuracy_curves(
            {f"strategy number {i}": [(s * 1000, i * s / 48) for s in range(9)] for i in range(7)},
            chance=0.1,
        ),
        ["strategy number 6: 0: 0%, 1,000: 12.5%", "8,000: 100%; guessing: 10%"],
    ),
    "accuracy, one point": (lambda: plots.accuracy_curves({"a": [(0, 0.5)]}), ["a: 0: 50%"]),
}


@pytest.fixture(scope="module", params=FIGURES)
def drawn(request):
    make, said = FIGURES[request.param]
    figure = make()
    FigureCanvasAgg(figure).draw()
    return figure, said


def words_of(figure):
    """The texts that one sees, with their boxes in pixels."""
    renderer = figure.canvas.get_renderer()
    hidden = set()
    for axes in figure.axes:
        hidden |= {axis.offsetText for axis in (axes.xaxis, axes.yaxis)}
        for axis in (axes.xaxis, axes.yaxis):
            # Ticks beyond the limits exist, but are not drawn.
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not axes.axison or not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t, t.get_window_extent(renderer)) for t in texts if t not in hidden]


def test_every_plot_of_the_module_is_drawn_here():
    drawn = set()
    for make, _ in FIGURES.values():
        drawn |= {make.__name__, *make.__code__.co_names}
    assert set(plots.__all__) <= drawn


def test_the_caption_says_the_numbers(drawn):
    figure, said = drawn
    assert isinstance(figure, CaptionedFigure)
    for words in said:
        assert words in figure.caption
    assert "nan" not in figure.caption


def test_no_word_is_cut_off_or_written_over_another(drawn):
    figure, _ = drawn
    words = words_of(figure)
    assert len(words) >= 5
    for text, box in words:
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert inside, f"{text.get_text()!r} is cut at the side"
        assert figure.bbox.y0 <= box.y0, f"{text.get_text()!r} is cut below"
        assert box.y1 <= figure.bbox.y1, f"{text.get_text()!r} is cut above"
        assert text.get_fontsize() >= 9, f"{text.get_text()!r} is too small"
    for (one, box), (other, other_box) in itertools.combinations(words, 2):
        assert not box.overlaps(other_box), f"{one.get_text()!r} over {other.get_text()!r}"


def test_axes_are_labelled(drawn):
    figure, _ = drawn
    assert figure.get_size_inches()[0] == 8
    assert figure.get_dpi() == 100
    assert figure.get_suptitle()
    for axes in figure.axes:
        if axes.axison:
            assert axes.get_xlabel()
            named = {text.get_text() for text in axes.get_yticklabels()}
            assert axes.get_ylabel() or any(
                not name or re.search("[a-z]{2}", name) for name in named
            )


def test_colours_are_of_the_palette_and_go_with_a_hatch_or_marker(drawn):
    figure, _ = drawn
    checked = 0
    for axes in filter(lambda axes: axes.axison, figure.axes):
        looks = {}
        for patch in axes.patches:
            colour = to_hex(patch.get_facecolor())
            assert any(same_color(colour, allowed) for allowed in PALETTE), colour
            looks.setdefault(colour, set()).add(patch.get_hatch() or "")
            checked += 1
        for one, other in itertools.combinations(looks, 2):
            assert not looks[one] & looks[other], f"{one} and {other} have the same hatch"
        lines = [line for line in axes.lines if line.get_label()[0] != "_"]
        styles = [(line.get_marker(), line.get_linestyle()) for line in lines]
        assert len(set(styles)) == len(styles)
        for line in axes.lines:
            assert any(same_color(line.get_color(), allowed) for allowed in (*PALETTE, GREY))
            checked += 1
    assert checked or not any(axes.axison for axes in figure.axes)


def test_each_waterfall_panel_starts_where_the_last_bar_ended():
    figure = plots.ledger_waterfall(WIKITEXT)
    documents, ids = figure.axes
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in documents.patches]
    assert ends == [(0, 36718), (23767, 36718), (16859, 23767), (0, 16859), (0, 16859)]
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ids.patches]
    assert ends == [(0, 2357942), (0, 2357942), (2357888, 2357942), (0, 2357888)]
    labels = [text.get_text() for text in documents.get_yticklabels()]
    assert labels[0] == "into filter"
    assert labels[1:] == ["filter: blank", "filter: too_short", "out of filter", "out of tokenize"]


def test_the_histogram_counts_every_document():
    figure = plots.lengths_before_after([0, 1, 5, 1000], [5, 1000], {"blank": 2})
    before, after = (patch.get_data().values for patch in figure.axes[0].patches)
    assert (before.sum(), after.sum()) == (4, 2)
    assert before[0] == 2


def test_the_map_is_the_same_in_every_lab_but_for_what_is_lit():
    one, other = plots.pipeline_map({"load"}), plots.pipeline_map({"chunk", "ledger"})
    for figure in (one, other):
        FigureCanvasAgg(figure).draw()
    said = [[text.get_text() for text, _ in words_of(figure)] for figure in (one, other)]
    assert said[0] == said[1]
    for word in ("documents", "token ids", "blocks of T ids", "batch (B, T)"):
        assert word in said[0]
    for word in ("shard", "rank", "labels", "rolling buffer", "pad", "ledger", "remainder"):
        assert any(word in text for text in said[0])


def test_each_cell_of_a_block_is_its_id_in_the_look_of_its_document():
    lengths = [2, 0, 3, 9, 1, 1, 1, 1, 4, 1]  # more documents than there are colours
    figure = plots.block_origins(lengths, block_size=5)
    (axes,) = figure.axes
    origins = np.repeat(np.arange(len(lengths)), lengths)
    words = [text.get_text() for text in axes.texts]
    assert words == [f"{number}\nd{document}" for number, document in enumerate(origins)]
    looks = [(to_hex(cell.get_facecolor()), cell.get_hatch()) for cell in axes.patches]
    for number, document in enumerate(origins[1:], start=1):
        same = document == origins[number - 1]
        assert (looks[number] == looks[number - 1]) == same
        x, y = axes.texts[number].get_position()
        assert (y, x) == divmod(number, 5)
        assert axes.patches[number].get_bbox().contains(x, y)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["block 0", "block 1", "block 2", "block 3", "remainder"]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 5
    assert all(3.5 < y < 4.5 for line in dashed for y in line.get_ydata())


def test_titles_say_by_how_much_only_where_there_is_a_difference():
    for peaks, title in (
        ({"load": [1, 160], "stream": [1, 10]}, "stream: 16 times less memory at 9,000 rows"),
        ({"load": [1, 10], "stream": [1, 10]}, "load: 10 MB at 9,000 rows"),
        ({"stream": [50, 0]}, "stream: 0 MB at 9,000 rows"),
    ):
        bytes_of = {way: [size * 10**6 for size in sizes] for way, sizes in peaks.items()}
        assert plots.memory_by_rows([100, 9000], bytes_of).get_suptitle() == title
    for lengths, title in (
        ([3, 3], "One document a block"),
        ([2, 2, 2, 2], "A block takes ids from up to 2 documents"),
        ([1], "No block is full: 1 ids wait for more"),
    ):
        assert plots.block_origins(lengths, 3).get_suptitle() == title


def test_the_rate_between_samples_is_what_came_between_them():
    figure = plots.throughput_over_time([0, 1, 3, 3.5], [0, 10, 30, 1030], [7e6] * 4)
    rates, mean = figure.axes[0].lines
    # Half a second at the end is too short beside two: it is taken together with them.
    assert rates.get_xydata().tolist() == [[0, 10], [1, 408], [3.5, 408]]
    assert mean.get_ydata()[0] == pytest.approx(1030 / 3.5)
    assert figure.axes[1].lines[0].get_xdata().tolist() == [0, 1, 3, 3.5]


def test_the_height_of_a_colour_is_its_part_of_the_time():
    spans = [(1, "read", 0, 1)]
    # A thousand pairs, each shorter than a pixel: a quarter of the time is read, the rest is not.
    for step in range(1000):
        begin = 1 + step * 0.004
        spans += [(1, "read", begin, begin + 0.001), (1, "tokenize", begin + 0.001, begin + 0.004)]
    (axes,) = plots.time_line(spans).axes
    height = {}
    for patch in axes.patches:
        top, edges, bottom = patch.get_data()
        height.setdefault(patch.get_facecolor(), []).append(bottom - top)
    (no_read, read), (no_tokenize, tokenize) = height.values()
    assert not no_read.any()  # rank 0 did nothing
    assert not no_tokenize.any()
    column = edges[1] - edges[0]
    assert read.sum() * column == pytest.approx(0.8 * 2)
    assert tokenize.sum() * column == pytest.approx(0.8 * 3)
    started = edges[1:] <= 1
    assert started.any()
    assert read[started] == pytest.approx(0.8)
    assert not tokenize[started].any()
    later = edges[:-1] >= 1
    assert (read + tokenize)[later] == pytest.approx(0.8)
    assert read[later].max() < 0.4


def test_one_missing_document_among_many_is_seen():
    times_read = round_robin(100_000, 4)
    for fault, colour, place in ((0, VERMILION, 123), (2, ORANGE, 99_999)):
        times_read[place] *= fault
        (axes,) = plots.coverage_map(times_read).axes
        (strip,) = [p for p in axes.patches if same_color(p.get_facecolor()[:3], colour)]
        bottom, edges, top = strip.get_data()
        (marked,) = np.flatnonzero(top - bottom)
        assert edges[marked] < place < edges[marked + 1]
    counted = "99,998 read exactly once, 1 missing (123), 1 read more than once (99999)"
    assert counted in plots.coverage_map(times_read).caption


def test_documents_that_go_round_the_ranks_look_evenly_read():
    for num_documents, world_size in ((250, 4), (36_718, 9), (1000, 7)):
        (axes,) = plots.coverage_map(round_robin(num_documents, world_size)).axes
        (mesh,) = axes.collections
        shares = np.asarray(mesh.get_array()).reshape(world_size, -1)
        assert np.allclose(shares[:, :-1], 1 / world_size)
        assert 50 <= shares.shape[1] <= 100


def test_titles_of_ranks_say_no_more_than_the_numbers():
    for figure, title in (
        (plots.rank_bars([1, 1], [5, 5], [1, 2]), "2 ranks: 5 ids each"),
        (plots.rank_bars([1, 1], [6, 4], [1, 1]), "20.00% below to 20.00% above their mean"),
        (plots.coverage_map([[1], [1]]), "Each of 2 documents is read exactly once"),
        (plots.coverage_map([[1], [0]]), "Of 2 documents: 1 missing, 0 read more than once"),
        (plots.read_amplification({"a": 4, "b": 1}, 1), "a: 4.00 times the split; b: 1.00 times"),
        (plots.read_amplification({"a": 4, "b": 4}, 1), "a: 4.00 times the split"),
        (plots.scaling([1, 4], [10, 5], 2), "4 ranks on 2 cores: 0.50 times one rank's throughput"),
        (plots.label_shares({"a": [0.5], "b": [0, 1]}), "b: 2 of 2 workers see one class only"),
        (plots.label_shares({"a": [0.5], "b": [0.01]}), "Every worker sees both classes"),
        (plots.accuracy_curves({"a": [(2, 0.9), (1, 0.5)]}), "a ends at 90% right"),
        (plots.accuracy_curves({"a": [(1, 0.5)], "b": [(1, 0.5)]}), "a ends at 50% right"),
        (plots.padding_costs({"a": 0.5, "b": 0.5}, {"a": 1, "b": 2}), "a: 50% of the ids are"),
    ):
        assert title in figure.get_suptitle()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plots.pipeline_map({"tokenise"}), r"no part \['tokenise'\]; the parts are load"),
        (lambda: plots.lengths_before_after([1, 2], [2], {}), "2 documents before, but 1 after"),
        (lambda: plots.throughput_by([1, 2], [1.0], "x"), "got x 2, rates 1"),
        (lambda: plots.throughput_by([1], [1.0], "x", marked=3), "marked is 3"),
        (lambda: plots.loss_curve([]), "at least one"),
        (lambda: plots.tokenizer_speeds({}), "at least one"),
        (lambda: plots.quadratic([1, 2], {"sum": [1.0]}), "lengths 2, sum 1"),
        (lambda: plots.ledger_waterfall(Ledger()), "no entries"),
        (lambda: plots.ids_lost({}, 1, 0), "at least one"),
        (lambda: plots.ids_lost({1: 0}, 0, 0), "num_ids must be 1 or more, got 0"),
        (lambda: plots.loader_speeds({}), "at least one"),
        (lambda: plots.memory_by_rows([1, 2], {"stream": [1]}), "num_rows 2, stream 1"),
        (lambda: plots.memory_by_rows([1], {}), "at least one way"),
        (lambda: plots.block_origins([], 6), "one or more numbers of ids"),
        (lambda: plots.block_origins([3, -1], 6), r"got \[3, -1\]"),
        (lambda: plots.block_origins([0, 0], 6), "got 0 ids and block_size 6"),
        (lambda: plots.block_origins([201], 6), "got 201 ids"),
        (lambda: plots.block_origins([3], 21), "block_size 21"),
        (lambda: plots.block_origins([3], 0), "block_size"),
        (lambda: plots.throughput_over_time([], [], []), "at least one"),
        (lambda: plots.throughput_over_time([0, 1], [0, 1], [5]), "memory_bytes 1"),
        (lambda: plots.throughput_over_time([0], [0], [5]), "two samples or more"),
        (lambda: plots.throughput_over_time([0, 1, 1], [0, 1, 2], [5, 5, 5]), "growing seconds"),
        (lambda: plots.throughput_over_time([0, 1], [2, 1], [5, 5]), r"tokens \[2.0, 1.0\]"),
        (lambda: plots.labs_compared({}, UNITS), "at least one"),
        (lambda: plots.labs_compared({"time": {}}, UNITS), "'time' is of no way"),
        (
            lambda: plots.labs_compared({"time": {"a": 1.0}, "ids lost": {"b": 1}}, UNITS),
            r"'ids lost' is of \['b'\], the first measure of \['a'\]",
        ),
        (lambda: plots.labs_compared({"rows": {"a": 1}}, UNITS), "no unit for 'rows'"),
        (lambda: plots.time_line([]), "at least one"),
        (lambda: plots.time_line([(2, "read", 0, 1)], 2), r"rank must be in \[0, 2\), got 2"),
        (lambda: plots.time_line([(-1, "read", 0, 1)], 2), "got -1"),
        (lambda: plots.time_line([(0, "read", 2, 1)]), "'read' of rank 0 goes from 2 s to 1 s"),
        (lambda: plots.time_line([(0, "read", -1, 1)]), "from -1 s"),
        (
            lambda: plots.time_line([(0, "yield", 1, 3), (0, "read", 0, 2)]),
            "rank 0 does 'read' until 2 s, but 'yield' from 1 s",
        ),
        (lambda: plots.time_line([(0, str(i), i, i) for i in range(8)]), "at most 7 kinds"),
        (lambda: plots.rank_bars([1], [1, 2], [1]), "rows 1, ids 2, tokens_per_s 1"),
        (lambda: plots.rank_bars([], [], []), "at least one"),
        (lambda: plots.coverage_map([1, 2]), r"int64 of shape \(2,\)"),
        (lambda: plots.coverage_map([[0.5]]), r"float64 of shape \(1, 1\)"),
        (lambda: plots.coverage_map(np.zeros((0, 2), int)), r"shape \(0, 2\)"),
        (lambda: plots.coverage_map([[-1]]), "the least -1"),
        (lambda: plots.coverage_map([[1]], num_bins=0), "num_bins must be 1 or more, got 0"),
        (lambda: plots.read_amplification({}, 1), "at least one"),
        (lambda: plots.read_amplification({"a": 1}, 0), "split_bytes must be 1 or more, got 0"),
        (lambda: plots.scaling([1, 2], [1.0], 2), "num_ranks 2, rates 1"),
        (lambda: plots.scaling([1], [1.0], 2, predicted=[]), "predicted 0"),
        (lambda: plots.scaling([2, 4], [1.0, 2.0], 2), r"1 among them, got \[2, 4\]"),
        (lambda: plots.scaling([1, 1], [1.0, 2.0], 2), "must be different"),
        (lambda: plots.scaling([1, 2], [0.0, 2.0], 2), r"got \[0.0, 2.0\] and 2"),
        (lambda: plots.scaling([1, 2], [1.0, -2.0], 2), "rates of 0 or more"),
        (lambda: plots.scaling([1, 2], [1.0, 2.0], 0), "and 0"),
        (lambda: plots.scaling([1, 2], [1.0, 2.0], 2, serial_share=2), "serial_share must be in"),
        (lambda: plots.threads_or_processes({}), "at least one"),
        (lambda: plots.label_shares({}), "at least one"),
        (lambda: plots.label_shares({"contiguous": []}), "contiguous 0"),
        (lambda: plots.label_shares({"a": [50]}), r"a must be in \[0, 1\], got 50"),
        (lambda: plots.label_shares({"a": [0.5]}, overall=-1), "overall must be in"),
        (lambda: plots.lengths_and_cuts([], [1]), "lengths 0, max_lengths 1"),
        (lambda: plots.lengths_and_cuts([1], []), r"lengths 1, max_lengths 0"),
        (lambda: plots.lengths_and_cuts([-1], [5]), "got one of -1"),
        (lambda: plots.lengths_and_cuts([5], [0, 5]), r"max_lengths .* got \[0, 5\]"),
        (lambda: plots.padding_costs({}, {}), "at least one"),
        (lambda: plots.padding_costs({"a": 0}, {"b": 1}), r"of \['a'\], samples_per_s of \['b'\]"),
        (lambda: plots.padding_costs({"a": 62}, {"a": 1}), "padding_ratios must be in .* got 62"),
        (lambda: plots.cost_by_length([1], [1], []), "truncated_ratios 0"),
        (lambda: plots.cost_by_length([1], [1], [2]), "truncated_ratios must be in"),
        (lambda: plots.cost_by_length([8, 8], [1, 1], [0, 0]), r"different .* got \[8, 8\]"),
        (lambda: plots.cost_by_length([0], [1], [0]), r"above 0, got \[0\]"),
        (lambda: plots.accuracy_curves({}), "at least one"),
        (lambda: plots.accuracy_curves({"a": []}), "a 0"),
        (lambda: plots.accuracy_curves({"a": [(1, 86)]}), "a must be in .* got 86"),
        (lambda: plots.accuracy_curves({"a": [(1, 1)]}, chance=50), "chance must be in"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_in_a_notebook_the_picture_shows_with_its_caption_under_it(capsys, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figure = plots.loss_curve([3.0, 2.0])
    figure._ipython_display_()
    assert shown[0].data.startswith(b"\x89PNG")
    assert capsys.readouterr().out == figure.caption + "\n"


def test_no_figure_touches_pyplot():
    import subprocess

    code = (
        "import sys; from llmpipe.classroom import plots; plots.loss_curve([1.0]).png(); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
