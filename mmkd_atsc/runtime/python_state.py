"""What of a model is Python's and not on the device: a captured step holds it as it was."""
from typing import Any

from torch import nn

SCALARS = (bool, int, float, str)


class PythonState:
    """The numbers and words that modules have as attributes, their parts, which parameters learn, where tensors lie.

    A data preprocessor is left out: it runs before the captured step.

    >>> layer = nn.Dropout(0.5)
    >>> state = PythonState(layer)
    >>> layer.p = 0.1
    >>> state.changed()
    'Dropout.p is 0.1, it was 0.5'
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._slots = []  # name of a module, its attributes, the names of those that count
        for name, module in model.named_modules():
            # PyTorch's own modules have shapes as integers and words, which nobody can change.
            kinds = (bool, float) if type(module).__module__.startswith('torch.nn.') else SCALARS
            keys = [key for key, value in vars(module).items() if type(value) in kinds]
            if name.partition('.')[0] != 'data_preprocessor':
                self._slots.append((name, vars(module), keys))
        # Looked up once: to walk through the modules of a network in every step takes longer than the step.
        self._owners = [tensors for module in model.modules() for tensors in (module._parameters, module._buffers)
                        if tensors]
        self._parents = [module._modules for module in model.modules() if module._modules]
        self._values = self._values_now()
        self._parts = self._parts_now()
        self._tensors = self._tensors_now()

    def _values_now(self) -> list[Any]:
        return [attributes.get(key) for _, attributes, keys in self._slots for key in keys]

    def _parts_now(self) -> list[int]:
        return [id(part) for parts in self._parents for part in parts.values()]

    def _tensors_now(self) -> list[tuple[bool, int]]:
        return [(tensor.requires_grad, tensor.data_ptr()) for tensors in self._owners for tensor in tensors.values()
                if tensor is not None]

    def changed(self) -> str | None:
        """What is another than it was, in words; None where all is as it was."""
        values = self._values_now()
        if values != self._values:
            slots = [(name or type(self._model).__name__, key) for name, _, keys in self._slots for key in keys]
            return next(f'{name}.{key} is {now}, it was {before}'
                        for (name, key), now, before in zip(slots, values, self._values) if now != before)
        if self._parts_now() != self._parts:
            return 'a module was replaced'
        tensors = self._tensors_now()
        if tensors == self._tensors:
            return None
        learning = [sum(learns for learns, _ in state) for state in (self._tensors, tensors)]
        if learning[0] != learning[1]:
            return f'{learning[1]} parameters learn, it were {learning[0]}'
        return 'tensors of the model lie elsewhere'
