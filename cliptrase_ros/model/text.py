"""Sentences to embeddings, with the unchanged text tower of an open_clip model."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime import memory

# Sentences in one pass. On a CPU, the time for each sentence is the same in passes of 20 to 64
# sentences, and longer in larger passes.
BATCH = 64
# Limit of the relative error. Single precision differs by less than 1e-5.
_SELF_CHECK_TOLERANCE = 1e-4


class TextEncoder:
    """Encodes sentences to unit embeddings with the text tower of an open_clip model.

    Args:
        model: has `encode_text`, is in evaluation mode, and is on the device to run on. It is
            read, never changed.
        tokenizer: open_clip's tokenizer for this model (`open_clip.get_tokenizer`): texts ->
            tokens [n, context] int64.
    """

    def __init__(self, model: nn.Module, tokenizer: Any):
        self._model: Any = model  # Any, because nn.Module does not declare its methods
        self._tokenizer = tokenizer
        self._fingerprint = ''
        self._longest: dict[tuple[str, ...], str] = {}
        self._padding = int(tokenizer(['a'])[0, -1])

    def longest(self, templates: tuple[str, ...]) -> str:
        """Return the template that needs the most tokens. It is computed once."""
        if templates not in self._longest:
            tokens = self._tokenizer([template.format('a') for template in templates])
            self._longest[templates] = templates[int((tokens != self._padding).sum(1).argmax())]
        return self._longest[templates]

    def too_long(self, sentence: str) -> bool:
        """Return True if the sentence fills the context: its end may have been cut off."""
        return int(self._tokenizer([sentence])[0, -1]) != self._padding

    @property
    def reads_english(self) -> bool:
        """Whether the tokenizer is CLIP's own, made from English; the hub has multilingual ones."""
        return hasattr(self._tokenizer, 'byte_encoder')

    @property
    def context(self) -> int:
        """Number of tokens in the model's context. A sentence must be shorter."""
        return int(self._tokenizer(['a']).shape[1])

    def tokens(self, sentence: str) -> list[int]:
        """Return all tokens of a sentence, with its start and end marks.

        Tokens beyond the model's context are included.
        """
        # A token stands for at least one byte, but cleaning and marks may add some.
        room = max(self.context, 2 * len(sentence.encode()) + 8)
        tokens = self._tokenizer([sentence], context_length=room)[0].tolist()
        while tokens[-1] == self._padding:
            tokens.pop()
        return tokens

    def pieces(self, word: str) -> list[str]:
        """Return the pieces into which the tokenizer splits a word.

        Known words stay whole, others are split.
        """
        # In the hub's tokenizers, `decode` is one level deeper.
        decode = getattr(self._tokenizer, 'decode', None) or self._tokenizer.tokenizer.decode
        marks = set(self.tokens(''))
        return [decode([token]).strip() for token in self.tokens(word) if token not in marks]

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Return unit embeddings [n, E] float32 of n sentences, on the model's device.

        Equal sentences are encoded once. Sentences of similar length are encoded together.
        """
        tokens, place = self._tokenizer(list(sentences)).unique(dim=0, return_inverse=True)
        if self.cuts_context:
            needed = _ends(self._model, tokens) + 1
        else:
            needed = torch.full((len(tokens),), tokens.shape[1])
        order = needed.argsort()
        rows: list[Tensor] = []
        for part in order.chunk(-(-len(order) // BATCH)):
            rows += memory.in_halves(self._run, tokens[part, : needed[part[-1]]])
        embeddings = torch.cat(rows)[order.argsort()[place].to(rows[0].device)]
        return F.normalize(embeddings, dim=-1)

    def _run(self, tokens: Tensor) -> list[Tensor]:
        """Return the model's own embeddings [n, E] of tokens [n, length], in a list of one."""
        model = self._model
        if self.cuts_context:
            model = with_context(model, tokens.shape[1])
        return [model.encode_text(tokens.to(self._device)).float()]

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    @cached_property
    @torch.no_grad()
    def cuts_context(self) -> bool:
        """True if tokens after the end of a sentence are left out.

        They are left out if the attributes of the tower say that no earlier token sees them, and a
        test with one sentence confirms it.
        """
        if not _reads_end_causally(self._model):
            return False
        tokens = self._tokenizer(['a photo of a mug'])
        short = tokens[:, : int(_ends(self._model, tokens)) + 1]
        model: Any = with_context(self._model, short.shape[1])
        expected = self._model.encode_text(tokens.to(self._device))
        error = (model.encode_text(short.to(self._device)) - expected).norm() / expected.norm()
        return bool(error <= _SELF_CHECK_TOLERANCE)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text tower's weights, the model's layers and heads, and an example of
        the tokenizer's output."""
        if not self._fingerprint:
            digest = hashlib.sha256(self._tokenizer(['a photo of a {}.']).numpy().tobytes())
            heads = [getattr(module, 'num_heads', 0) for module in self._model.modules()]
            digest.update(f'{self._model} {heads}'.encode())
            for name, weight in sorted(self._model.state_dict().items()):
                if not name.startswith('visual.'):
                    digest.update(name.encode())
                    digest.update(weight.cpu().contiguous().view(-1).view(torch.uint8).numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


# In open_clip, CLIP holds the parts of the text tower itself; CustomTextCLIP holds them in `text`.


def _tower(model: nn.Module) -> Any:
    return getattr(model, 'text', model)


def _pooling(model: nn.Module) -> str:
    tower = _tower(model)
    return getattr(tower, 'text_pool_type', getattr(tower, 'pool_type', ''))


def _reads_end_causally(model: nn.Module) -> bool:
    """Return True if the embedding is read at the end of the text, and no later token affects it.

    False for CoCa's class token, for attention to both sides, and for towers of other libraries.
    """
    tower = _tower(model)
    mask = dict(tower.named_buffers(recurse=False)).get('attn_mask')
    positions = dict(tower.named_parameters(recurse=False)).get('positional_embedding')
    if mask is None or positions is None or mask.shape != 2 * positions.shape[:1]:
        return False
    causal = torch.full_like(mask, -torch.inf).triu(1)
    own_token = getattr(tower, 'cls_emb', None) is not None
    return torch.equal(mask, causal) and not own_token and _pooling(model) in ('argmax', 'eos')


def _ends(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the positions [n] at which the model reads the embeddings of tokens [n, length]."""
    if _pooling(model) == 'eos':
        tower = _tower(model)
        end: Any = getattr(tower, 'text_eos_id', getattr(tower, 'eos_id', None))
        tokens = (tokens == end).int()
    return tokens.argmax(1)


def with_context(model: nn.Module, length: int) -> nn.Module:
    """Return the model for rows of `length` tokens.

    It shares all weights and runs the model's own forward pass. The original CLIP refuses shorter
    rows, because it adds its whole position table.
    """
    own = _tower(model)
    tower = _shallow(own)
    positions = own.positional_embedding[:length]
    tower.positional_embedding = nn.Parameter(positions, requires_grad=False)
    tower.attn_mask = own.attn_mask[:length, :length]
    if own is model:
        return tower
    whole = _shallow(model)
    whole.text = tower
    return whole


def _shallow(module: nn.Module) -> nn.Module:
    """Copy a module without its parts, so that single parts can be replaced."""
    own = {'recurse': False}
    parts = [*module.children(), *module.parameters(**own), *module.buffers(**own)]
    # Copy only the dicts that hold the parts. The memo lists everything else as already copied, so
    # the copy shares it.
    parts += [value for value in vars(module).values() if not isinstance(value, dict)]
    return copy.deepcopy(module, {id(part): part for part in parts})
