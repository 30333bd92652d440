"""Training runs as processes, forked from one process so that imports are paid for once."""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, Optional, Union

import numpy as np
import torch

# what a training run imports while it runs
_PRELOADED = (
    'matplotlib.backends.backend_agg',
    'mmpretrain.engine',
    'mmpretrain.visualization',
    'mmrazor.datasets',
    'mmrazor.engine',
    'mmrazor.visualization',
    'prkd_mm.start.resume',
)
_SIZE = 2**20  # maximum size of a request in bytes
_server: Optional[socket.socket] = None


def start_server() -> None:
    """Fork a server that starts all later runs, each as a fork of itself.

    Call it first in a script, outside of any function, since the runs continue there: a process
    can be forked only before it uses CUDA or computes in several threads. Without a server, for
    example on a machine with a GPU, each run is a new interpreter.
    """
    global _server
    is_the_program = sys._getframe(1).f_back is None  # a caller would see the end of each run
    if _server or not is_the_program:
        return
    if not sys.platform.startswith('linux') or torch.cuda.is_available():
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        _server = ours
    else:
        ours.close()
        _serve(theirs)


def start_run(command: Sequence[str], output: IO[str], environment: Mapping[str, str]) -> 'Run':
    """Start a Python script with all of its environment variables; it prints to ``output``."""
    if _server:
        with contextlib.suppress(OSError):  # the server was killed
            return ForkedRun(_server, command, output, environment)
    return subprocess.Popen(
        [sys.executable, *command], stdout=output, stderr=subprocess.STDOUT, env=environment
    )


class ForkedRun:
    """A process started by the server, with some of the methods of ``subprocess.Popen``."""

    def __init__(
        self,
        server: socket.socket,
        command: Sequence[str],
        output: IO[str],
        environment: Mapping[str, str],
    ) -> None:
        self.returncode: Optional[int] = None
        request = json.dumps([os.getcwd(), command, dict(environment)]).encode()
        self._status, status = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with status:
            socket.send_fds(server, [request], [output.fileno(), status.fileno()])
        if not (pid := self._status.recv(_SIZE)):
            raise ConnectionError('the server has ended')
        self.pid = int(pid)

    def poll(self) -> Optional[int]:
        """Exit status, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Wait for the end and return the exit status."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            # no status if its parent was killed
            self.returncode = int(self._status.recv(_SIZE) or -signal.SIGKILL)
            self._status.close()
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM to the process if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


Run = Union[ForkedRun, subprocess.Popen]


def _serve(requests: socket.socket) -> None:
    """Fork a run for each request until the tool ends; only the runs return."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tool and the runs
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the parents of the runs
    while True:
        request, files, *_ = socket.recv_fds(requests, _SIZE, 2)
        if not request:
            os._exit(0)
        for name in _PRELOADED:  # with the first request
            importlib.import_module(name)
        gc.freeze()  # so that garbage collection in a run does not copy the memory of the imports
        if not os.fork():
            requests.close()
            _run(json.loads(request), files, interrupt)
        for file in files:
            os.close(file)


def _run(request: list, files: Sequence[int], interrupt: Any) -> None:
    """Run a script in a child of this process, and send its id and its exit status."""
    folder, command, environment = request
    output, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        with contextlib.suppress(OSError):  # the tool was killed
            os.write(status, str(pid).encode())
            os.write(status, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        os._exit(0)
    os.close(status)
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output, stream)
    signal.signal(signal.SIGINT, interrupt)
    np.random.seed()  # as in a new interpreter
    threads = environment.get('OMP_NUM_THREADS')
    if threads and threads != os.environ.get('OMP_NUM_THREADS'):  # read before the fork
        torch.set_num_threads(int(threads))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = command, os.path.dirname(os.path.abspath(command[0]))
    runpy.run_path(command[0], run_name='__main__')
    sys.exit()
