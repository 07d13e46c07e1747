"""What published numbers were computed with: the settings of each method, data set and protocol.

`sliding` is that of SCLIP (arXiv 2312.01597) and most after it, `cliptrase` that of CLIPtrase's
official code. Where a paper's tables and the settings in its code differ, what the tables were
made with counts. For sets of which nothing was published a method has its common settings.
"""

from __future__ import annotations

from typing import Any

from ..settings import Settings

PROTOCOLS = ('sliding', 'cliptrase', 'native')

_WITH_BACKGROUND = ('voc21', 'pc60', 'coco_object')

_SLIDING = {
    'protocol': 'sliding',
    'input_size': 336,
    'window_px': 224,
    'window_stride_px': 112,
    'logit_scale': 40.0,
    'regions': 'none',
    'prompt_templates': 'imagenet80',
}
_CLIPTRASE = {
    'protocol': 'cliptrase',
    'input_size': 224,
    'window_px': 0,
    'precision': 'fp32',
    'logit_scale': 0.0,
    'regions': 'none',
    'prompt_templates': 'imagenet80',
}
# Softmax scale of VOC21, PC60 and COCO-Object where it is not that of the other sets.
_SCALES = {'sclip': (65.0, 50.0, 50.0), 'clearclip': (50.0,) * 3, 'sc_clip': (50.0, 40.0, 55.0)}
# Least probability of a class there, below which a pixel is background.
_THRESHOLDS = {'clearclip': (0.5, 0.15, 0.4), 'sc_clip': (0.15, 0.15, 0.35)}
_USUAL_THRESHOLDS = (0.1, 0.1, 0.1)

# ResCLIP's official code: lambda of the middle blocks, tau and lambda of the feedback, and its
# threshold. tau of the middle blocks is 2 throughout.
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
    """The settings that the protocol prescribes; none for `native`, which measures what the node
    does with the settings it is given."""
    if protocol == 'native':
        return {'protocol': 'native'}
    if protocol == 'cliptrase':
        return _of_cliptrase(method, dataset)
    return _of_sliding(method, dataset)


def _of_cliptrase(method: str, dataset: str) -> dict[str, Any]:
    """Clusters vote, and VOC20 is weighted by [CLS], for the method that this is the protocol of;
    others have their attention alone."""
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
        chosen['window_px'] = 0
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
        'resclip_feedback': True,
        'resclip_lambda': share,
        'resclip_tau': 2.0,
        'resclip_feedback_tau': tau,
        'resclip_feedback_lambda': feedback,
        'resclip_feedback_threshold': threshold,
    }


# What a machine is asked for, or what decides nothing but the time: not part of a protocol.
FREE = ('model', 'weights', 'weights_sha256', 'device', 'compile', 'cache_dir')


def overridden(prescribed: dict[str, Any], settings: Settings) -> dict[str, list[Any]]:
    """The settings that are not as prescribed, nor, where nothing is, as by default:
    {name: [expected, used]}."""
    expected, used = vars(Settings(**prescribed)), vars(settings)
    return {
        name: [expected[name], used[name]]
        for name in used
        if name not in FREE and used[name] != expected[name]
    }


def remarks(protocol: str, method: str, dataset: str, refined: bool) -> list[str]:
    """What is known to differ from how the numbers of others were made, or is not known.

    Args:
        refined: whether `refine` is pamr.
    """
    said = []
    if protocol == 'sliding':
        if method in ('clip', 'maskclip'):
            said.append('settings of the re-implementation behind these numbers are not published')
        if method == 'cliptrase':
            said.append(
                'CLIPtrase did not publish in this protocol: its regions vote as in its own, and '
                'their clusters are those of the whole picture'
            )
        if method == 'naclip' and refined:
            said.append('PAMR runs at the working size, in the official code at that of the image')
        if dataset == 'coco_object':
            said.append(
                "'bed' is a class only: in SCLIP's list it is a background word as well, which "
                'wins every tie there'
            )
    elif protocol == 'cliptrase' and method != 'cliptrase':
        said.append('nobody published numbers of this method in this protocol')
    if method == 'gclip':
        said.append('gclip is reconstructed: there is no official code')
    return said
