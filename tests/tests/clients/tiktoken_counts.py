"""Counts texts with Python's tiktoken. Reads from standard input {"ranks": {name: [token in base64, ...]}, "texts": [...]},
where a name in place of the tokens means those of that one;
writes {name: [count, ...]}. The vocabularies are given, because tiktoken would download them."""

import base64
import json
import sys

import tiktoken
import tiktoken_ext.openai_public as public

given = json.load(sys.stdin)
counts = {}
for name, vocabulary in given["ranks"].items():
    if isinstance(vocabulary, str):
        vocabulary = given["ranks"][vocabulary]
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(vocabulary)}
    public.load_tiktoken_bpe = lambda *_, **__: dict(ranks)
    encoding = tiktoken.Encoding(**getattr(public, name)())
    counts[name] = [len(encoding.encode_ordinary(text)) for text in given["texts"]]
json.dump(counts, sys.stdout)
