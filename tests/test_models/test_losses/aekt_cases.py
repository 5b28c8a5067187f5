"""What the tests of AEKT share."""
import torch

from mmkd_atsc.models.losses.aekt_loss import aekt_loss as aekt_loss_and_terms


def logits(num_samples=5, num_classes=6, scale=3.0, dtype=torch.float64, seed=0):
    """Random logits of a student (a leaf) and a teacher, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, num_samples, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_samples, ), generator=generator)
    return student.to(dtype).requires_grad_(), teacher.to(dtype), labels


def aekt_loss(*args, **settings):
    """The loss without its terms."""
    return aekt_loss_and_terms(*args, **settings)[0]
