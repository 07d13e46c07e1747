"""Settings of the published numbers, for each method, data set and protocol.

`sliding` is the protocol of SCLIP (arXiv 2312.01597) and of most later methods. `cliptrase` is the
protocol of CLIPtrase's official code. If a paper's tables and the settings in its code differ, the
settings of the tables are used. If nothing was published for a set, a method has its common
settings.
"""

from __future__ import annotations

from typing import Any

from ..settings import Settings

PROTOCOLS = ('sliding', 'cliptrase', 'native')

_WITH_BACKGROUND = ('voc21', 'pc60', 'coco_object')

_SLIDING = {
    'protocol': 'sliding',
    'input_size': 336,
    'sliding.window_px': 224,
    'sliding.stride_px': 112,
    'logit_scale': 40.0,
    'regions': 'none',
    'prompt_templates': 'imagenet80',
}
_CLIPTRASE = {
    'protocol': 'cliptrase',
    'input_size': 224,
    'sliding.window_px': 'none',
    'precision': 'fp32',
    'logit_scale': 'auto',
    'regions': 'none',
    'prompt_templates': 'imagenet80',
}
# Softmax scale for VOC21, PC60 and COCO-Object, if it differs from the other sets.
_SCALES = {'sclip': (65.0, 50.0, 50.0), 'clearclip': (50.0,) * 3, 'sc_clip': (50.0, 40.0, 55.0)}
# For the same three sets: a pixel is background below this probability.
_THRESHOLDS = {'clearclip': (0.5, 0.15, 0.4), 'sc_clip': (0.15, 0.15, 0.35)}
_USUAL_THRESHOLDS = (0.1, 0.1, 0.1)

# ResCLIP's official code: lambda of the middle blocks, tau and lambda of the feedback, and its
# threshold. tau of the middle blocks is always 2.
_RESCLIP = {
    'voc21': (0.3, 2.2, 0.7, 0.50),
    'pc60': (0.3, 1.8, 0.7, 0.30),
    'coco_object': (0.4, 1.8, 0.7, 0.11),
    'voc20': (0.6, 2.1, 0.6, 0.10),
    'pc59': (0.4, 1.8, 0.7, 0.25),
    'cityscapes': (0.2, 2.1, 0.6, 0.10),
    'ade150': (0.3, 2.1, 0.7, 0.25),
    'coco_stuff': (0.4, 1.8, 0.7, 0.11),
}


def settings_of(protocol: str, method: str, dataset: str) -> dict[str, Any]:
    """Return the settings that the protocol prescribes.

    `native` prescribes only itself: it measures what the node does with the given settings.
    """
    if protocol == 'native':
        return {'protocol': 'native'}
    if protocol == 'cliptrase':
        return _of_cliptrase(method, dataset)
    return _of_sliding(method, dataset)


def _of_cliptrase(method: str, dataset: str) -> dict[str, Any]:
    """Return the settings for CLIPtrase's protocol.

    Only the method cliptrase itself has voting clusters and, on VOC20, weights by [CLS]. Other
    methods have only their attention.
    """
    chosen = dict(_CLIPTRASE)
    if method == 'cliptrase':
        chosen |= {'regions': 'vote', 'cls_weighting': dataset == 'voc20'}
    return chosen | _of_method(method, dataset)


def _of_sliding(method: str, dataset: str) -> dict[str, Any]:
    chosen = {**_SLIDING, **_of_method(method, dataset)}
    if method == 'clearclip':
        chosen['logit_scale'] = 50.0
    if dataset == 'cityscapes':
        chosen['input_size'] = 560
    if method == 'sclip' and dataset == 'coco_stuff':
        chosen['input_size'] = 448
    if method == 'cliptrase':
        chosen['regions'] = 'vote'
    if method in ('naclip', 'resclip') and dataset in ('voc20', 'voc21'):
        chosen['sliding.window_px'] = 'none'
    if method == 'naclip':
        chosen['refine'] = 'pamr'
    if dataset in _WITH_BACKGROUND:
        place = _WITH_BACKGROUND.index(dataset)
        chosen['confidence_threshold'] = _THRESHOLDS.get(method, _USUAL_THRESHOLDS)[place]
        if method in _SCALES:
            chosen['logit_scale'] = _SCALES[method][place]
    if dataset == 'voc21' and method in ('sclip', 'sc_clip'):
        chosen['area_threshold'] = 0.1
    return chosen


def _of_method(method: str, dataset: str) -> dict[str, Any]:
    if method != 'resclip':
        return {}
    share, tau, feedback, threshold = _RESCLIP.get(dataset, _RESCLIP['coco_stuff'])
    return {
        'resclip.feedback.enabled': True,
        'resclip.lambda': share,
        'resclip.tau': 2.0,
        'resclip.feedback.tau': tau,
        'resclip.feedback.lambda': feedback,
        'resclip.feedback.threshold': threshold,
    }


# Not part of a protocol: the model, the device, and settings that only affect the time.
FREE = ('model', 'weights', 'weights_sha256', 'device', 'compile', 'cache_dir')


def overridden(prescribed: dict[str, Any], settings: Settings) -> dict[str, list[Any]]:
    """Return {name: [expected, used]} of the settings that differ from the expected value.

    The expected value is the prescribed one. If nothing is prescribed, it is the default.
    """
    expected, used = Settings.from_mapping(prescribed).flat(), settings.flat()
    return {
        name: [expected[name], used[name]]
        for name in used
        if name not in FREE and used[name] != expected[name]
    }


def remarks(protocol: str, method: str, dataset: str, refined: bool) -> list[str]:
    """Return sentences about how the published numbers were made: known differences and gaps.

    Args:
        refined: True if `refine` is pamr.
    """
    said = []
    if protocol == 'sliding':
        if method in ('clip', 'maskclip'):
            said.append(
                'these published numbers are of a re-implementation with unpublished settings'
            )
        if method == 'cliptrase':
            said.append(
                'CLIPtrase has no published numbers in this protocol; its regions vote here as in '
                'its own protocol, with clusters of the whole picture'
            )
        if method == 'naclip' and refined:
            said.append(
                'PAMR runs at the working size; the official code runs it at the image size'
            )
        if dataset == 'coco_object':
            said.append(
                "'bed' is only a class here; in SCLIP's list it is also a background word, and "
                'background wins every tie'
            )
    elif protocol == 'cliptrase' and method != 'cliptrase':
        said.append('nobody published numbers of this method in this protocol')
    if method == 'gclip':
        said.append('gclip is reconstructed: there is no official code')
    return said
