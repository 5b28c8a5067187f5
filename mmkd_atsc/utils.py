"""The module that MMEngine's hub asks a package of OpenMMLab for."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Registers every type; with ``init_default_scope``, types without a prefix are then looked up here."""
    from mmengine.registry import DefaultScope

    from . import datasets, engine, export, models, recorders, runtime  # noqa: F401
    if init_default_scope and not DefaultScope.check_instance_created('mmkd_atsc'):
        DefaultScope.get_instance('mmkd_atsc', scope_name='mmkd_atsc')
