"""Text to token ids.

    texts --load_tokenizer(name).encode--> Tokens: ids (N,), offsets (D + 1,)

`tokenizer` is the contract, `backends` what works behind it: gigatoken for GPT-2 and nanotoken for
DistilBERT where they are exact, `transformers` otherwise. Read `tokenizer` first.
"""
