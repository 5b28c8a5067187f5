"""A bound on how hard a distillation loss pulls on a sample's logits."""
from collections.abc import Callable

import torch
from torch import Tensor

Terms = dict[str, Tensor]


class _KnownGradient(torch.autograd.Function):
    """Losses (N,) whose gradients on the logits (N, C) have been computed already."""

    @staticmethod
    def forward(ctx, logits: Tensor, losses: Tensor, gradients: Tensor) -> Tensor:
        ctx.save_for_backward(gradients)
        return losses.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        if torch.is_grad_enabled():
            raise RuntimeError('a loss with max_pull cannot be differentiated twice (create_graph=True)')
        return ctx.saved_tensors[0] * grad.unsqueeze(1), None, None


def bound_pull(loss: Callable[[Tensor], tuple[Tensor, Terms]], logits: Tensor,
               max_pull: float) -> tuple[Tensor, Terms]:
    r"""Losses as they are, whose gradients on a sample's logits are shortened where they are longer than a bound.

    .. math:: g_n \cdot \min(1, m / \lVert g_n \rVert), \qquad g_n = \partial L_n / \partial u_n

    The cross-entropy's gradient is at most :math:`\sqrt 2` long, that of KD at most :math:`\sqrt 2\, T`. The bound is a
    sample's own, so that it does not depend on how samples are shared out to processes. It costs a norm and two
    products: the gradient that is measured here is the one that goes back.

    Args:
        loss: A function of the logits: a loss for each sample (N,), and what is to be logged.
        logits: The student's, (N, C).
        max_pull: The bound m.

    Returns:
        tuple: The losses, and the logged terms with 'pull', the mean length before the bound, and 'pull_factor', the
        mean factor.

    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 4.0]], requires_grad=True)
    >>> losses, terms = bound_pull(lambda u: ((u**2).sum(1), {}), logits, max_pull=2.0)
    >>> losses.sum().backward()
    >>> losses.tolist(), logits.grad.tolist(), terms['pull'].item()
    ([0.0, 16.0], [[0.0, 0.0], [0.0, 2.0]], 4.0)
    """
    with torch.enable_grad():
        # In single precision: a gradient in fp16 would be rounded before the loss scale is applied.
        leaf = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).requires_grad_()
        losses, terms = loss(leaf)
        gradients, = torch.autograd.grad(losses.sum(), leaf)
    pull = torch.linalg.vector_norm(gradients, dim=1)
    factor = (max_pull / pull).clamp(max=1)  # a pull of 0 makes it inf, then 1
    bounded = _KnownGradient.apply(logits, losses.detach(), gradients * factor.unsqueeze(1))
    return bounded, dict(terms, pull=pull.mean(), pull_factor=factor.mean())
