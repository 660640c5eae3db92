"""A hub for a classroom without a network: mirror folders over HTTP, answered as the hub does.

To read in this order: `repository` (a folder seen as the hub's repositories), `replies` (a request
in, the reply out), `server` (the wire); `mirror` writes the built-in sample as such a folder, and
`train_tokenizers` made its tokenizers.
"""
