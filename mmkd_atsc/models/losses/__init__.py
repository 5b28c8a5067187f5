from .aekt_functional import aekt_loss
from .aekt_loss import AEKTLoss

__all__ = ['AEKTLoss', 'aekt_loss']
