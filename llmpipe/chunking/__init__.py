"""Token ids to blocks of one length, and blocks as PyTorch takes them.

    ids (N,) -> chunk or RollingBuffer -> blocks (num_blocks, block_size) -> BlockDataset

`chunk` cuts what fits in memory, `RollingBuffer` what comes in portions: the same blocks. Read
`blocks`, then `dataset`.
"""
