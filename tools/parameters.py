#!/usr/bin/env python3
"""Write config/segmentation.yaml, config/demo.yaml and doc/parameters.md from the declared options.

tools/parameters.py [--check]: with --check nothing is written, and the exit code is 1 if a file
is out of date. Needs rclpy.
"""

import json
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cliptrase_ros.demo import SETTINGS, palette  # noqa: E402
from cliptrase_ros.demo.world import CLASSES  # noqa: E402
from cliptrase_ros.options import groups_of, options_of  # noqa: E402
from cliptrase_ros.ros.parameters import NodeOptions  # noqa: E402
from cliptrase_ros.settings import Settings  # noqa: E402

YAML_HEAD = """\
# Every parameter of segmentation_node with its default. Written by tools/parameters.py.
# "Live" may be changed while the node runs: ros2 param set /segmentation cluster.eps 0.9
# auto: chosen automatically. none: off, or no limit.
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
`cliptrase_ros/ros/parameters.py`.

- **Live** parameters may be changed while the node runs, for example
  `ros2 param set /segmentation cluster.eps 0.9`. The others are fixed at the start.
- Names with a dot are in a group. In YAML a group is nested: `cluster:`, and below it `eps: 0.9`.
- `auto` stands for a value that is chosen automatically. `none` stands for off, or for no limit.
- A wrong value is refused with the reason, and the old one stays. A name that does not exist is
  refused with the nearest name that does; the node does not start with it.
- The parameters of the engine are also the fields of `Settings` in Python
  (`ct.Settings(cluster={'eps': 0.9})`) and the flags of the command
  (`cliptrase segment --cluster.eps 0.9`).
"""

TITLES = {
    NodeOptions: ('The node', 'words and images'),
    Settings: ('The engine', 'model and method'),
}


def default_of(one):
    value = one.default
    return json.dumps(list(value) if type(value) is tuple else value, ensure_ascii=False)


def values_of(one):
    """Return the allowed values as texts: the range, the choices, and words such as auto."""
    words = [*one.choices, *one.words]
    if one.low is not None:
        words.insert(0, f'{one.low} .. {one.high}')
    return words


def sections():
    """Yield (title, name of the group or '', its description, its options) in order."""
    for declared, (title, plain) in TITLES.items():
        about = {'': plain, **groups_of(declared)}
        for group, text in about.items():
            options = [o for o in options_of(declared) if o.name.rpartition('.')[0] == group]
            yield title, group, text, options


def yaml():
    text = YAML_HEAD
    for title, group, about, options in sections():
        if not group:
            text += f'\n    # {title}: {about}.\n'
        parents = group.split('.') if group else []
        if parents:
            pad = '    ' + '  ' * (len(parents) - 1)
            text += '\n' + wrapped(about, pad) + f'{pad}{parents[-1]}:\n'
        pad = '    ' + '  ' * len(parents)
        for one in options:
            notes = ['Live.'] if one.live else []
            notes += [f'{one.low} .. {one.high}.'] if one.low is not None else []
            text += '' if group and one is options[0] else '\n'
            text += wrapped(' '.join([one.doc, *notes]), pad)
            text += f'{pad}{one.name.rpartition(".")[2]}: {default_of(one)}\n'
    return text


def wrapped(text, pad):
    return textwrap.fill(text, 99, initial_indent=f'{pad}# ', subsequent_indent=f'{pad}# ') + '\n'


def demo_yaml():
    text = DEMO_HEAD
    # The labels of the small model have ragged edges. Their crumbs would be objects, too.
    values = {**SETTINGS, 'objects': {'min_pixels': 300}, 'vocabulary': list(CLASSES)}
    values['colors'] = list(palette.ENTRIES)
    for name, value in values.items():
        if isinstance(value, dict):
            text += f'    {name}:\n'
            text += ''.join(f'      {n}: {json.dumps(v)}\n' for n, v in value.items())
        else:
            text += f'    {name}: {json.dumps(value)}\n'
    return text


def page():
    text = PAGE_HEAD
    for title, group, about, options in sections():
        text += f'\n### `{group}`\n\n{about}\n' if group else f'\n## {title}\n'
        text += '\n| name | default | values | live | what |\n|---|---|---|---|---|\n'
        for one in options:
            values = ', '.join(f'`{v}`' if '..' not in v else v for v in values_of(one))
            live = 'yes' if one.live else ''
            doc = one.doc.replace('|', '\\|')
            text += f'| `{one.name}` | `{default_of(one)}` | {values} | {live} | {doc} |\n'
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
        print(f'run tools/parameters.py: {", ".join(stale)} is out of date', file=sys.stderr)
    return 1 if stale else 0


if __name__ == '__main__':
    sys.exit(main())
