"""Imported by a fork server: the sample's pool of sentences, made once for all ranks, not by each."""

from llmpipe import sample

sample.articles()
