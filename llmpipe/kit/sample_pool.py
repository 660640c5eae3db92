"""Imported by a fork server: the sample's pool of sentences, made once for all ranks (0.3 s each)."""

from llmpipe import sample

sample.articles()
