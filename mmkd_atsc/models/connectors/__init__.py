from .feature_projector import FeatureProjector
from .serialization_fc import SerializationFC

__all__ = ['FeatureProjector', 'SerializationFC']
