import os
import subprocess
import sys

import pytest
from project import ROOT


@pytest.fixture(scope='session')
def run_python():
    """Run code in a new process, outside of the checkout's folder."""

    def run(code: str) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
        return subprocess.run(
            [sys.executable, '-c', code],
            cwd=os.path.dirname(sys.executable),
            env=dict(os.environ, PYTHONPATH=path),
            capture_output=True,
            text=True,
        )

    return run
