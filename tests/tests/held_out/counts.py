"""Counts texts with the vocabularies that the package mistral-common brings: a SentencePiece and a Tekken one. Takes the directory into
which it is unpacked; reads [text, ...] from standard input, and writes {name: [count, ...]}."""

import base64
import json
import pathlib
import sys

import sentencepiece
import tiktoken

data = pathlib.Path(sys.argv[1], "mistral_common/data")
texts = json.load(sys.stdin)
pieces = sentencepiece.SentencePieceProcessor(model_file=str(data / "mistral_instruct_tokenizer_240323.model.v3"))
tekken = json.loads((data / "tekken_240911.json").read_text())
config = tekken["config"]
size = config["default_vocab_size"] - config["default_num_special_tokens"]
ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in tekken["vocab"][:size]}
tekken = tiktoken.Encoding("tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})
json.dump(
    {
        "SentencePiece": [len(pieces.encode(text)) for text in texts],
        "Tekken": [len(tekken.encode_ordinary(text)) for text in texts],
    },
    sys.stdout,
)
