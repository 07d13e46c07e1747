"""Prompt ensembles: the sentences that a word is put into before it is encoded.

`imagenet80` and `imagenet7` are the ensembles that OpenAI published with CLIP for ImageNet
(openai/CLIP, Prompt_Engineering_for_ImageNet.ipynb). `vild14` is the list of ViLD (arXiv
2104.13921) in the form that later segmentation work uses, with a fixed article.
"""

from __future__ import annotations

# In the published list most sentences come once with 'a' and once with 'the'.
_A_AND_THE = (
    'bad photo of {} {{}}',
    'sculpture of {} {{}}',
    'photo of {} hard to see {{}}',
    'low resolution photo of {} {{}}',
    'rendering of {} {{}}',
    'cropped photo of {} {{}}',
    'bright photo of {} {{}}',
    'photo of {} clean {{}}',
    'photo of {} dirty {{}}',
    'dark photo of {} {{}}',
    'drawing of {} {{}}',
    'photo of {} cool {{}}',
    'close-up photo of {} {{}}',
    'black and white photo of {} {{}}',
    'painting of {} {{}}',
    'pixelated photo of {} {{}}',
    'jpeg corrupted photo of {} {{}}',
    'blurry photo of {} {{}}',
    'photo of {} {{}}',
    'good photo of {} {{}}',
    'doodle of {} {{}}',
    'sketch of {} {{}}',
    'rendition of {} {{}}',
    'photo of {} large {{}}',
    'photo of {} nice {{}}',
    'photo of {} weird {{}}',
    'photo of {} small {{}}',
    'tattoo of {} {{}}',
)
_BARE_A_AND_THE = (
    'graffiti of {} {{}}',
    'art of {} {{}}',
    'itap of {} {{}}',
    '{} embroidered {{}}',
    '{} plastic {{}}',
    '{} {{}} in a video game',
    '{} origami {{}}',
    '{} toy {{}}',
    '{} cartoon {{}}',
    '{} plushie {{}}',
)
_SINGLE = ('a photo of many {}.', 'a photo of my {}.', 'a photo of one {}.', 'itap of my {}.')

_VILD_SIZES = ('small', 'medium', 'large')

TEMPLATES: dict[str, tuple[str, ...]] = {
    'imagenet80': (
        *(f'a {s.format(article)}.' for s in _A_AND_THE for article in ('a', 'the')),
        *(f'{s.format(article)}.' for s in _BARE_A_AND_THE for article in ('a', 'the')),
        *_SINGLE,
    ),
    'vild14': (
        'a photo of a {}.',
        'This is a photo of a {}',
        'There is a {} in the scene',
        'There is the {} in the scene',
        'a photo of a {} in the scene',
        *(f'a photo of a {size} {{}}.' for size in _VILD_SIZES),
        *(f'This is a photo of a {size} {{}}.' for size in _VILD_SIZES),
        *(f'There is a {size} {{}} in the scene.' for size in _VILD_SIZES),
    ),
    'imagenet7': (
        'itap of a {}.',
        'a bad photo of the {}.',
        'a origami {}.',
        'a photo of the large {}.',
        'a {} in a video game.',
        'art of the {}.',
        'a photo of the small {}.',
    ),
    'photo': ('a photo of a {}.',),
    'none': ('{}',),
}
