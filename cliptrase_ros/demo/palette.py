"""Colours of the demo's words in pictures.

They were chosen by hand and by search: in CIELAB any two are at least 25 apart.
"""

_HEX = {
    'floor': '9a6324',
    'wall': 'dcbeff',
    'sky': '42d4f4',
    'table': 'f58231',
    'duck': 'ffe119',
    'teddy bear': '700010',
    'soccer ball': '101060',
    'mug': 'e6194b',
    'block': '911eb4',
    'tray': '469990',
    'r2d2': '4363d8',
    'race car': 'f032e6',
    'wheeled robot': '3cb44b',
    'robot dog': 'bfef45',
    'robot arm': '808000',
    'shelf': 'fabed4',
    'red duck': 'ff2200',
    'green duck': '00ff04',
    'blue duck': '465980',
    'yellow duck': 'ffd080',
    'purple duck': '6600ff',
    'white duck': 'f0ffe0',
    'red mug': 'bf5672',
    'green mug': '99ffbd',
    'blue mug': '2652ff',
    'yellow mug': '5e6638',
    'purple mug': 'eb85f2',
    'white mug': '928181',
    'red block': 'f29179',
    'green block': '05661a',
    'blue block': '66a3ff',
    'yellow block': 'eeff99',
    'purple block': '88468c',
    'white block': 'e0e8ff',
}
# Entries of the node's parameter `colors`.
ENTRIES = tuple(f'{name}=#{value}' for name, value in _HEX.items())
