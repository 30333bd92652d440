"""Run any OpenMMLab script with the patches applied, or check the setup.

python -m prkd_mm SCRIPT ARGS   run a script as `python SCRIPT ARGS` would,
                                after `import prkd_mm`; mmrazor::train.py
                                names a script that comes with a package
python -m prkd_mm doctor        show versions, patches, devices, data sets and
                                teachers, and how to fix each problem
"""

import os.path as osp
import runpy
import sys

import prkd_mm  # noqa: F401  the patches
from prkd_mm.doctor import main as doctor


def find_script(name: str) -> str:
    """Path of a script: a file, or ``package::script.py`` for one in a package's tools."""
    path = name
    package, is_shipped, script = name.partition('::')
    if is_shipped:
        from mmengine.utils import get_installed_path

        path = osp.join(get_installed_path(package), '.mim', 'tools', script)
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no script {path!r}')
    return path


def main() -> None:
    arguments = sys.argv[1:]
    if arguments == ['doctor']:
        sys.exit(doctor())
    if not arguments or arguments[0].startswith('-'):
        sys.exit(__doc__.strip())
    try:
        script = find_script(arguments[0])
    except FileNotFoundError as error:
        sys.exit(f'error: {error}')
    sys.argv = [script, *arguments[1:]]
    sys.path[0] = osp.dirname(osp.abspath(script))
    runpy.run_path(script, run_name='__main__')


if __name__ == '__main__':
    main()
