"""What several networks say together, against NumPy."""
import numpy as np
import pytest
import torch

from mmkd_atsc.models.aggregate import AGGREGATES, aggregate_logits

WEIGHTS = [0.2, 0.3, 0.5]


def three(scale=2.0, dtype=torch.float64):
    return [scale * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype) for seed in range(3)]


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def expected(logits, how, weights, labels=None):
    """The probabilities (N, C) that the aggregate stands for."""
    stacked, weights = np.stack([tensor.numpy() for tensor in logits]), np.array(weights)[:, None, None]
    probs = softmax(stacked)
    if how == 'mean_logit':
        return softmax((weights * stacked).sum(0))
    if how == 'confidence':
        trust = probs.max(-1) if labels is None else (probs * labels).sum(-1)
        weights = weights * trust[..., None]
        weights = weights / weights.sum(0)
    mean = (weights * probs).sum(0)
    if how != 'vote':
        return mean
    votes = np.zeros_like(probs)
    np.put_along_axis(votes, probs.argmax(-1)[..., None], 1.0, -1)
    return ((weights * votes).sum(0) + 1e-3 * mean) / (1 + 1e-3)


@pytest.mark.parametrize('how', AGGREGATES)
def test_the_softmax_is_what_they_say_together(how):
    logits = three()
    got = aggregate_logits(logits, how, [2, 3, 5]).softmax(1).numpy()
    np.testing.assert_allclose(got, expected(logits, how, WEIGHTS), atol=1e-12)


def test_confidence_is_that_in_the_true_class_where_labels_are_known():
    logits, labels = three(), torch.tensor([0, 1, 2, 3, 4, 0])
    one_hot = torch.nn.functional.one_hot(labels, 5).double()
    mixed = 0.7 * one_hot + 0.3 * one_hot.roll(1, 1)
    for given, scores in ((labels, one_hot), (one_hot, one_hot), (mixed, mixed)):
        got = aggregate_logits(logits, 'confidence', WEIGHTS, given).softmax(1)
        np.testing.assert_allclose(got, expected(logits, 'confidence', WEIGHTS, scores.numpy()), atol=1e-12)


@pytest.mark.parametrize('how', AGGREGATES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_extreme_logits_stay_finite_and_in_single_precision(how, dtype):
    logits = [torch.tensor([[6e4, 0.0, -6e4]], dtype=dtype), torch.tensor([[-6e4, 6e4, 0.0]], dtype=dtype)]
    for labels in (None, torch.tensor([2])):
        out = aggregate_logits(logits, how, labels=labels)
        assert out.dtype == torch.float32 and out.isfinite().all()
