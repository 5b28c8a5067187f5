"""How large a student is when it leaves."""
import logging
from typing import Optional

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc import cli
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.export.config import student_model


def deployed_parameters(config: Config) -> Optional[int]:
    """Parameters of the deployed student: a shared classifier counts, it goes along as a copy.

    None where the network cannot be built here, as when its config is a file of another machine.

    >>> from mmkd_atsc.cifar_networks import classifier
    >>> deployed_parameters(Config(dict(model=classifier('resnet8'))))
    83892
    """
    try:
        model = student_model(config)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            student = MODELS.build(model)
    except cli.USER_ERRORS as error:
        print_log(f'the parameters of a student are not known: {describe(error)}', level=logging.WARNING)
        return None
    return sum(parameter.numel() for parameter in student.parameters())
