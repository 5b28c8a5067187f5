from .feature_projector import FeatureProjector
from .multi_feature_projector import MultiFeatureProjector
from .serialization_fc import SerializationFC

__all__ = ['FeatureProjector', 'MultiFeatureProjector', 'SerializationFC']
