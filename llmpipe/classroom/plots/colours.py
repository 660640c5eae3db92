"""Colours that everyone can tell apart, and what goes with each in black and white."""

# Okabe and Ito (2008), "Color Universal Design": told apart with any kind of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK)
# Where the first is what is to be left behind.
WARM_FIRST = (VERMILION, BLUE, GREEN, ORANGE, SKY, PURPLE, BLACK)
GREY = "#666666"  # for words and lines that stand back
# A hatch or a marker goes with each colour, for those who print in black and white.
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
