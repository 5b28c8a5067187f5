"""Registers all types of the package, as MMEngine's hub asks of a package of OpenMMLab."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Imports every registered type, as ``mmengine.hub.get_model('mmkd_atsc::...')`` asks of a package.

    Args:
        init_default_scope (bool): Also make ``mmkd_atsc`` the scope in which types without a prefix are looked up.
    """
    from mmengine.registry import DefaultScope

    import mmkd_atsc.datasets
    import mmkd_atsc.engine
    import mmkd_atsc.export
    import mmkd_atsc.models
    import mmkd_atsc.recorders
    import mmkd_atsc.runtime  # noqa: F401
    if init_default_scope and not DefaultScope.check_instance_created('mmkd_atsc'):
        DefaultScope.get_instance('mmkd_atsc', scope_name='mmkd_atsc')
