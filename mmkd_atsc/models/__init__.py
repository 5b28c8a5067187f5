"""Networks, losses, connectors, distillers and algorithms; importing this registers them all."""
from .algorithms import *
from .backbones import *
from .connectors import *
from .data_preprocessors import *
from .distillers import *
from .heads import *
from .losses import *
