"""Notices when a model's attributes change: a captured step keeps their values."""
from numbers import Number
from typing import Any

from torch import Tensor, nn

VALUES = (Number, str, type(None))
INTERNALS = frozenset(vars(nn.Module())) - {'training'}
MOST_ELEMENTS = 256  # of a list, tuple or dict that is looked into
Slot = tuple[str, dict, str]  # a module's name, its attributes, the name of one


class PythonState:
    """The attributes, parts and hooks of modules, which parameters learn, and where all tensors lie.

    Numbers and words are compared by value, also inside lists, tuples and dicts; other objects by identity. A data
    preprocessor is left out: it runs before the captured step.
    """

    def __init__(self, model: nn.Module) -> None:
        self._slots: list[Slot] = []  # of numbers and words
        self._objects: list[tuple[Slot, Any, list]] = []  # of all others, with what they held
        modules = [(name or type(model).__name__, module) for name, module in model.named_modules()
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
            if key in INTERNALS or not isinstance(value, kinds):
                continue
            if isinstance(value, VALUES):
                self._slots.append((name, vars(module), key))
            else:
                self._objects.append(((name, vars(module), key), value, flatten(value)))

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
        return None if now == self._values else next(
            f'{name}.{key} is {value}, it was {before}' for (name, _, key), value, before in
            zip(self._slots, now, self._values) if value != before)

    def changed(self) -> str | None:
        """What differs from before, in words; None where nothing does."""
        value = self._changed_value()
        if value:
            return value
        for (name, attributes, key), before, content in self._objects:
            now = attributes.get(key)
            if flatten(before) != content or now is not before and flatten(now) != content:
                return f'{name}.{key} is another'
        if self._shape_now() != self._shape:
            return 'a module, an attribute or a hook was added, replaced or taken away'
        return None if self._tensors_now() == self._tensors else 'other parameters learn, or tensors lie elsewhere'

    def changed_by_forward(self) -> str | None:
        """A number that a forward has changed, in words.

        Other objects that it replaced or filled, such as a loss's terms, are results, and are watched no more. Identity
        tells them, for a new tensor may lie where an old one was.
        """
        self._objects = [(slot, before, content) for slot, before, content in self._objects
                         if slot[1].get(slot[2]) is before and flatten(before) == content]
        self._shape, self._tensors = self._shape_now(), self._tensors_now()
        return self._changed_value()


def flatten(value: Any) -> list:
    """The numbers, words and objects in nested lists, tuples and dicts; of a tensor, where it lies and its shape."""
    if isinstance(value, (dict, list, tuple)) and len(value) <= MOST_ELEMENTS:
        elements = value if not isinstance(value, dict) else [part for pair in value.items() for part in pair]
        return [part for element in elements for part in flatten(element)]
    if isinstance(value, Tensor):
        return [value.data_ptr(), value.shape]
    return [value if isinstance(value, VALUES) else id(value)]
