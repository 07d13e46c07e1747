"""Published numbers, printed next to measured ones, and the reasons why the two differ.

mIoU in percent, of OpenAI's CLIP on the whole validation part of each set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.weights import file_of
from ..settings import Settings

_SETS = ('voc21', 'pc60', 'coco_object', 'voc20', 'cityscapes', 'pc59', 'ade150', 'coco_stuff')
# open_clip model names, and the backbones that they are called in papers.
BACKBONES = {
    'ViT-B-16-quickgelu': 'B/16',
    'ViT-B-16': 'B/16',
    'ViT-L-14-quickgelu': 'L/14',
    'ViT-L-14': 'L/14',
}
WEIGHTS = 'openai'

_OVS = 'OV-Stitcher (arXiv 2604.08110), table 1'
_RESCLIP_TABLE = "table in ResCLIP's README"
_TF_OVOS = 'independent run, github.com/Ricardo-ChenTY/TF-OVOS'


@dataclass(frozen=True)
class PublishedResult:
    """Published numbers of one method.

    Attributes:
        method, backbone, protocol: what was measured; protocol is empty if it is not stated.
        source: where the numbers are published.
        miou: mIoU by data set.
        conditions: settings that distinguish this row from other rows of the same method.
        unknown: what is not published about how it was made; empty: nothing known to be missing.
    """

    method: str
    backbone: str
    protocol: str
    source: str
    miou: Mapping[str, float]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ''


def _row(method: str, backbone: str, source: str, miou: str, **conditions: Any) -> PublishedResult:
    """Make a row from a number for each of _SETS, '-' if there is none."""
    values = zip(_SETS, miou.split(), strict=True)
    numbers = {name: float(value) for name, value in values if value != '-'}
    protocol = conditions.pop('protocol', 'sliding')
    unknown = conditions.pop('unknown', '')
    return PublishedResult(method, backbone, protocol, source, numbers, conditions, unknown)


_OWN = {'protocol': 'cliptrase'}
# For baselines that a paper computed itself.
_UNTOLD = {'unknown': 'its settings are not published'}
_PAMR, _PLAIN = {'refine': 'pamr'}, {'refine': 'none'}

ROWS = (
    _row('clip', 'B/16', _OVS, '18.6 7.8 6.5 49.1 6.7 11.2 3.2 5.7', **_UNTOLD),
    _row(
        'maskclip',
        'B/16',
        f'{_OVS}: a re-implementation',
        '43.4 23.2 20.6 74.9 24.9 26.4 11.9 16.7',
        **_UNTOLD,
    ),
    _row(
        'maskclip',
        'B/16',
        "MaskCLIP's README, refined, in its own protocol",
        '- - - 49.5 - 21.7 - 12.5',
        protocol='',
    ),
    _row('sclip', 'B/16', f'the paper, and {_OVS}', '59.1 30.4 30.5 80.4 32.2 34.2 16.1 22.4'),
    _row('sclip', 'B/16', "SCLIP's README", '59.63 31.74 33.52 81.54 32.34 34.46 16.45 22.77'),
    _row('sclip', 'B/16', _TF_OVOS, '- - - 81.5 - 34.1 16.5 22.9'),
    _row('clearclip', 'B/16', f'the paper, and {_OVS}', '51.8 32.6 33.0 80.9 30.0 35.9 16.7 23.9'),
    _row(
        'naclip',
        'B/16',
        f"NACLIP's README, and {_OVS}",
        '58.9 32.2 33.2 79.7 35.5 35.2 17.4 23.3',
        **_PLAIN,
    ),
    _row('naclip', 'B/16', "NACLIP's README", '64.1 35.0 36.2 83.0 38.3 38.4 19.1 25.7', **_PAMR),
    _row('naclip', 'B/16', _TF_OVOS, '- - - 83.0 - 38.4 19.1 26.0', **_PAMR),
    _row(
        'cliptrase',
        'B/16',
        "CLIPtrase's README",
        '50.88 29.87 43.56 80.95 - 33.83 16.35 22.84',
        input_size=224,
        **_OWN,
    ),
    _row(
        'cliptrase',
        'B/16',
        "CLIPtrase's README",
        '53.04 30.79 44.84 81.2 - 34.92 17.04 24.06',
        input_size=336,
        **_OWN,
    ),
    _row('cliptrase', 'B/16', f'{_OVS}; protocol not stated', '- - - - 21.3 - - -', protocol=''),
    _row('cliptrase', 'B/16', _TF_OVOS, '- - - 81.2 - 34.6 17.0 24.1', input_size=336, protocol=''),
    _row(
        'gclip',
        'B/16',
        'a leaderboard (wizwand), not the paper; protocol not stated',
        '- - - - 33.7 - 18.5 24.8',
        protocol='',
    ),
    _row(
        'resclip',
        'B/16',
        f"ResCLIP's README, and {_OVS}",
        '61.1 33.5 35.0 86.0 35.9 36.8 18.0 24.7',
    ),
    _row('resclip', 'B/16', _TF_OVOS, '- - - 82.3 - 36.9 18.1 23.6'),
    _row(
        'sc_clip',
        'B/16',
        f"SC-CLIP's README, and {_OVS}",
        '64.6 36.8 37.7 84.3 41.0 40.1 20.1 26.6',
    ),
    _row('sc_clip', 'B/16', _TF_OVOS, '- - - 84.3 - 40.2 20.1 26.6'),
    _row('clip', 'L/14', _OVS, '8.2 4.1 2.7 15.6 4.4 2.5 1.7 2.4', **_UNTOLD),
    _row(
        'maskclip',
        'L/14',
        f'{_OVS}: a re-implementation',
        '23.3 11.7 7.2 29.4 12.4 11.5 7.2 8.8',
        **_UNTOLD,
    ),
    _row('sclip', 'L/14', _RESCLIP_TABLE, '44.4 22.3 24.9 60.3 17.0 20.5 7.1 13.1'),
    _row('clearclip', 'L/14', _RESCLIP_TABLE, '48.7 28.3 29.7 80.0 27.9 29.6 15.0 19.9'),
    _row('naclip', 'L/14', "NACLIP's README", '52.2 28.7 29.9 78.7 31.4 32.1 17.3 21.4', **_PLAIN),
    _row('resclip', 'L/14', _OVS, '54.1 30.9 32.5 85.5 33.7 34.5 18.2 23.4'),
    _row('sc_clip', 'L/14', _OVS, '65.0 36.9 40.5 88.3 41.3 40.6 21.7 26.9'),
)


def rows_for(dataset: str, settings: Settings) -> list[PublishedResult]:
    """Return the rows that have a number for this set, method and backbone."""
    backbone = BACKBONES.get(settings.model)
    return [
        row
        for row in ROWS
        if (row.method, row.backbone) == (settings.method, backbone) and dataset in row.miou
    ]


def differences(
    row: PublishedResult,
    settings: Settings,
    changed: Iterable[str],
    incomplete: str = '',
    bfloat16: bool = False,
) -> list[str]:
    """Return the reasons why a number with these settings does not reproduce a row.

    The list is empty if no difference is known.

    Args:
        changed: names of settings that differ from the protocol.
        incomplete: how the pictures differ from those of the row; empty if they do not.
        bfloat16: True if the image tower computed in bfloat16. That is three bits less exact than
            float16, which most published numbers used. float32 is more exact: no difference.
    """
    found = []
    if file_of(settings.weights, settings.model):
        found.append(f"weights are those in {settings.weights}, the published number used OpenAI's")
    elif settings.weights != WEIGHTS:
        found.append(f'weights are {settings.weights}, not those of OpenAI')
    if settings.model.removesuffix('-quickgelu') == settings.model:
        found.append(f'{settings.model} uses GELU, the published model used QuickGELU')
    if not row.protocol:
        found.append('the published number has another protocol, or its protocol is not stated')
    elif settings.protocol != row.protocol:
        found.append(f'the protocol is {settings.protocol}, not {row.protocol}')
    for name, value in row.conditions.items():
        if getattr(settings, name) != value:
            found.append(f'{name} is {getattr(settings, name)}, not {value}')
    if row.unknown:
        found.append(row.unknown)
    if bfloat16:
        found.append('the arithmetic is bfloat16, the published number used float16 or float32')
    # `sliding` prescribes no precision. Only bfloat16 counts as a difference, see above.
    free = {'precision'} if row.protocol == 'sliding' else set()
    others = [name for name in changed if name not in {*row.conditions, *free}]
    if others:
        found.append(f'changed: {", ".join(others)}')
    if incomplete:
        found.append(incomplete)
    return found
