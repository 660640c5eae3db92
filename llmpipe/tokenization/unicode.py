"""Where the libraries know different versions of Unicode: texts that fast backends take otherwise.

gigatoken 0.10 knows Unicode 17; `tokenizers` 0.23 knows 16 and, where it normalizes a text to NFC,
the marks of 9. A text with a younger character goes to the reference. A test
compares the two on every code point there is, and so fails when either library moves.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNICODE_17 = (  # letters, numbers, and the marks that some patterns take into words
    r"[\x{88f}\x{c5c}\x{cdc}\x{a7ce}\x{a7cf}\x{a7d2}\x{a7d4}\x{a7f1}\x{10940}-\x{10959}"
    r"\x{10ec5}-\x{10ec7}\x{11db0}-\x{11ddb}\x{11de0}-\x{11de9}\x{16ea0}-\x{16eb8}"
    r"\x{16ebb}-\x{16ed3}\x{16ff2}-\x{16ff6}\x{187f8}-\x{187ff}\x{18d09}-\x{18d1e}"
    r"\x{18d80}-\x{18df2}\x{1e6c0}-\x{1e6ff}\x{2b73a}-\x{2b73f}\x{2cea2}-\x{2cead}"
    r"\x{323b0}-\x{33479}\x{1acf}-\x{1add}\x{1ae0}-\x{1aeb}\x{10efa}-\x{10efb}\x{11b60}-\x{11b67}]"
)
MARKS = (  # since Unicode 9: ordered by a class that `tokenizers` does not know yet
    r"["
    r"\x{7fd}\x{897}-\x{89f}\x{8ca}-\x{8d3}\x{9fe}\x{c3c}\x{d3b}-\x{d3c}\x{eba}\x{1715}"
    r"\x{1abf}-\x{1add}\x{1ae0}-\x{1aeb}\x{1df6}-\x{1dfa}\x{a82c}\x{10d24}-\x{10d27}"
    r"\x{10d69}-\x{10d6d}\x{10eab}-\x{10eac}\x{10efa}-\x{10efb}\x{10efd}-\x{10eff}"
    r"\x{10f46}-\x{10f50}\x{10f82}-\x{10f85}\x{11070}\x{1133b}\x{113ce}-\x{113d0}\x{1145e}"
    r"\x{11839}-\x{1183a}\x{1193d}-\x{1193e}\x{11943}\x{119e0}\x{11a34}\x{11a47}\x{11a99}"
    r"\x{11d42}\x{11d44}-\x{11d45}\x{11d97}\x{11f41}-\x{11f42}\x{1612f}\x{16ff0}-\x{16ff1}"
    r"\x{1e08f}\x{1e130}-\x{1e136}\x{1e2ae}\x{1e2ec}-\x{1e2ef}\x{1e4ec}-\x{1e4ef}"
    r"\x{1e5ee}-\x{1e5ef}\x{1e6e3}\x{1e6e6}\x{1e6ee}-\x{1e6ef}\x{1e6f5}"
    # and what is composed to one character, or from two: Unicode 13 and 16
    r"\x{105c9}\x{105d2}\x{105da}\x{105e4}\x{11382}-\x{113c9}\x{11930}-\x{11938}"
    r"\x{1611e}-\x{16129}\x{16d63}-\x{16d6a}"
    r"]"
)
# All begin with one of these bytes in UTF-8, which texts in Latin letters hardly hold.
LEAD_BYTES = (0xDF, 0xE0, 0xE1, 0xEA, 0xF0)


def holds_young(texts: pa.ChunkedArray, is_normalized: bool) -> bool:
    """Whether a column has a character of Unicode 17 or, if it is to be normalized, one of `MARKS`.

    >>> holds_young(pa.chunked_array([["plain", "\U00016ea0"]]), is_normalized=False)
    True
    """
    for chunk in filter(len, texts.chunks):
        _, offsets, data = chunk.buffers()
        width = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
        bounds = np.frombuffer(offsets, width)[chunk.offset : chunk.offset + len(chunk) + 1]
        utf_8 = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]] if data else b""
        # The bytes are searched before the letters: that is so much faster.
        if any(np.any(utf_8 == byte) for byte in LEAD_BYTES):
            patterns = (UNICODE_17, MARKS) if is_normalized else (UNICODE_17,)
            found = (pc.any(pc.match_substring_regex(texts, pattern)) for pattern in patterns)
            return any(each.as_py() for each in found)
    return False
