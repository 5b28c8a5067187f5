"""Installs mmkd_atsc with its configs and tools inside the package (``.mim``), as every OpenMMLab package does."""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ('configs', 'tools', 'model-index.yml')

# The set that was measured to work together. torch 2.6 is the first that loads checkpoints with weights_only=True by
# default; mmrazor refuses mmcv above 2.1.0; mmengine still imports pkg_resources, which setuptools 82 dropped.
INSTALL_REQUIRES = [
    'torch>=2.6', 'torchvision', 'mmengine>=0.10.7,<0.11', 'mmcv-lite>=2.0.0,<=2.1.0', 'mmpretrain==1.2.0',
    'mmrazor==1.0.0', 'joblib', 'safetensors', 'setuptools<82',
]
EXTRAS = {
    'demo': ['scikit-learn', 'matplotlib', 'onnx', 'onnxruntime'],  # what the README's first commands need
    'export': ['onnx', 'onnxruntime'],
    'dev': ['pytest', 'pytest-xdist', 'ruff', 'hypothesis', 'build', 'tensorboard', 'timm', 'import-linter', 'mypy'],
}
EXTRAS['dev'] += EXTRAS['demo']


class BuildWithConfigs(build_py):
    """Adds ``mmkd_atsc/.mim``: copies in a wheel, links in an editable install so that edits show at once.

    The logs of published runs are left out of a wheel. MMEngine resolves ``mmkd_atsc::...`` to this folder.
    """

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            self._fill(ROOT / 'mmkd_atsc' / '.mim', link=True)
        else:
            self._fill(Path(self.build_lib) / 'mmkd_atsc' / '.mim', link=False)

    @staticmethod
    def _fill(mim: Path, link: bool) -> None:
        if mim.is_dir():
            shutil.rmtree(mim)
        mim.mkdir(parents=True)
        for name in SHIPPED:
            source = ROOT / name
            if link:
                (mim / name).symlink_to(Path('..') / '..' / name, target_is_directory=source.is_dir())
            elif source.is_dir():
                shutil.copytree(source, mim / name, ignore=shutil.ignore_patterns('__pycache__', '*.pyc', 'logs'))
            else:
                shutil.copy2(source, mim / name)


setup(
    name='mmkd_atsc',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'mmkd_atsc' / 'version.py').read_text()).group(1),
    description='ATSC and AEKT knowledge distillation for MMRazor: adaptive teachers, a shared classifier',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmkd_atsc', 'mmkd_atsc.*']),
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
