import fcntl
import multiprocessing
import os
import signal
import socket
import time

import pytest

from prkd_mm.start.folder_lock import lock_folder

FORK = multiprocessing.get_context('fork')


def hold(folder, held, fork=False):
    with lock_folder(folder):
        if fork:
            os.fork()
        held.put(os.getpid())
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Function that starts a process that holds the lock; returns the process and its queue."""
    started = []

    def start(**kwargs):
        held = FORK.SimpleQueue()
        process = FORK.Process(target=hold, args=(tmp_path, held), kwargs=kwargs)
        process.start()
        started.append(process)
        return process, held

    yield start
    for process in started:
        process.kill()
        process.join()


def can_lock(folder):
    """Whether a new process can lock the folder."""

    def lock():
        with lock_folder(folder):
            pass

    process = FORK.Process(target=lock)
    process.start()
    process.join()
    return process.exitcode == 0


def test_a_locked_folder_is_rejected_and_its_holder_is_named(tmp_path, holder):
    process, held = holder()
    assert held.get() == process.pid
    with pytest.raises(ValueError) as error, lock_folder(tmp_path):
        pass
    for words in (str(tmp_path), f'process {process.pid} on {socket.gethostname()}', 'stop it'):
        assert words in str(error.value)


def test_a_killed_holder_leaves_no_lock(tmp_path, holder):
    process, held = holder()
    held.get()
    process.kill()
    process.join()
    with lock_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / '.lock').read_text()


def test_data_workers_do_not_keep_the_lock(tmp_path, holder):
    """A forked child process outlives its killed parent."""
    process, held = holder(fork=True)
    (child,) = {held.get(), held.get()} - {process.pid}
    try:
        process.kill()
        process.join()
        os.kill(child, 0)  # an error if it has ended, too
        assert can_lock(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_released_folder_is_free(tmp_path):
    with lock_folder(tmp_path / 'new'):
        assert not can_lock(tmp_path / 'new')
    assert can_lock(tmp_path / 'new')


def test_a_released_folder_is_as_it_was_before(tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/file').touch()
    for name in ('new/empty', 'full'):
        with lock_folder(tmp_path / name):
            pass
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['file', 'full']


def test_a_lock_file_that_its_holder_has_just_removed_is_not_locked(tmp_path, monkeypatch):
    lockf = fcntl.lockf

    def remove_then_lock(file, flags):
        monkeypatch.setattr(fcntl, 'lockf', lockf)
        (tmp_path / '.lock').unlink()
        lockf(file, flags)

    monkeypatch.setattr(fcntl, 'lockf', remove_then_lock)
    with lock_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / '.lock').read_text()
