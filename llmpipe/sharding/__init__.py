"""Who reads what: every document is read by one rank, and by one worker of it.

    documents -> Share(documents, World(rank, world_size), strategy) -> a stream

`World` is a consumer's place among all, and beside it stands the arithmetic of `round_robin` and
`contiguous`; `Share` is what one rank reads, by one of four strategies. Read `world`, then `share`.
"""
