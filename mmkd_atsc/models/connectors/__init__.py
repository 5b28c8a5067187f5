from .feature_projector import FeatureProjector
from .logit_standardization import LogitStandardization
from .serialization_fc import SerializationFC

__all__ = ['FeatureProjector', 'LogitStandardization', 'SerializationFC']
