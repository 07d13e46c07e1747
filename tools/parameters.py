#!/usr/bin/env python3
"""Write config/segmentation.yaml, config/demo.yaml and doc/parameters.md from what is declared.

tools/parameters.py [--check]: with --check nothing is written, and the exit code is 1 if a file
is not what it should be. Needs rclpy.
"""

import dataclasses
import json
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cliptrase_ros.demo import SETTINGS  # noqa: E402
from cliptrase_ros.demo.world import CLASSES  # noqa: E402
from cliptrase_ros.ros.parameters import NodeOptions  # noqa: E402
from cliptrase_ros.settings import Settings  # noqa: E402

YAML_HEAD = """\
# Every parameter of segmentation_node with its default. Written by tools/parameters.py.
# Those marked live may be changed while the node runs: ros2 param set /segmentation NAME VALUE
/**:
  ros__parameters:
"""

DEMO_HEAD = """\
# segmentation_node with the small model of the demo world, which knows the words of that world and
# no others. Written by tools/parameters.py. Used by demo.launch.py.
/**:
  ros__parameters:
"""

PAGE_HEAD = """\
# Parameters of segmentation_node

Written by `tools/parameters.py` from the declarations in `cliptrase_ros/settings.py` and
`cliptrase_ros/ros/parameters.py`. *Live* parameters may be changed while the node runs
(`ros2 param set /segmentation vocabulary "['floor', 'mug=mug;cup']"`); the others are read-only
after the start. A wrong value is refused with the reason, and the old one stays. The engine's
fields are also the fields of `Settings` in Python and the flags of `cliptrase segment`.
"""


def fields():
    for options in (NodeOptions, Settings):
        yield from dataclasses.fields(options)


def default_of(field):
    value = field.default
    return json.dumps(list(value) if type(value) is tuple else value, ensure_ascii=False)


def yaml():
    text = YAML_HEAD
    for field in fields():
        notes = []
        if field.metadata['live']:
            notes.append('Live.')
        if field.metadata['low'] is not None:
            notes.append(f'{field.metadata["low"]} .. {field.metadata["high"]}.')
        doc = ' '.join([field.metadata['doc'], *notes])
        text += '\n' + textwrap.fill(doc, 99, initial_indent='    # ', subsequent_indent='    # ')
        text += f'\n    {field.name}: {default_of(field)}\n'
    return text


def demo_yaml():
    values = {**SETTINGS, 'vocabulary': list(CLASSES)}
    return DEMO_HEAD + ''.join(f'    {n}: {json.dumps(v)}\n' for n, v in values.items())


def page():
    text = PAGE_HEAD
    for title, options in (('The node', NodeOptions), ('The engine', Settings)):
        text += (
            f'\n## {title}\n\n| name | default | values | live | what |\n|---|---|---|---|---|\n'
        )
        for field in dataclasses.fields(options):
            meta = field.metadata
            values = ', '.join(f'`{c}`' for c in meta['choices'] or ())
            if meta['low'] is not None:
                values = f'{meta["low"]} .. {meta["high"]}'
            live = 'yes' if meta['live'] else ''
            doc = meta['doc'].replace('|', '\\|')
            text += f'| `{field.name}` | `{default_of(field)}` | {values} | {live} | {doc} |\n'
    return text


def main():
    stale = []
    for name, text in (
        ('config/segmentation.yaml', yaml()),
        ('config/demo.yaml', demo_yaml()),
        ('doc/parameters.md', page()),
    ):
        path = ROOT / name
        if '--check' not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(name)
    if stale:
        print(f'run tools/parameters.py: {", ".join(stale)} is not as declared', file=sys.stderr)
    return 1 if stale else 0


if __name__ == '__main__':
    sys.exit(main())
