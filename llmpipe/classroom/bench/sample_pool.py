"""Imported by a fork server: the pool of sentences of the sample, made once for all ranks."""

from llmpipe import sample

sample.articles()
