"""Text to token ids.

    texts --load_tokenizer(name).encode--> Tokens: ids (N,), offsets (D + 1,)

`tokenizer` is the contract, `backends` what works behind it: gigatoken for GPT-2 and nanotoken for
DistilBERT where they are exact (`unicode` says where not), `transformers` otherwise. `loading`
finds out what a tokenizer's owner means, and `families` where `transformers` need not be asked.
Read `tokenizer` first.
"""
