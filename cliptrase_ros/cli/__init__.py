"""The `cliptrase` command. No ROS needed.

Each command is a module of this folder with `add_arguments(parser)` and `run(options)`. It imports
what needs torch within functions: --help and a wrong flag do not wait for it.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import CliptraseError
from ..runtime.deferred import leave_memory_at_the_end
from ..version import version
from .console import warn

COMMANDS = {
    'segment': 'label pictures',
    'video': 'label a video',
    'bag': 'label the images of a recording of ROS 1 or ROS 2',
    'label': 'label a folder of pictures or bags with several workers',
    'words': 'check a vocabulary',
    'evaluate': 'measure accuracy on a labelled set of pictures',
    'bench': 'measure the speed of this machine',
    'download': 'fetch weights into a file for machines without a network',
}
EXAMPLES = """\
examples:
  cliptrase segment kitchen.jpg --words floor 'mug|cup' 'fire extinguisher' -o out/
  cliptrase video drive.mp4 --words road car person -o labelled.mp4
  cliptrase bag recording/ --vocabulary indoor -o labelled/
  cliptrase words --vocabulary indoor
  cliptrase evaluate --dataset voc20 --root VOCdevkit/VOC2012 --limit 100
  cliptrase download --model ViT-B-16-quickgelu --weights openai --out weights/

exit codes: 0 all done; 1 nothing done, for the reason printed; 2 a flag is unknown,
missing, or has no such value; 3 part of the input could not be used and is named; 130 interrupted
"""
FAILED, INCOMPLETE, INTERRUPTED = 1, 3, 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command: the exit code, see EXAMPLES."""
    args = sys.argv[1:] if args is None else list(args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files may hold anything.
            stream.reconfigure(errors='backslashreplace')
    logging.basicConfig(format='%(message)s', level=logging.WARNING)
    leave_memory_at_the_end()
    try:
        options = _parser(args[0] if args else '').parse_args(args)
        options.command_line = shlex.join(['cliptrase', *args])
        complete = options.run(options)
    except BrokenPipeError:
        # Who reads the results has had enough, as `head` has; and nothing is to be flushed to them.
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


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='cliptrase',
        description='Find things in pictures by name.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=version())
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == asked:
            module = import_module(f'.{name}', __package__)
            command.description, command.epilog = module.__doc__, module.EXAMPLES
            command.usage = f'cliptrase {name} {module.USAGE}'
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
