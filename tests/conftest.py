"""Load the fixtures, which import the packages, where tests run."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Load them unless this process only distributes the tests, as with ``-n 2``."""
    if not config.getoption('numprocesses', None):
        config.pluginmanager.import_plugin('fixtures')
