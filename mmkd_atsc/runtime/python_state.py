"""What of a model is Python's and not on the device: a captured step holds it as it was."""
from numbers import Number
from typing import Any

from torch import Tensor, nn

VALUES = (Number, str, type(None))
INTERNALS = frozenset(vars(nn.Module())) - {'training'}
MOST_ELEMENTS = 256  # of a list, tuple or dict that is looked into
Slot = tuple[str, dict, str]


class PythonState:
    """What modules have as attributes, their parts and hooks, which parameters learn, and where all tensors lie.

    Numbers and words count by their value, also inside lists, tuples and dicts; other objects by what they are. A data
    preprocessor is left out: it runs before the captured step.

    >>> layer = nn.Dropout(0.5)
    >>> state = PythonState(layer)
    >>> layer.p = 0.1
    >>> state.changed()
    'Dropout.p is 0.1, it was 0.5'
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._values: list[tuple[Slot, Any]] = []
        self._objects: list[tuple[Slot, Any]] = []
        self._containers: list[tuple[Slot, Any, list]] = []
        self._modules = [(name, module) for name, module in model.named_modules()
                         if name.partition('.')[0] != 'data_preprocessor']
        for name, module in self._modules:
            self._add(name, module)
        # Looked up once: to walk through the modules of a network in every step takes longer than the step.
        self._owners = [tensors for _, module in self._modules for tensors in (module._parameters, module._buffers)]
        self._shape, self._tensors = self._shape_now(), self._tensors_now()

    def _add(self, name: str, module: nn.Module) -> None:
        # PyTorch's own modules have shapes as integers, words and tuples, which nobody can change.
        kinds = (bool, float) if type(module).__module__.startswith('torch.nn.') else object
        for key, value in vars(module).items():
            slot = name or type(self._model).__name__, vars(module), key
            if key in INTERNALS or not isinstance(value, kinds):
                continue
            if isinstance(value, VALUES):
                self._values.append((slot, value))
            elif isinstance(value, (list, tuple, dict)) and len(value) <= MOST_ELEMENTS:
                self._containers.append((slot, value, flatten(value)))
            else:
                self._objects.append((slot, value))

    def _shape_now(self) -> list[Any]:
        """The parts of each module, how many attributes it has, and how many hooks."""
        return [(*module._modules.values(), len(vars(module)), len(module._forward_hooks),
                 len(module._forward_pre_hooks)) for _, module in self._modules]

    def _tensors_now(self) -> list[tuple[bool, int]]:
        return [(tensor.requires_grad, tensor.data_ptr()) for tensors in self._owners for tensor in tensors.values()
                if tensor is not None]

    def _changed_values(self) -> list[tuple[Slot, Any]]:
        return [(slot, before) for slot, before in self._values if slot[1].get(slot[2]) != before]

    def _changed_objects(self) -> list[Slot]:
        changed = [slot for slot, before in self._objects if slot[1].get(slot[2]) is not before]
        return changed + [slot for slot, before, content in self._containers
                          if slot[1].get(slot[2]) is not before and flatten(slot[1].get(slot[2])) != content
                          or flatten(before) != content]

    def changed(self) -> str | None:
        """What is another than it was, in words; None where all is as it was."""
        for (name, attributes, key), before in self._changed_values()[:1]:
            return f'{name}.{key} is {attributes.get(key)}, it was {before}'
        for name, _, key in self._changed_objects()[:1]:
            return f'{name}.{key} is another'
        if self._shape_now() != self._shape:
            return 'a module, an attribute or a hook was added, replaced or taken away'
        tensors = self._tensors_now()
        if tensors == self._tensors:
            return None
        learning = [sum(learns for learns, _ in state) for state in (self._tensors, tensors)]
        if learning[0] != learning[1]:
            return f'{learning[1]} parameters learn, it were {learning[0]}'
        return 'tensors of the model lie elsewhere'

    def changed_by_forward(self) -> str | None:
        """A number that a forward has changed, in words.

        Other objects that it left behind, such as a loss's terms, are results; they are watched no more.
        """
        for (name, attributes, key), before in self._changed_values()[:1]:
            return f'{name}.{key} is {attributes.get(key)}, it was {before}'
        results = {(name, key) for name, _, key in self._changed_objects()}
        self._objects = [entry for entry in self._objects if (entry[0][0], entry[0][2]) not in results]
        self._containers = [entry for entry in self._containers if (entry[0][0], entry[0][2]) not in results]
        self._shape, self._tensors = self._shape_now(), self._tensors_now()
        return None


def flatten(value: Any) -> list:
    """The numbers, words and objects in nested lists, tuples and dicts; of a tensor, where it lies.

    >>> flatten(dict(a=[1, 2.0], b=('c', None)))
    ['a', 1, 2.0, 'b', 'c', None]
    """
    if isinstance(value, dict):
        return [part for pair in value.items() for element in pair for part in flatten(element)]
    if isinstance(value, (list, tuple)):
        return [part for element in value for part in flatten(element)]
    if isinstance(value, Tensor):
        return [value.data_ptr()]
    return [value if isinstance(value, VALUES) else id(value)]
