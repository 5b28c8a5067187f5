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
        self._slots: list[Slot] = []  # of numbers and words
        self._objects: list[tuple[Slot, Any]] = []
        self._containers: list[tuple[Slot, Any, list]] = []
        modules = [(name, module) for name, module in model.named_modules()
                   if name.partition('.')[0] != 'data_preprocessor']
        for name, module in modules:
            self._add(name, module)
        # Looked up once: a walk through the modules of a network takes longer than a step.
        self._parts = [module._modules for _, module in modules if module._modules]
        self._sized = [sized for _, module in modules for sized in (
            vars(module), module._forward_hooks, module._forward_pre_hooks)]
        self._owners = [tensors for _, module in modules for tensors in (module._parameters, module._buffers)]
        self._values, self._shape, self._tensors = self._values_now(), self._shape_now(), self._tensors_now()

    def _add(self, name: str, module: nn.Module) -> None:
        # PyTorch's own modules have shapes as integers, words and tuples, which nobody can change.
        kinds = (bool, float) if type(module).__module__.startswith('torch.nn.') else object
        for key, value in vars(module).items():
            slot = name or type(self._model).__name__, vars(module), key
            if key in INTERNALS or not isinstance(value, kinds):
                continue
            if isinstance(value, VALUES):
                self._slots.append(slot)
            elif isinstance(value, (list, tuple, dict)) and len(value) <= MOST_ELEMENTS:
                self._containers.append((slot, value, flatten(value)))
            else:
                self._objects.append((slot, value))

    def _values_now(self) -> list[Any]:
        return [attributes.get(key) for _, attributes, key in self._slots]

    def _shape_now(self) -> tuple[list[nn.Module | None], list[int]]:
        """The parts of all modules; how many attributes and hooks each has."""
        return [part for parts in self._parts for part in parts.values()], [len(sized) for sized in self._sized]

    def _tensors_now(self) -> list[tuple[bool, int]]:
        return [(tensor.requires_grad, tensor.data_ptr()) for tensors in self._owners for tensor in tensors.values()
                if tensor is not None]

    def _changed_value(self) -> str | None:
        now = self._values_now()
        if now == self._values:
            return None
        return next(f'{name}.{key} is {value}, it was {before}' for (name, _, key), value, before in
                    zip(self._slots, now, self._values) if value != before)

    def _changed_objects(self) -> list[tuple[str, str]]:
        """Module and attribute of each object that is another, or holds others."""
        changed = [slot for slot, before in self._objects if slot[1].get(slot[2]) is not before]
        changed += [slot for slot, before, content in self._containers
                    if slot[1].get(slot[2]) is not before and flatten(slot[1].get(slot[2])) != content
                    or flatten(before) != content]
        return [(name, key) for name, _, key in changed]

    def changed(self) -> str | None:
        """What is another than it was, in words; None where all is as it was."""
        value = self._changed_value()
        if value:
            return value
        for name, key in self._changed_objects():
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

        Other objects that it left behind, such as a loss's terms, are results, and watched no more. They are told by
        what they are, for a new tensor may lie where an old one was.
        """
        self._objects = [(slot, before) for slot, before in self._objects if slot[1].get(slot[2]) is before]
        self._containers = [(slot, before, content) for slot, before, content in self._containers
                            if slot[1].get(slot[2]) is before and flatten(before) == content]
        self._shape, self._tensors = self._shape_now(), self._tensors_now()
        return self._changed_value()


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
