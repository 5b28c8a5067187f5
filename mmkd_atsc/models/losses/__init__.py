from .aekt_loss import AEKTLoss
from .feature_align_loss import FeatureAlignLoss
from .teacher_anchor_loss import TeacherAnchorLoss

__all__ = ['AEKTLoss', 'FeatureAlignLoss', 'TeacherAnchorLoss']
