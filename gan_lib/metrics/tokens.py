"""Measures of sequences of tokens: likelihood under a known model, overlap with references, and variety."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tokens = Sequence[int]


def token_nll(log_probabilities: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Negative log-likelihood in nats of each token, (number of tokens,): with ``Mean`` the NLL a token.

    ``log_probabilities`` (B, L, V) are a known model's, at each place given all tokens before it; ``tokens`` (B, L);
    ``lengths`` (B,): what comes after them does not count. Yu et al., "SeqGAN" (2017), equation 9, where the model is
    the oracle that made the corpus.
    """
    chosen = -log_probabilities.double().gather(2, tokens.long().unsqueeze(2)).squeeze(2)
    if lengths is None:
        return chosen.flatten()
    return chosen[torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)]


@dataclass(frozen=True)
class MarkovModel:
    """The simplest known model: each token's distribution given the one before it."""

    initial: Tensor
    """(V,) probabilities of the first token."""
    transition: Tensor
    """(V, V) probabilities of the next token, a row for each token before it."""

    @classmethod
    def fit(cls, corpus: Sequence[Tokens], vocabulary: int, smoothing: float = 1.0) -> MarkovModel:
        """Counts of ``corpus``, ``smoothing`` added to each, brought to sums of 1."""
        initial = torch.full((vocabulary,), smoothing, dtype=torch.float64)
        transition = torch.full((vocabulary, vocabulary), smoothing, dtype=torch.float64)
        for sequence in corpus:
            ids = torch.as_tensor(sequence, dtype=torch.int64)
            initial[ids[:1]] += 1
            pairs = ids[:-1] * vocabulary + ids[1:]
            transition += torch.bincount(pairs, minlength=vocabulary**2).view(vocabulary, vocabulary)
        return cls(initial / initial.sum(), transition / transition.sum(dim=1, keepdim=True))

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, V): see :func:`token_nll`."""
        first = self.initial.log().expand(len(tokens), 1, -1)
        return torch.cat([first, self.transition.log()[tokens[:, :-1].long()]], dim=1)


class Bleu:
    """Overlap of n-grams with references, 0 to 1, over the whole corpus of candidates.

    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (2002): the geometric mean of the
    clipped precisions of 1 ... ``order`` tokens, times the penalty for brevity, without smoothing. A batch brings
    "candidates", B sequences, and "references", B lists of sequences. With the other candidates as references it is
    Self-BLEU (Zhu et al. 2018), of which less is better.
    """

    def __init__(self, order: int = 4) -> None:
        self._matches = torch.zeros(order, dtype=torch.int64)
        self._totals = torch.zeros(order, dtype=torch.int64)
        self._lengths = torch.zeros(2, dtype=torch.int64)  # of candidates, of their nearest references

    def update(self, batch: dict[str, Any]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        for candidate, references in zip(batch["candidates"], batch["references"], strict=True):
            nearest = min((len(reference) for reference in references), key=lambda n: (abs(n - len(candidate)), n))
            self._lengths += torch.tensor([len(candidate), nearest])
            for index in range(len(self._totals)):
                found = ngrams(candidate, index + 1)
                allowed: Counter[tuple[int, ...]] = Counter()
                for reference in references:
                    allowed |= ngrams(reference, index + 1)
                self._matches[index] += (found & allowed).total()
                self._totals[index] += found.total()

    def state(self) -> dict[str, Tensor]:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        return {"matches": self._matches.clone(), "totals": self._totals.clone(), "lengths": self._lengths.clone()}

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        self._matches = torch.stack([state["matches"] for state in states]).sum(dim=0)
        self._totals = torch.stack([state["totals"] for state in states]).sum(dim=0)
        self._lengths = torch.stack([state["lengths"] for state in states]).sum(dim=0)

    def precisions(self) -> Tensor:
        """(order,) clipped precisions; NaN where no candidate is long enough."""
        return self._matches.double() / self._totals

    def compute(self) -> float:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        ours, theirs = self._lengths.double()
        brevity = (1 - theirs / ours).clamp(max=0).exp()
        return float(brevity * self.precisions().log().mean().exp())


class DistinctNgrams:
    """Different n-grams over all n-grams of the samples, "distinct-n"; low where a generator repeats itself.

    Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models" (2016). A batch brings
    "candidates", B sequences. Sets of different size are not comparable: the more samples, the lower.
    """

    def __init__(self, order: int = 2) -> None:
        self._order = order
        self._seen: set[tuple[int, ...]] = set()
        self._total = 0

    def update(self, batch: dict[str, Any]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        for candidate in batch["candidates"]:
            found = ngrams(candidate, self._order)
            self._seen.update(found)
            self._total += found.total()

    def state(self) -> dict[str, Tensor]:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        seen = torch.tensor(sorted(self._seen), dtype=torch.int64).view(-1, self._order)
        return {"seen": seen, "total": torch.tensor(self._total)}

    def merge(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        self._seen = {tuple(row) for state in states for row in state["seen"].tolist()}
        self._total = sum(int(state["total"]) for state in states)

    def compute(self) -> float:
        """See :class:`gan_lib.metrics.metric.Metric`."""
        return len(self._seen) / self._total if self._total else float("nan")


def ngrams(tokens: Tokens, order: int) -> Counter[tuple[int, ...]]:
    """How often each run of ``order`` tokens occurs."""
    numbers = [int(token) for token in tokens]
    return Counter(tuple(numbers[i : i + order]) for i in range(len(numbers) - order + 1))
