"""Runs that are forked from a server behave like new interpreters."""

import json
import signal

import pytest
from project import type_command

SCRIPT = """
import os, signal, sys, threading, torch
print(sys.argv, os.getcwd(), sys.path[0], os.environ['OMP_NUM_THREADS'], __name__)
print(torch.get_num_threads(), threading.active_count(), signal.getsignal(signal.SIGINT))
print('preloaded:', 'prkd_mm' in sys.modules if len(sys.argv) > 2 else '')
if sys.argv[1] == 'exit':
    sys.exit('a message')
if sys.argv[1] == 'raise':
    raise OSError('an error')
if sys.argv[1] == 'wait':
    print('ready', flush=True)
    signal.pause()
"""

TOOL = """
import json, os, socket, sys, tempfile, time
from prkd_mm.experiments import run_server

if __name__ == '__main__':
    if sys.argv[1] != 'new':
        run_server.start_server()
    found = []
    for what in ('end', 'exit', 'raise', 'wait', 'preloaded', 'without server'):
        if what == 'without server' and run_server._server:
            run_server._server.shutdown(socket.SHUT_RDWR)
        with tempfile.TemporaryFile('w+') as output:
            command = ['folder/script.py', what, *['?'] * (what in ('preloaded', 'without server'))]
            run = run_server.start_run(command, output, dict(os.environ, OMP_NUM_THREADS='1'))
            # the run writes at the position of this file, so reading must not move it
            while what == 'wait' and b'ready' not in os.pread(output.fileno(), 2**16, 0):
                time.sleep(0.05)
            if what == 'wait':
                assert run.poll() is None
                run.terminate()
            status = run.wait(60)
            output.seek(0)
            found.append([what, status, run.poll(), output.read()])
    print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    """What runs print, and their exit status: as new interpreters, and forked."""
    folder = tmp_path_factory.mktemp('server')
    (folder / 'folder').mkdir()
    (folder / 'folder/script.py').write_text(SCRIPT)
    (folder / 'tool.py').write_text(TOOL)
    return [
        {what: rest for what, *rest in json.loads(type_command('tool.py', how, cwd=folder))}
        for how in ('new', 'forked')
    ]


@pytest.mark.slow
def test_a_forked_run_equals_a_new_interpreter(outcomes):
    new, forked = outcomes
    for what, status in dict(end=0, exit=1, raise_=1, wait=-signal.SIGTERM).items():
        name = what.strip('_')
        assert new[name][:2] == forked[name][:2] == [status, status], what
    for name in ('end', 'exit', 'wait'):
        assert new[name][2] == forked[name][2]
    for outcome in outcomes:
        assert 'OSError: an error' in outcome['raise'][2]


@pytest.mark.slow
def test_a_forked_run_does_not_repeat_the_imports(outcomes):
    new, forked = outcomes
    assert 'preloaded: False' in new['preloaded'][2]
    assert 'preloaded: True' in forked['preloaded'][2]


@pytest.mark.slow
def test_without_its_server_a_tool_starts_new_interpreters(outcomes):
    assert 'preloaded: False' in outcomes[1]['without server'][2]
