"""Error handling and argument types, shared by all command lines."""

import argparse
import copy
import errno
import os
import re
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Callable, Optional

from mmengine.config import DictAction
from rich.console import Console

_DEBUG = '--debug'
_TOOLS = Path(__file__).parent / '.mim/tools'
_PICTURES = ('.png', '.jpg', '.pdf', '.svg')
# The messages of these types are written for users; others are shown with their type.
_EXPLAINED = (OSError, ValueError, FloatingPointError, NotImplementedError, ModuleNotFoundError)

# Python's message for a part that a config lacks
_MISSING_PART = re.compile(r"'ConfigDict' object has no attribute '(\w+)'")
# PyTorch's message for an error in a worker process of a data loader
_IN_WORKER = re.compile(r'Caught (\w+) in DataLoader worker process \d+\.\n')
# MMEngine's message for a `type` that does not exist
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the \w+::([\w ]+) registry')


def run(main: Callable[[], None], interrupted: str = 'interrupted') -> None:
    """Run a tool; turn an error into one message and exit status 1.

    SIGTERM, the default of ``kill``, acts like Ctrl-C, so that a tool also ends the runs that it
    started; then ``interrupted`` is printed. ``--debug`` anywhere in the command line also prints
    the traceback. A distributed run always prints it.
    """
    debug = _DEBUG in sys.argv or os.environ.get('WORLD_SIZE', '1') != '1'
    sys.argv = [argument for argument in sys.argv if argument != _DEBUG]
    if os.environ.get('RANK', '0') == '0':  # other processes of torchrun only compute
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(interrupted)
    except BrokenPipeError:  # the program that reads the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.stdout.flush()
        sys.exit(f'error: {explain(error)}')


def command_of(tool: str) -> str:
    """How to start a tool: as a file in a checkout, else by the name of the package."""
    file = os.path.join('tools', tool)
    # a checkout of MMPretrain or MMRazor has a tools/train.py, too
    if os.path.isfile(file) and os.path.samefile(file, _TOOLS / tool):
        return f'python {file}'
    return f'python -m prkd_mm prkd_mm::{tool}'


def wide_console() -> Console:
    """A console that shows wide tables completely if the output is a file or a pipe.

    It shows any text as it is: names of files and classes may look like markup.
    """
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:  # rich assumes 80 columns
        console.width = max(console.width, 120)
    return console


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [''])[0].rstrip(' :')


def explain(error: Exception) -> str:
    """The message of an error, with its type if the message alone may be unclear."""
    # MMEngine and Python quote the message of a KeyError
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = _without_worker(text.strip())
    if match := _UNKNOWN_TYPE.search(text):
        return (
            f'there is no {match[2]} with the name {match[1]!r}; correct the `type` in the config, '
            'or add the module that registers it to custom_imports'
        )
    if match := _MISSING_PART.search(text):
        return f'the config has no {match[1]!r}, which this command needs'
    if isinstance(error, AssertionError) and not text and error.__traceback__:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        check = (frame.line or '').removeprefix('assert ')
        file = os.path.basename(frame.filename)
        return f'a setting fails the check `{check}` in {file} ({_DEBUG} shows where)'
    if isinstance(error, (AssertionError, TypeError)) and _was_raised(error):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f': cannot write {error.filename!r}' if error.filename else ''
        return (
            f'the disk is full{where}; free some space and run the same command again (a training '
            'with --resume)'
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f'{error.strerror}: {error.filename!r}'
    if text and (isinstance(error, _EXPLAINED) or type(error).__module__.startswith('prkd_mm')):
        return text
    return f'{type(error).__name__}: {text}'.rstrip(': ') + f' ({_DEBUG} shows where)'


def _without_worker(text: str) -> str:
    """Reduce the traceback of a worker process to the message of its error."""
    match = _IN_WORKER.match(text)
    return re.split(rf'^(?:[\w.]+\.)?{match[1]}: ', text, flags=re.MULTILINE)[-1] if match else text


def _was_raised(error: Exception) -> bool:
    """Whether a statement raised an error with a message for users, rather than Python itself."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and (frames[-1].line or '').startswith(('raise ', 'assert '))


class ArgumentParser(argparse.ArgumentParser):
    """A parser with the option ``--debug``, for :func:`run`."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument(
            _DEBUG,
            action='store_true',
            default=argparse.SUPPRESS,
            help='show the traceback of an error',
        )


def whole_number(at_least: int, at_most: Optional[int] = None) -> Callable[[str], int]:
    """Argument type: an integer with a lower bound, and perhaps an upper one."""
    bounds = f'at least {at_least}' + ('' if at_most is None else f' and at most {at_most}')

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = at_least - 1
        if value < at_least or (at_most is not None and value > at_most):
            raise argparse.ArgumentTypeError(f'must be a whole number, {bounds}; got {text!r}')
        return value

    return parse


def positive_number(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number above 0; got {text!r}')
    return value


def positive_numbers(text: str) -> list[float]:
    """Argument type: comma-separated finite numbers above 0."""
    return [positive_number(part) for part in text.split(',')]


def new_file(text: str) -> Path:
    """Argument type: a file to write, in a folder that exists."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text!r} is a folder; give the name of a file')
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f'there is no folder {str(path.parent)!r} for {text!r}')
    return path


def new_picture(text: str) -> Path:
    """Argument type: a picture to write, in a folder that exists."""
    path = new_file(text)
    if path.suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(
            f'the name of a picture ends with {", ".join(_PICTURES)}; got {text!r}'
        )
    return path


def output_folder(text: str) -> Path:
    """Argument type: a folder to write into, which may not exist yet."""
    path = Path(text)
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise argparse.ArgumentTypeError(f'{str(existing)!r} is a file, not a folder')
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f'cannot write into {str(existing)!r}: {error.strerror}'
        ) from error
    return path


class ConfigOptions(DictAction):
    """MMEngine's action for ``KEY=VALUE``, but with spaces kept inside strings."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Optional[str] = None,
    ) -> None:
        options = copy.copy(getattr(namespace, self.dest, None) or {})
        for text in values or []:
            key, equals, value = text.partition('=')
            if not equals or not key.strip():
                parser.error(f'argument {option_string}: expected KEY=VALUE, got {text!r}')
            options[key.strip()] = self._parse(parser, text, value)
        setattr(namespace, self.dest, options)

    def _parse(self, parser: argparse.ArgumentParser, text: str, value: str) -> Any:
        if value.strip().startswith(('dict(', '{')):
            key = text.partition('=')[0].strip()
            parser.error(f'{text!r} is a dict; set its items instead: {key}.NAME=VALUE')
        # MMEngine removes all spaces, which is correct for lists and tuples only
        if ' ' in value.strip() and not value.strip().startswith(('[', '(')):
            return value
        if value.count('(') != value.count(')') or value.count('[') != value.count(']'):
            parser.error(f'the brackets in {text!r} do not match')
        return self._parse_iterable(value)
