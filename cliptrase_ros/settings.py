"""Every setting of the engine, declared once."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from .errors import SettingError
from .options import Options, option, options_of

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

Auto = Literal['auto']
# Off, or no limit.
Off = Literal['none']

# What reads a setting: the model when it is loaded, the encoder of images, the encoder of words, or
# what makes labels of both.
MODEL, IMAGE, WORDS, LABELS = 'model', 'image', 'words', 'labels'

# Sides of 1 .. 9999 px.
_SIZE = re.compile('([1-9][0-9]{0,3})x([1-9][0-9]{0,3})')


@dataclass(frozen=True)
class SlidingSettings:
    """Sliding windows: the model sees the image in square pieces that overlap."""

    window_px: int | Off = option(
        'none',
        'Side of the windows in pixels, a multiple of the patch size. none: one pass over the '
        'whole image.',
        kind=int,
        words=('none',),
        low=1,
        high=2048,
        live=True,
        scope=IMAGE,
    )
    stride_px: int | Auto = option(
        'auto',
        'Step between windows in pixels. The last window is shifted inside the image. auto: half '
        'the window, as published (112 for 224).',
        kind=int,
        words=('auto',),
        low=1,
        high=2048,
        live=True,
        scope=IMAGE,
    )

    @property
    def window_and_stride(self) -> tuple[int, int] | None:
        """Side of the windows and step between them in pixels; None: one pass."""
        if self.window_px == 'none':
            return None
        auto = max(1, self.window_px // 2)
        return self.window_px, auto if self.stride_px == 'auto' else self.stride_px


@dataclass(frozen=True)
class ClusterSettings:
    """Clusters of patches that belong together (DBSCAN). Used unless regions is none."""

    eps: float | Auto = option(
        'auto',
        'DBSCAN radius on the rows of the patch correlation. A larger radius gives fewer, larger '
        'clusters. auto: by the patch grid (published: 0.7 at 14 x 14, 1.1 at 21 x 21; elsewhere '
        '0.05 sqrt(N) for N patches).',
        kind=float,
        words=('auto',),
        low=0.0,
        high=100.0,
        live=True,
        scope=IMAGE,
    )
    min_samples: int | Auto = option(
        'auto',
        'Patches within eps, itself included, that make a patch a core point. auto: by the patch '
        'grid (published: 3 at 14 x 14, 7 at 21 x 21; elsewhere max(3, 0.0155 N)).',
        kind=int,
        words=('auto',),
        low=1,
        high=10000,
        live=True,
        scope=IMAGE,
    )


@dataclass(frozen=True)
class RegionSettings:
    """From clusters of patches to regions of pixels. Used unless regions is none."""

    median: int = option(
        7,
        'Side of the median filter on region maps, odd, in quarters of a patch. 1: no smoothing. '
        'Official: 7.',
        low=1,
        high=15,
        live=True,
        scope=IMAGE,
    )


@dataclass(frozen=True)
class PresentSettings:
    """Which words are in the picture at all. Words that are not cannot label a pixel."""

    method: str = option(
        'none',
        'none: all words may label pixels. denoise: only words that are probable somewhere '
        '(MaskCLIP, arXiv 2112.01071; cheap). tagclip: only words on which patches that attend to '
        'each other agree (TagCLIP, arXiv 2312.12828; reads the attention of all blocks).',
        choices=('none', 'denoise', 'tagclip'),
        live=True,
        scope=IMAGE,
    )
    threshold: float | Auto = option(
        'auto',
        'Lowest score of a word that counts as in the picture. denoise: its largest probability '
        "anywhere. tagclip: its score as a share of the best word's. auto: as published, 0.5 for "
        'denoise, 0.1 for tagclip (for words that include floors and walls; use 0.5 for things '
        'only).',
        kind=float,
        words=('auto',),
        low=0.0,
        high=1.0,
        live=True,
        scope=LABELS,
    )
    patience: int = option(
        5,
        'In a stream of images, a word leaves after this many images in a row in which its score '
        'is below half of the threshold. 0: each image is judged alone.',
        low=0,
        high=1000,
        live=True,
        scope=LABELS,
    )


@dataclass(frozen=True)
class NaclipSettings:
    """Only affects the methods naclip and resclip."""

    sigma: float | Off = option(
        5.0,
        'Width of the preference for near patches, in patches (official: 5). none: no preference, '
        'plain k-k attention.',
        words=('none',),
        low=0.01,
        high=1000.0,
        live=True,
        scope=IMAGE,
    )


@dataclass(frozen=True)
class GclipSettings:
    """Only affects the method gclip."""

    block: int | Auto = option(
        'auto',
        'Number, from 1, of the first of the two blocks whose attention is fused. auto: where '
        'global tokens emerge.',
        kind=int,
        words=('auto',),
        low=1,
        high=200,
        live=True,
        scope=IMAGE,
    )
    suppression: bool = option(
        True,
        'Scale down the feed-forward channel that makes values alike.',
        live=True,
        scope=IMAGE,
    )


@dataclass(frozen=True)
class FeedbackSettings:
    """Second pass of resclip: the labels of the first pass guide the attention (SFR)."""

    enabled: bool = option(
        False,
        'Run the last block again with the labels of the first pass. Published results use it. It '
        'costs one PAMR over all words for each image.',
        live=True,
        scope=IMAGE,
    )
    lambda_: float = option(
        0.7,
        'Share of the label map in the attention of the second pass (official code: 0.6 or 0.7 by '
        'data set; paper: 0.7).',
        low=0.0,
        high=1.0,
        live=True,
        scope=IMAGE,
    )
    tau: float = option(
        1.8,
        'Factor of that attention before its softmax (official code: 1.8 to 2.2 by data set, 1.8 '
        'for COCO-Stuff; paper: 1).',
        low=0.0,
        high=10.0,
        live=True,
        scope=IMAGE,
    )
    threshold: float = option(
        0.11,
        'Pixels of the first pass that are less probable than this count as background (official '
        'code: 0.1 to 0.5 by data set, 0.11 for COCO-Stuff).',
        low=0.0,
        high=1.0,
        live=True,
        scope=IMAGE,
    )


@dataclass(frozen=True)
class ResclipSettings:
    """Only affects the method resclip."""

    lambda_: float = option(
        0.4,
        "Share of the middle blocks' attention in that of the last block (official code: 0.2 to "
        '0.6 by data set, 0.4 for COCO-Stuff; paper: 0.5).',
        low=0.0,
        high=1.0,
        live=True,
        scope=IMAGE,
    )
    tau: float = option(
        2.0,
        'Sum of each row of attention weights (official code: 2; paper: 1).',
        low=0.0,
        high=10.0,
        live=True,
        scope=IMAGE,
    )
    feedback: FeedbackSettings = FeedbackSettings()


@dataclass(frozen=True)
class Settings(Options):
    """What the engine runs and how; immutable, so any thread may hold it.

    `auto` stands for a value that is chosen automatically, `none` for off or for no limit. In
    Python None may be given for `none`.

    Raises:
        SettingError: a name is unknown, or a value has the wrong type, is out of range, or does not
            fit the others.
    """

    model: str = option(
        'ViT-B-16-quickgelu',
        'Name of an open_clip model with a native VisionTransformer as image tower; '
        'hf-hub:OWNER/NAME or local-dir:FOLDER for an open_clip model with its own weights.',
        scope=MODEL,
    )
    weights: str = option(
        'openai',
        'open_clip weights tag, or path of a local file or folder (of open_clip, OpenAI, '
        'transformers or a training program). demo: those of the model cliptrase-demo, which '
        'knows only the demo world. random: seeded noise, for trials; the labels mean nothing.',
        scope=MODEL,
    )
    weights_sha256: str = option(
        'none',
        'Expected SHA-256 of the local weights file, in hexadecimal (of a folder: of its weights '
        'file). none: not checked.',
        words=('none',),
        scope=MODEL,
    )
    device: str = option(
        'auto',
        'torch device, such as cpu, cuda or cuda:1. auto: CUDA if there is one.',
        words=('auto',),
        scope=MODEL,
    )
    precision: str = option(
        'auto',
        'Arithmetic of the matrix products in the image tower. auto: fp16 on CUDA; bf16 on CPUs '
        'with instructions for it (AVX512-BF16 or AMX); otherwise fp32. All other steps are '
        'computed in fp32 or better.',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
        scope=IMAGE,
    )
    compile: bool = option(
        False,
        'Use torch.compile for the image tower if it proves to be faster. The first image of each '
        'size then waits about a minute (the size of 4:3 images is prepared at start). A CPU needs '
        'a C++ compiler.',
        scope=IMAGE,
    )
    method: str = option(
        'cliptrase',
        'How the last block attends. doc/methods.md explains each. gclip is reconstructed; clip is '
        'the unchanged tower.',
        choices=METHOD_NAMES,
        live=True,
        scope=IMAGE,
    )
    method_form: str = option(
        'code',
        "code: as the authors' code computes it. paper: as the paper writes it. Only affects "
        'cliptrase and sc_clip.',
        choices=('code', 'paper'),
        live=True,
        scope=IMAGE,
    )
    regions: str = option(
        'vote',
        'What happens inside each cluster of patches. vote: the cluster gets its most frequent '
        'label (the paper). mean: the scores are averaged first. none: no clusters, each pixel '
        'stands alone.',
        choices=('vote', 'mean', 'none'),
        live=True,
        scope=IMAGE,
    )
    refine: str = option(
        'none',
        'How the edges of labels follow those of the image. none: scores are enlarged bilinearly. '
        'guided: fast guided filter (arXiv 1505.00996). pamr: averages along similar colours at '
        'the working size (arXiv 2005.08104). With regions, the region maps are refined; without, '
        'the scores of words.',
        choices=('none', 'guided', 'pamr'),
        live=True,
        scope=IMAGE,
    )
    refine_words: int = option(
        12,
        'Refine at most this many prompts (or regions): those that win most of the image. The '
        'others keep their plain scores. This limits the cost.',
        low=1,
        high=10000,
        live=True,
        scope=IMAGE,
    )
    protocol: str = option(
        'native',
        'native: the whole image with its own aspect; labels have its size (or output_size). '
        "cliptrase: the paper's evaluation, the short side resized with PIL bicubic, then the "
        'centre crop; labels for the crop only. sliding: the evaluation of SCLIP and most later '
        'papers, resized bilinearly without antialiasing, long side at most 2048 px; usually '
        'with windows of 224 px and a stride of 112 px.',
        choices=('native', 'cliptrase', 'sliding'),
        live=True,
        scope=IMAGE,
    )
    input_size: int = option(
        336,
        'Short side of the image that the tower sees, in pixels. Larger finds smaller things and '
        'is slower.',
        low=32,
        high=2048,
        live=True,
        scope=IMAGE,
    )
    output_size: str = option(
        'input',
        'Size of the labels. input: that of the image. depth: that of the depth image (node only; '
        'elsewhere as input). WIDTHxHEIGHT: in pixels, such as 320x240. Scores are enlarged to '
        'it, so labels are never resized.',
        words=('input', 'depth'),
        scope=IMAGE,
    )
    position_offset: float = option(
        0.1,
        'Added to the grid size in the scale of the bicubic interpolation of position embeddings. '
        "0.1 is a rounding guard of DINO's code that the published numbers include; 0 resizes to "
        'the exact grid.',
        low=0.0,
        high=0.5,
        scope=IMAGE,
    )
    confidence_threshold: float = option(
        0.0,
        'Pixels with a lower confidence become unlabelled.',
        low=0.0,
        high=1.0,
        live=True,
        scope=LABELS,
    )
    margin_threshold: float = option(
        0.0,
        'Pixels become unlabelled if their label leads the second best class (or background) by '
        'less than this cosine. With regions, the mean scores of the region count.',
        low=0.0,
        high=2.0,
        live=True,
        scope=LABELS,
    )
    area_threshold: float = option(
        0.0,
        'Words that cover no more than this share of all labelled pixels lose them to the second '
        'best word (SCLIP for VOC21: 0.1). Not possible with regions mean.',
        low=0.0,
        high=1.0,
        live=True,
        scope=LABELS,
    )
    cls_weighting: bool = option(
        False,
        "Multiply each word's patch scores by the image's own ([CLS]) score of that word: the "
        "paper's rule for VOC20.",
        live=True,
        scope=LABELS,
    )
    logit_scale: float | Auto = option(
        'auto',
        'Inverse temperature of the softmax over words that gives the confidence. Papers of this '
        "family use 40 to 100. auto: the model's own (100 for CLIP).",
        kind=float,
        words=('auto',),
        low=0.01,
        high=1000.0,
        live=True,
        scope=LABELS,
    )
    prompt_templates: str = option(
        'imagenet80',
        'Sentences that a word is put into before it is encoded. The mean of their embeddings is '
        'used.',
        choices=('imagenet80', 'vild14', 'imagenet7', 'photo', 'none'),
        live=True,
        scope=WORDS,
    )
    distractors: str = option(
        'none',
        'A ready list of background words, without those in the vocabulary. stuff: the 26 of SCLIP '
        'for VOC21. common: about a hundred ordinary things. The first use encodes each word, '
        'which takes time.',
        choices=('none', 'stuff', 'common'),
        live=True,
        scope=WORDS,
    )
    cache_dir: str = option(
        'auto',
        'Folder of the cache of word embeddings. auto: cliptrase_ros in the user cache folder.',
        words=('auto',),
        scope=WORDS,
    )
    sliding: SlidingSettings = SlidingSettings()
    cluster: ClusterSettings = ClusterSettings()
    region: RegionSettings = RegionSettings()
    present: PresentSettings = PresentSettings()
    naclip: NaclipSettings = NaclipSettings()
    gclip: GclipSettings = GclipSettings()
    resclip: ResclipSettings = ResclipSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.region.median % 2 == 0:
            raise SettingError(f'region.median: expected an odd number, got {self.region.median}')
        if self.output_size not in ('input', 'depth') and not _SIZE.fullmatch(self.output_size):
            raise SettingError(
                f'output_size: expected input, depth, or WIDTHxHEIGHT in pixels such as 320x240, '
                f'got {self.output_size!r}'
            )
        if self.output_size != 'input' and self.protocol == 'cliptrase':
            raise SettingError(
                'output_size: must be input with protocol cliptrase, whose labels have the size of '
                'its crop. Use protocol native or sliding'
            )
        if self.area_threshold and self.regions == 'mean':
            raise SettingError('area_threshold: needs regions none or vote, not mean')
        if self.cls_weighting and self.method == 'sc_clip':
            raise SettingError(
                'cls_weighting: method sc_clip has no [CLS] to weight by. Choose another method'
            )
        if self.sliding.window_and_stride is None:
            return
        window, stride = self.sliding.window_and_stride
        if window > self.input_size:
            raise SettingError(
                f'sliding.window_px: {window} is larger than input_size {self.input_size}. A '
                'window must fit into the image'
            )
        if stride > window:
            raise SettingError(
                f'sliding.stride_px: {stride} is larger than sliding.window_px {window}. Parts of '
                'the image would be in no window'
            )
        if self.protocol == 'cliptrase':
            raise SettingError(
                'sliding.window_px: must be none with protocol cliptrase, which is one pass over '
                'the crop. Use protocol native or sliding'
            )

    @property
    def label_size(self) -> tuple[int, int] | None:
        """(H, W) of the labels, or None: that of the image."""
        size = _SIZE.fullmatch(self.output_size)
        return (int(size[2]), int(size[1])) if size else None

    def of_scope(self, *scopes: str) -> dict[str, Any]:
        """Return the settings that MODEL, IMAGE, WORDS or LABELS read, by full name."""
        names = scope_names(*scopes)
        return {name: value for name, value in self.flat().items() if name in names}


def scope_names(*scopes: str) -> Collection[str]:
    """Return the full names of the settings that MODEL, IMAGE, WORDS or LABELS read."""
    return [one.name for one in options_of(Settings) if one.scope in scopes]
