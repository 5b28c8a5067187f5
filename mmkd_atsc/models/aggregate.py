"""Combines the logits of several networks."""
import math
from collections.abc import Sequence

import torch
from torch import Tensor

AGGREGATES = ('mean_prob', 'mean_logit', 'confidence', 'vote')
_TIE_BREAK = 1e-3  # share of the mean probability in a vote, which decides between equal votes


def aggregate_logits(logits: Sequence[Tensor], how: str = 'mean_prob', weights: Sequence[float] | None = None,
                     labels: Tensor | None = None) -> Tensor:
    r"""Combines logits :math:`v_i` (N, C) of several networks with weights :math:`w_i` that sum to one.

    - ``mean_prob``: :math:`\log \sum_i w_i\,\mathrm{softmax}(v_i)`
    - ``mean_logit``: :math:`\sum_i w_i v_i`
    - ``confidence``: ``mean_prob`` with weights for each sample, :math:`w_i c_i / \sum_j w_j c_j`, where :math:`c_i` is
      the probability that network i gives the true class, or its largest one without labels.
    - ``vote``: the logarithm of each class's share of the votes, plus a thousandth of the mean probability.

    The result is in fp32 or better, and finite if the logits are.

    Args:
        weights: One number for each network, in proportion to their sum; None for equal ones.
        labels: For 'confidence': classes (N,), or scores (N, C).
    """
    weights = weights or [1.0] * len(logits)
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in logits) else torch.float32
    stacked = torch.stack([tensor.to(dtype) for tensor in logits])
    # Scalars one by one: torch.tensor of a list on the device would wait for a copy.
    log_weights = torch.stack([stacked.new_full((1, 1), math.log(weight / sum(weights))) for weight in weights])
    if how == 'mean_logit':
        return (log_weights.exp() * stacked).sum(0)
    log_probs = stacked.log_softmax(-1)
    if how == 'confidence':
        log_weights = (log_weights + _log_confidence(log_probs, labels)).log_softmax(0)
    mean = (log_weights + log_probs).logsumexp(0)
    if how != 'vote':
        return mean
    votes = torch.zeros_like(stacked).scatter_(-1, stacked.argmax(-1, keepdim=True), 1.0)
    share = (log_weights.exp() * votes).sum(0)
    # torch.logaddexp, in operators that ONNX has
    return torch.stack([share.clamp_min(torch.finfo(dtype).tiny).log(), mean + math.log(_TIE_BREAK)]).logsumexp(0)


def _log_confidence(log_probs: Tensor, labels: Tensor | None) -> Tensor:
    """(teachers, N, 1): the log probability of the true class, or of the most likely one."""
    if labels is None:
        return log_probs.max(-1, keepdim=True).values
    if labels.dim() == 1:
        index = labels.to(log_probs.device).view(1, -1, 1).expand(len(log_probs), -1, 1)
        return log_probs.gather(-1, index)
    scores = labels.to(log_probs).clamp_min(0)
    confidence = (log_probs + scores.log()).logsumexp(-1, keepdim=True)
    return confidence.where(scores.sum(-1, keepdim=True) > 0, 0.0)  # without any label all are trusted alike


def labels_of(data_samples: Sequence) -> Tensor:
    """The classes (N,) of a batch, or its scores (N, C) if labels were mixed."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])
