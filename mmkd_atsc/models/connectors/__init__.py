from .serialization_fc import SerializationFC

__all__ = ['SerializationFC']
