"""The `cliptrase` command. It does not need ROS.

Each command is a module in this folder with `add_arguments(parser)` and `run(options)`. It imports
torch, and modules that need torch, only inside functions. So --help and errors in flags are fast.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import CliptraseError, nearest
from ..runtime.deferred import leave_memory_at_the_end
from ..version import version
from .console import warn

COMMANDS = {
    'segment': 'label pictures',
    'video': 'label a video',
    'view': 'show a camera, a video or pictures with labels, live in the browser',
    'bag': 'label the images of a ROS 1 or ROS 2 recording',
    'label': 'label a folder of pictures, or recordings, with one or several workers',
    'words': 'check a vocabulary',
    'evaluate': 'measure accuracy on a labelled data set',
    'bench': 'measure the speed on this machine',
    'download': 'download weights into a file, for machines without a network',
}
EXAMPLES = """\
examples:
  cliptrase segment kitchen.jpg --words floor 'mug|cup' 'fire extinguisher' -o out/
  cliptrase video drive.mp4 --words road car person -o labelled.mp4
  cliptrase view 0 --words person cup 'fire extinguisher'
  cliptrase bag recording/ --vocabulary indoor -o labelled/
  cliptrase words --vocabulary indoor
  cliptrase evaluate --dataset voc20 --root VOCdevkit/VOC2012 --limit 100
  cliptrase download --model ViT-B-16-quickgelu --weights openai --out weights/

exit codes:
  0    everything was done
  1    failed; the reason is printed
  2    wrong usage: a flag is unknown, missing or has an invalid value
  3    part of the input was skipped; each skipped part is printed
  130  interrupted with Ctrl-C
"""
FAILED, INCOMPLETE, INTERRUPTED = 1, 3, 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (see EXAMPLES)."""
    args = sys.argv[1:] if args is None else list(args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names may hold bytes that are not valid text.
            stream.reconfigure(errors='backslashreplace')
    logging.basicConfig(format='%(message)s', level=logging.WARNING)
    leave_memory_at_the_end()
    try:
        parser, command = _parsers(args[0] if args else '')
        options, rest = parser.parse_known_args(args)
        if rest:
            command.error(_unrecognized(rest, command))
        options.command_line = shlex.join(['cliptrase', *args])
        complete = options.run(options)
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does. Send the rest to /dev/null, so that the final
        # flush does not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except CliptraseError as error:
        warn(error)
        return FAILED
    except OSError as error:
        warn(f'{error.filename}: {error.strerror}' if error.filename else error)
        return FAILED
    except KeyboardInterrupt:
        warn('interrupted')
        return INTERRUPTED
    return 0 if complete is not False else INCOMPLETE


def _parsers(asked: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the parser of `cliptrase`, and the parser of the given command."""
    parser = found = argparse.ArgumentParser(
        prog='cliptrase',
        description='Find things in pictures by name.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=version())
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # --cluster must not stand for --cluster.eps
        )
        if name == asked:
            module = import_module(f'.{name}', __package__)
            command.description, command.epilog = module.__doc__, module.EXAMPLES
            command.usage = f'cliptrase {name} {module.USAGE}'
            module.add_arguments(command)
            command.set_defaults(run=module.run)
            found = command
    return parser, found


def _unrecognized(rest: Sequence[str], command: argparse.ArgumentParser) -> str:
    """Return the error message for arguments that the command does not know."""
    flag = next((one.partition('=')[0] for one in rest if one.startswith('--')), None)
    if flag is None:
        return f'unrecognized arguments: {shlex.join(rest)}'
    flags = re.findall(r'--[\w.-]+', command.format_help())
    known = {one[2:].replace('-', '_'): one for one in flags}
    name = flag[2:].replace('-', '_')
    members = [one for key, one in known.items() if key.startswith(f'{name}.')]
    if members:
        return f'{flag} is a group of settings. Set one of {", ".join(members)}'
    near = [known[one] for one in nearest(name, known)]
    hint = f'did you mean {" or ".join(near)}?' if near else 'see --help'
    return f'unknown flag {flag}: {hint}'
