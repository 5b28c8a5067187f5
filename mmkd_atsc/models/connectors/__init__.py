from .feature_projector import FeatureProjector
from .logit_standardization import LogitStandardization
from .multi_feature_projector import MultiFeatureProjector
from .serialization_fc import SerializationFC

__all__ = ['FeatureProjector', 'LogitStandardization', 'MultiFeatureProjector', 'SerializationFC']
