"""Build file. Configs and tools are package data: see ``prkd_mm/.mim``."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent


class EditableWheel(editable_wheel):
    """Editable install that OpenMMLab's ``mim`` finds.

    mim joins site-packages and the first name in ``top_level.txt``, so this
    name is the whole path of the package.
    """

    def run(self):
        metadata = self.reinitialize_command('dist_info', output_dir=self.dist_dir)
        metadata.ensure_finalized()
        metadata.run()
        self.dist_info_dir = metadata.dist_info_dir
        Path(self.dist_info_dir, 'top_level.txt').write_text(f'{ROOT / "prkd_mm"}\n')
        super().run()


# mmcv has no place here: mmcv-lite and mmcv are the same folder, and pip would
# put the one over the other. The extra `lite` is for those who have neither.
REQUIRES = [
    'filelock',  # several processes fill one store of logits
    'jinja2',  # the page of a comparison
    'joblib',  # MMRazor imports it without declaring it
    'matplotlib',
    'mmengine>=0.10.5,<0.11',
    'mmpretrain>=1.2,<2',
    'mmrazor>=1.0,<2',
    'numpy',
    'rich',
    'scipy',  # the largest eigenvalue of a loss's Hessian
    'torch>=2.4',
    'torchvision>=0.19',  # MMPretrain imports it without declaring it
]
EXTRAS = {
    'lite': ['mmcv-lite>=2.0.1,<=2.1.0'],  # MMRazor takes no later one
    'digits': ['scikit-learn'],  # the images of the quickstart
    # Teachers from elsewhere.
    'teachers': ['onnxruntime>=1.17', 'timm>=1.0,<2'],
    'transformers': ['transformers>=4.40,<6'],
    'export': ['onnx>=1.15', 'onnxruntime>=1.17', 'safetensors'],  # for tools/export_student.py
    'docs': ['furo', 'myst-parser', 'sphinx'],  # for `make docs`
    'test': ['hypothesis', 'mpmath', 'pytest', 'pytest-timeout', 'pytest-xdist', 'tensorboard'],
    'dev': ['codespell', 'mypy', 'ruff'],
}
EXTRAS['all'] = sum(EXTRAS.values(), [])

setup(
    name='prkd-mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'prkd_mm/version.py').read_text()).group(1),
    description='Progressively Relaxed Knowledge Distillation for OpenMMLab',
    # A package index does not show pictures with a relative path.
    long_description=re.sub(
        r'^!\[.*\n\n', '', (ROOT / 'README.md').read_text(encoding='utf-8'), flags=re.M
    ),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='The prkd_mm authors',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    keywords='knowledge distillation, OpenMMLab, MMRazor, MMPretrain',
    packages=find_packages(include=['prkd_mm', 'prkd_mm.*']),
    package_data={
        'prkd_mm': [f'.mim/**/*.{ext}' for ext in ('py', 'sh', 'yml')]
        + ['experiments/page.html.j2']
    },
    # From 3.13 on there is no wheel of numpy 1, and MMEngine calls what 3.14
    # has dropped (mmengine/utils/dl_utils/misc.py).
    python_requires='>=3.9,<3.13',
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    zip_safe=False,
    cmdclass=dict(editable_wheel=EditableWheel),
)
