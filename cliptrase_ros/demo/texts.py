"""Embeddings of sentences in the training of the demo model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import captions


class Texts:
    """Makes embeddings of sentences; equal sentences are encoded once.

    `known` is 1 for tokens that the training reads and 0 for all others. The embeddings of the
    others stay zero.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self._model, self._tokenizer = model, tokenizer
        self._tokens: dict[str, Tensor] = {}
        table = model.token_embedding.weight
        self.known = table.new_zeros(len(table), 1)
        phrases = ['a table, a mug and the floor', 'a mug on a table']
        phrases += [*captions.NAME_PHRASES, *captions.COLORED_PHRASES]
        for sentence in captions.SENTENCES:
            for phrase in phrases:
                self.known[self._tokenize(captions.without_article(sentence).format(phrase))] = 1
        self._unknown = torch.nonzero(self.known[:, 0].cpu() == 0)[:, 0]

    def _tokenize(self, text: str) -> Tensor:
        if text not in self._tokens:
            self._tokens[text] = self._tokenizer([text])[0]
        return self._tokens[text]

    def embed(self, texts: list[str], rng: np.random.Generator) -> Tensor:
        """Return unit embeddings [T, E]. Each '?' stands for one to three words never read."""
        rows: dict[str, int] = {}
        tokens: list[Tensor] = []
        index = []
        for text in texts:
            if '?' in text or text not in rows:
                rows[text] = len(tokens)
                tokens.append(
                    self._with_unknown(text, rng) if '?' in text else self._tokenize(text)
                )
            index.append(rows[text])
        device = self._model.token_embedding.weight.device
        embeddings = self._model.encode_text(torch.stack(tokens).to(device))
        return F.normalize(embeddings, dim=-1)[index]

    def _with_unknown(self, text: str, rng: np.random.Generator) -> Tensor:
        before, after = (self._tokenize(part) for part in text.split('?'))
        end = int(before.argmax())
        count = int(rng.integers(1, 4))
        strange = self._unknown[rng.integers(len(self._unknown), size=count)]
        tokens = torch.cat([before[:end], strange, after[1:]])[: len(before)]
        if before[end] not in tokens:
            tokens[-1] = before[end]
        return tokens
