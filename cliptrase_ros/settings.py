"""Every setting of the engine, declared once.

The ROS parameters, the flags of the command line, ``config/segmentation.yaml`` and
``doc/parameters.md`` are derived from this declaration or held equal to it by a test.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SettingError, did_you_mean

METHOD_NAMES = (
    'cliptrase',
    'gclip',
    'sc_clip',
    'resclip',
    'naclip',
    'clearclip',
    'sclip',
    'maskclip',
    'clip',
)

# Sides of 1 .. 9999 px.
_SIZE = re.compile('([1-9][0-9]{0,3})x([1-9][0-9]{0,3})')


def option(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    live: bool = False,
) -> Any:
    """A dataclass field with its documentation; `live` ones may change while the node runs."""
    metadata = {'doc': doc, 'choices': choices, 'low': low, 'high': high, 'live': live}
    return dataclasses.field(default=default, metadata=metadata)


def check_options(options: Any) -> None:
    """Raise SettingError unless each field of the dataclass has its type, range and choices.

    An int given for a float becomes a float.
    """
    for field in dataclasses.fields(options):
        value: Any = getattr(options, field.name)
        kind, meta = type(field.default), field.metadata
        if kind is float and type(value) is int:
            value = float(value)
            object.__setattr__(options, field.name, value)
        if kind is tuple and type(value) is list:
            value = tuple(value)
            object.__setattr__(options, field.name, value)
        if (found := type(value)) is not kind:
            told = f'expected {kind.__name__}, got {found.__name__}'
            raise SettingError(f'{field.name}: {told} {value!r}')
        if meta['choices'] and value not in meta['choices']:
            raise SettingError(
                f'{field.name}: {value!r} is not one of {", ".join(meta["choices"])}.'
                + did_you_mean(str(value), meta['choices'])
            )
        low, high = meta['low'], meta['high']
        if kind in (int, float):
            if not math.isfinite(value):
                raise SettingError(f'{field.name}: expected a finite number, got {value!r}')
            if (low is not None and value < low) or (high is not None and value > high):
                raise SettingError(f'{field.name}: {value!r} is outside {low} .. {high}')


@dataclass(frozen=True)
class Settings:
    """What the engine runs and how; immutable, so any thread may hold it.

    Raises:
        SettingError: a value has the wrong type, is out of range, or does not fit the others.
    """

    model: str = option(
        'ViT-B-16-quickgelu',
        'Name of an open_clip model with a native VisionTransformer as image tower.',
    )
    weights: str = option(
        'openai',
        "open_clip weights tag, path of a local .safetensors or checkpoint file, 'demo' (those of "
        "the model cliptrase-demo, which knows the demo world only), or 'random' (seeded noise for "
        'trials: the labels then mean nothing).',
    )
    weights_sha256: str = option(
        '', 'Expected SHA-256 of the local weights file, in hexadecimal; empty: not checked.'
    )
    device: str = option(
        'auto', "torch device such as 'cpu', 'cuda' or 'cuda:1'; auto: CUDA where there is one."
    )
    precision: str = option(
        'auto',
        "Arithmetic of the image tower's products; auto: fp16 on CUDA, bf16 on CPUs with "
        'instructions for it (AVX512-BF16 or AMX), else fp32. Norms, sums, softmax, correlation, '
        'clustering, cosines with words and probabilities are computed in fp32 or better in any '
        'case.',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
    )
    compile: bool = option(
        False,
        'Have torch.compile rewrite the image tower, for each size of its input, where that proves '
        'to be faster: the first image of a size then waits a minute or so (one of 4:3 is tried at '
        'start). Needs a C++ compiler on a CPU.',
    )
    method: str = option(
        'cliptrase',
        'How the last block attends; doc/methods.md has a screen on each. gclip is reconstructed; '
        'clip is the unchanged tower.',
        choices=METHOD_NAMES,
    )
    method_form: str = option(
        'code',
        "code: as the authors' code computes it; paper: as the paper writes it, where cliptrase "
        'and sc_clip differ. Other methods: no difference, or one of numbers.',
        choices=('code', 'paper'),
    )
    naclip_sigma: float = option(
        5.0,
        'How far, in patches, a patch prefers its neighbours in naclip and resclip (official: 5); '
        '0: no preference, plain k-k attention.',
        low=0.0,
        high=1000.0,
    )
    gclip_block: int = option(
        0,
        'gclip: number, from 1, of the first of the two blocks whose attention is fused; 0: where '
        'global tokens emerge.',
        low=0,
        high=200,
    )
    gclip_suppression: bool = option(
        True, 'gclip: re-normalise the feed-forward channel that makes values alike.'
    )
    resclip_lambda: float = option(
        0.4,
        "resclip: share of the middle blocks' attention in the last one's (official code 0.2 to "
        '0.6 by data set, 0.4 for COCO-Stuff; paper 0.5).',
        low=0.0,
        high=1.0,
    )
    resclip_tau: float = option(
        2.0,
        'resclip: sum of each row of attention weights (official code 2; paper 1).',
        low=0.0,
        high=10.0,
    )
    resclip_feedback: bool = option(
        False,
        'resclip: run the last block once more for the words, with the labels of a first pass in '
        'its attention (SFR). Published results have it; it costs PAMR over all words.',
    )
    resclip_feedback_lambda: float = option(
        0.7,
        'resclip: share of the labels in that attention (official code 0.6 or 0.7 by data set; '
        'paper 0.7).',
        low=0.0,
        high=1.0,
    )
    resclip_feedback_tau: float = option(
        1.8,
        'resclip: factor of that attention before its softmax (official code 1.8 to 2.2 by data '
        'set, 1.8 for COCO-Stuff; paper 1).',
        low=0.0,
        high=10.0,
    )
    resclip_feedback_threshold: float = option(
        0.11,
        'resclip: pixels of the first pass less probable than this count as background (official '
        'code 0.1 to 0.5 by data set, 0.11 for COCO-Stuff).',
        low=0.0,
        high=1.0,
    )
    regions: str = option(
        'vote',
        'What happens inside each cluster of patches: vote gives it its most frequent label '
        '(the paper), mean averages the scores first, none keeps each pixel on its own.',
        choices=('vote', 'mean', 'none'),
    )
    protocol: str = option(
        'native',
        'native: the whole image at its own aspect, labels at the size of the image. cliptrase: '
        "the paper's evaluation, short side resized with PIL bicubic, then the centre crop; "
        'labels for the crop only. sliding: what SCLIP and most after it evaluate with, resized '
        'bilinearly and without antialiasing, long side at most 2048 px, mostly with windows of '
        '224 and a stride of 112 px; labels at the size of the image.',
        choices=('native', 'cliptrase', 'sliding'),
    )
    output_size: str = option(
        'input',
        'Size of the labels: input, that of the image; depth, that of the depth image (in the '
        'node; elsewhere as input); or WIDTHxHEIGHT in pixels, such as 320x240. Scores are '
        'enlarged to it, so that no label is ever resized.',
    )
    input_size: int = option(
        336, 'Short side of the image that the tower sees, in pixels.', low=32, high=2048
    )
    window_px: int = option(
        0,
        'Side of the sliding windows in pixels, a multiple of the patch size; 0: one pass over '
        'the whole image.',
        low=0,
        high=2048,
    )
    window_stride_px: int = option(
        112,
        'Step between sliding windows in pixels; the last window is shifted inside.',
        low=1,
        high=2048,
    )
    position_offset: float = option(
        0.1,
        'Added to the grid size in the scale of the bicubic interpolation of position '
        "embeddings; 0.1 is a rounding guard of DINO's code that the published numbers carry, "
        '0 resizes to the exact grid.',
        low=0.0,
        high=0.5,
    )
    logit_scale: float = option(
        0.0,
        'Inverse temperature of the softmax over words that makes the confidence; 0: the '
        "model's own (100 for CLIP). Papers of this family use 40 to 100.",
        low=0.0,
        high=1000.0,
    )
    confidence_threshold: float = option(
        0.0, 'Pixels less confident than this become unlabelled.', low=0.0, high=1.0, live=True
    )
    present_only: str = option(
        'off',
        'Label with those words only that are judged to be in the picture. denoise: those that '
        'are probable somewhere (MaskCLIP, arXiv 2112.01071; cheap). tagclip: those that patches '
        'and the patches they attend to agree on (TagCLIP, arXiv 2312.12828; reads the attention '
        'of all blocks).',
        choices=('off', 'denoise', 'tagclip'),
    )
    present_threshold: float = option(
        0.0,
        'Score from which a word is in the picture. denoise: its largest probability anywhere; '
        "tagclip: its score as a share of the best word's. 0: as published, 0.5 for denoise, 0.1 "
        'for tagclip (for words that include floors and walls; 0.5 for things alone).',
        low=0.0,
        high=1.0,
        live=True,
    )
    cls_weighting: bool = option(
        False,
        "Multiply each word's patch score by the image's own ([CLS]) score of that word: the "
        "paper's rule for VOC20.",
    )
    denoise_weight: float = option(
        1.0,
        'How much of the [CLS]-to-patch correlation is taken off every row of the patch '
        'correlation before clustering (the official code subtracts it once).',
        low=0.0,
        high=10.0,
    )
    cluster_eps: float = option(
        0.0,
        'DBSCAN radius on the rows of the patch correlation; 0: by grid (0.7 at 14 x 14, 1.1 at '
        '21 x 21 as published, 0.05 sqrt(N) elsewhere).',
        low=0.0,
        high=100.0,
    )
    cluster_min_samples: int = option(
        0,
        'Neighbours, itself included, that make a patch a core point; 0: by grid (3 at 14 x 14, '
        '7 at 21 x 21 as published, max(3, 0.0155 N) elsewhere).',
        low=0,
        high=10000,
    )
    region_upsampling: int = option(
        4,
        'Region maps are smoothed on the patch grid enlarged by this factor (official: 4).',
        low=1,
        high=8,
    )
    region_median: int = option(
        7,
        'Side of the median filter on the enlarged region maps, in its pixels, odd; 1: none '
        '(official: 2 x 4 - 1 = 7).',
        low=1,
        high=15,
    )
    refine: str = option(
        'none',
        'How the edges of labels find those of the image: none, scores are enlarged bilinearly; '
        'guided, by a fast guided filter (arXiv 1505.00996); pamr, by averaging along similar '
        'colours at the working size (arXiv 2005.08104). Where there are regions, their maps are '
        'refined, else the scores of words.',
        choices=('none', 'guided', 'pamr'),
    )
    refine_words: int = option(
        12,
        'At most so many prompts (or regions) are refined, those that win most of the image; the '
        'others keep their plain scores. Bounds the cost.',
        low=1,
        high=10000,
    )
    margin_threshold: float = option(
        0.0,
        'Pixels whose label leads the best other class, background being one, by less than this '
        'cosine become unlabelled; where there are regions, the mean scores of the region count.',
        low=0.0,
        high=2.0,
        live=True,
    )
    area_threshold: float = option(
        0.0,
        'Words that cover no more than this share of all that is labelled lose it to the next '
        'best, which may again be any other (SCLIP for VOC21: 0.1). Not with regions: mean.',
        low=0.0,
        high=1.0,
        live=True,
    )
    prompt_templates: str = option(
        'imagenet80',
        'Sentences that a word is put into before it is encoded; the mean of their embeddings '
        'counts.',
        choices=('imagenet80', 'vild14', 'imagenet7', 'photo', 'none'),
        live=True,
    )
    distractors: str = option(
        'none',
        'A list of words that are added to the background words, but for those that are in the '
        'vocabulary: stuff are the 26 of SCLIP for VOC21, common about a hundred ordinary things. '
        'The first time each takes as long to encode as a word of your own.',
        choices=('none', 'stuff', 'common'),
        live=True,
    )
    cache_dir: str = option(
        '', 'Folder of the word-embedding cache; empty: cliptrase_ros in the user cache folder.'
    )

    def __post_init__(self):
        check_options(self)
        if self.region_median % 2 == 0:
            raise SettingError(f'region_median: expected an odd number, got {self.region_median}')
        if self.output_size not in ('input', 'depth') and not _SIZE.fullmatch(self.output_size):
            raise SettingError(
                f"output_size: {self.output_size!r} is neither 'input' nor 'depth' nor "
                'WIDTHxHEIGHT in pixels, such as 320x240'
            )
        if self.output_size != 'input' and self.protocol == 'cliptrase':
            raise SettingError(
                "output_size: another size needs protocol 'native' or 'sliding'; the cliptrase "
                'protocol has labels of the size of its crop'
            )
        if self.area_threshold and self.regions == 'mean':
            raise SettingError("area_threshold: needs regions 'none' or 'vote', not 'mean'")
        if self.cls_weighting and self.method == 'sc_clip':
            raise SettingError(
                'cls_weighting: sc_clip makes no [CLS] to weight by; choose another method'
            )
        if self.window_px > self.input_size:
            raise SettingError(
                f'window_px: {self.window_px} is larger than input_size {self.input_size}; '
                'a window must fit into the image'
            )
        if self.window_px and self.window_stride_px > self.window_px:
            raise SettingError(
                f'window_stride_px: {self.window_stride_px} is larger than window_px '
                f'{self.window_px}; parts of the image would be in no window'
            )
        if self.window_px and self.protocol == 'cliptrase':
            raise SettingError(
                "window_px: sliding windows need protocol 'native' or 'sliding'; the cliptrase "
                'protocol is one pass over the crop'
            )

    @property
    def label_size(self) -> tuple[int, int] | None:
        """(H, W) of the labels, or None: that of the image."""
        size = _SIZE.fullmatch(self.output_size)
        return (int(size[2]), int(size[1])) if size else None

    def live(self) -> dict[str, Any]:
        """The settings that may change while a node runs."""
        names = [field.name for field in dataclasses.fields(self) if field.metadata['live']]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from a mapping such as a parsed YAML file.

        Raises:
            SettingError: a key is unknown (the message names the nearest), or a value is bad.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise SettingError(f'unknown setting {name!r}.{did_you_mean(str(name), known)}')
        return cls(**values)

    def replace(self, **changes: Any) -> Settings:
        """A copy with some values changed; same errors as from_mapping."""
        return self.from_mapping({**dataclasses.asdict(self), **changes})
