"""The penalty that holds an adapting teacher near its pretrained weights."""
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import MODELS


class _SquaredDistance(torch.autograd.Function):
    """``scale * sum ||parameter - anchor||^2`` in a fixed number of calls for any number of tensors."""

    @staticmethod
    def forward(ctx, scale: float, anchors: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.scale, ctx.anchors = scale, anchors
        # The parameters, not the differences: those would hold a second encoder in memory until the backward.
        ctx.save_for_backward(*parameters)
        return scale * _norms(torch._foreach_sub(parameters, anchors)).square().sum()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        # once_differentiable would stay silent here: it only looks at whether ``grad`` itself has a graph.
        if torch.is_grad_enabled():
            raise RuntimeError('TeacherAnchorLoss cannot be differentiated twice (create_graph=True)')
        slopes = torch._foreach_sub(ctx.saved_tensors, ctx.anchors)
        # In the slopes' dtype: foreach has no fused path for a factor of another one.
        torch._foreach_mul_(slopes, (2 * ctx.scale * grad).to(slopes[0].dtype))
        return None, None, *slopes


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm of each tensor, as one vector in fp32 or better."""
    dtype = functools.reduce(torch.promote_types, {tensor.dtype for tensor in tensors}, torch.float32)
    return torch.stack(torch._foreach_norm(tensors, 2, dtype=dtype))


@MODELS.register_module()
class TeacherAnchorLoss(nn.Module):
    r"""Squared distance of a teacher's encoder from where it started.

    .. math::
        L = \lambda \sum_k \lVert \theta_k - \theta^*_k \rVert_2^2

    over the parameters :math:`\theta_k` of at least two dimensions (neither biases nor norm layers); the anchors
    :math:`\theta^*` are their values when :meth:`bind` was called. Norms are computed in fp32 or better.

    The anchors move with this module but are not in the state dict: on resume they come from the teacher's checkpoint
    again. The encoder is used, not registered. The loss cannot be differentiated twice.

    Args:
        loss_weight: Factor of the loss.
        reduction: 'sum' of the squares (the authors' code), or their 'mean' (the paper).

    >>> encoder = nn.Linear(3, 2)
    >>> loss = TeacherAnchorLoss(loss_weight=0.5)
    >>> loss.bind(encoder)
    >>> _ = encoder.weight.data.add_(1)
    >>> loss()
    tensor(3.0000, grad_fn=<_SquaredDistanceBackward>)
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = 'sum') -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight, low=0)
        self.reduction = check_choice('reduction', reduction, ('sum', 'mean'))
        self._names: list[str] = []
        # Where each parameter is, not the parameter itself: a copy or a cast may put another tensor there.
        self._owners: list[tuple[nn.Module, str]] = []
        self._anchors: list[Tensor] = []

    def bind(self, encoder: nn.Module, min_dims: int = 2) -> None:
        """Takes the encoder's present weights as anchors; a second call is refused, as it would lose them."""
        if self._names:
            raise RuntimeError('TeacherAnchorLoss is bound already: build a new one')
        names = [name for name, parameter in encoder.named_parameters() if parameter.dim() >= min_dims]
        if not names:
            raise ValueError(f'{type(encoder).__name__} has no parameter of {min_dims} dimensions or more to anchor')
        self._names = names
        places = [name.rpartition('.') for name in names]
        self._owners = [(encoder.get_submodule(path), leaf) for path, _, leaf in places]
        self._anchors = [parameter.detach().clone() for parameter in self._parameters_now()]

    def forward(self) -> Tensor:
        """The penalty for where the encoder's parameters are now."""
        parameters = self._parameters_now()
        if not self.loss_weight:
            return torch.zeros((), device=parameters[0].device)
        scale = self.loss_weight
        if self.reduction == 'mean':
            scale /= sum(anchor.numel() for anchor in self._anchors)
        return _SquaredDistance.apply(scale, self._anchors, *parameters)

    @torch.no_grad()
    def drift(self) -> dict[str, Tensor]:
        r""":math:`\lVert\theta-\theta^*\rVert / \lVert\theta^*\rVert`: in 'total' and for each child of the encoder."""
        parameters = self._parameters_now()
        moved = _norms(torch._foreach_sub(parameters, self._anchors))
        start = _norms(self._anchors)
        stages: dict[str, list[int]] = {}
        for i, name in enumerate(self._names):
            stages.setdefault(name.split('.')[0], []).append(i)
        # named_parameters goes child by child, so a stage is a slice; indexing by a list would wait for the device.
        slices = {'total': slice(None), **{name: slice(rows[0], rows[-1] + 1) for name, rows in stages.items()}}
        # The floor is for layers that start at zero.
        return {name: moved[rows].norm() / start[rows].norm().clamp_min(1e-12) for name, rows in slices.items()}

    def _parameters_now(self) -> list[Tensor]:
        if not self._owners:
            raise RuntimeError('TeacherAnchorLoss has no encoder: call bind(encoder) when the teacher is loaded')
        return [getattr(owner, leaf) for owner, leaf in self._owners]

    def _apply(self, fn: Callable[[Tensor], Tensor], *args, **kwargs) -> 'TeacherAnchorLoss':
        # Anchors are not buffers: DDP would broadcast them, and averaged models would copy them, at every step.
        self._anchors = [fn(anchor) for anchor in self._anchors]
        return super()._apply(fn, *args, **kwargs)
