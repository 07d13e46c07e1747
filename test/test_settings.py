import dataclasses
import pickle
import re

import numpy as np
import pytest

import cliptrase_ros as ct
from cliptrase_ros.options import groups_of, options_of
from cliptrase_ros.settings import IMAGE, LABELS, MODEL, WORDS, scope_names

NAMES = [one.name for one in options_of(ct.Settings)]


def test_defaults_hold_and_every_setting_is_described():
    settings = ct.Settings()
    assert settings == ct.Settings.from_mapping({}) == ct.Settings.from_mapping(settings.flat())
    assert list(settings.flat()) == NAMES
    for one in options_of(ct.Settings):
        assert one.doc.endswith(('.', '.)')), one.name
        assert one.checked(one.default) == one.default
        assert one.scope in (MODEL, IMAGE, WORDS, LABELS)
        assert (one.low is None) == (one.kind not in (int, float)), one.name
        for word in one.words:  # it is explained
            assert f'{word}: ' in one.doc, one.name
    assert all(text.endswith(('.', '.)')) for text in groups_of(ct.Settings).values())


@pytest.mark.parametrize(
    'values, reason',
    [
        (
            {'method': 'cliptrace'},
            "'cliptrace' is not one of cliptrase, gclip, .* Did you mean 'clip",
        ),
        ({'input_size': 31}, 'outside 32 .. 2048'),
        ({'input_size': 336.0}, 'expected an integer, got float 336.0'),
        ({'input_size': True}, 'expected an integer, got bool True'),
        ({'confidence_threshold': 1.5}, 'outside 0.0 .. 1.0'),
        ({'confidence_threshold': float('nan')}, 'expected a number, got float nan'),
        ({'confidence_threshold': '0.5'}, "expected a number, got str '0.5'"),
        ({'cls_weighting': 1}, 'expected true or false, got int 1'),
        ({'model': None}, r'model: expected text, got nothing \(null\)'),
        ({'region.median': 4}, 'odd'),
        ({'refine': 'crf'}, "'crf' is not one of none, guided, pamr"),
        ({'refine': False}, 'expected one of none, guided, pamr, got bool False'),
        ({'margin_threshold': -0.01}, 'outside 0.0 .. 2.0'),
        ({'sliding.window_px': 448}, 'larger than input_size'),
        (
            {'sliding': {'window_px': 64, 'stride_px': 65}},
            'sliding.stride_px: 65 is larger than sliding.window_px 64',
        ),
        ({'sliding.window_px': 224, 'protocol': 'cliptrase'}, 'Use protocol native'),
        ({'area_threshold': 0.1, 'regions': 'mean'}, 'needs regions none or vote'),
        ({'output_size': '320 x 240'}, 'WIDTHxHEIGHT'),
        ({'output_size': '0x240'}, 'WIDTHxHEIGHT'),
        ({'output_size': '320x240', 'protocol': 'cliptrase'}, 'Use protocol native'),
        ({'output_size': 'depth', 'protocol': 'cliptrase'}, 'output_size: .* Use protocol native'),
        ({'output_size': 'Depth'}, "expected input, depth, or WIDTHxHEIGHT .* got 'Depth'"),
        ({'output_size': ''}, "WIDTHxHEIGHT .* got ''"),
        # 0 is a number and no word.
        ({'cluster.min_samples': 0}, r'cluster.min_samples: 0 is outside 1 .. 10000, and not auto'),
        ({'sliding.window_px': 0}, 'sliding.window_px: 0 is outside 1 .. 2048, and not none'),
        ({'naclip.sigma': float('inf')}, 'naclip.sigma: expected a number or none, got float inf'),
        ({'cluster': {'eps': None}}, r'cluster.eps: expected a number or auto, got nothing'),
        ({'cluster': {'eps': 'none'}}, "cluster.eps: expected a number or auto, got str 'none'"),
        ({'resclip': {'feedback': {'lambda': 2}}}, 'resclip.feedback.lambda: 2.0 is outside'),
        # Names.
        ({'inputsize': 336}, 'unknown setting inputsize: did you mean input_size'),
        ({'xyz': 1}, 'unknown setting xyz. doc/parameters.md and doc/interface.md list all'),
        ({'cluster': {'esp': 1}}, 'unknown setting cluster.esp: did you mean cluster.eps'),
        ({'resclip': {'lambda_': 1.0}}, 'unknown setting resclip.lambda_: did you mean resclip.l'),
        ({'cluster': 0.7}, 'cluster: is a group, not a value. Set one of cluster.eps, cluster.min'),
        ({'cluster': None}, 'cluster: is a group, not a value'),
        ({'resclip': {'feedback': True}}, 'resclip.feedback: is a group, not a value. Set one of'),
        ({'method': {'name': 'clip'}}, 'method: is a value, not a group'),
        ({'method.name': 'clip'}, 'method.name: method is a value, not a group'),
        ({'cluster.eps': 1, 'cluster': {'eps': 2}}, 'cluster.eps: is given twice'),
    ],
)
def test_bad_values_are_refused_with_the_reason(values, reason):
    with pytest.raises(ct.SettingError, match=reason):
        ct.Settings.from_mapping(values)
    with pytest.raises(ct.SettingError, match=reason):
        ct.Settings().replace(**values)


# The flat names of earlier versions.
RENAMED = {
    'naclip_sigma': 'naclip.sigma',
    'gclip_block': 'gclip.block',
    'gclip_suppression': 'gclip.suppression',
    'resclip_lambda': 'resclip.lambda',
    'resclip_tau': 'resclip.tau',
    'resclip_feedback': 'resclip.feedback.enabled',
    'resclip_feedback_lambda': 'resclip.feedback.lambda',
    'resclip_feedback_tau': 'resclip.feedback.tau',
    'resclip_feedback_threshold': 'resclip.feedback.threshold',
    'window_px': 'sliding.window_px',
    'window_stride_px': 'sliding.stride_px',
    'present_only': 'present.method',
    'present_threshold': 'present.threshold',
    'present_patience': 'present.patience',
    'cluster_eps': 'cluster.eps',
    'cluster_min_samples': 'cluster.min_samples',
    'region_median': 'region.median',
}


@pytest.mark.parametrize('old, new', RENAMED.items())
def test_an_old_name_leads_to_the_new_one(old, new):
    assert new in NAMES and old not in NAMES
    for make in (
        lambda: ct.Settings(**{old: 1}),
        lambda: ct.Settings.from_mapping({old: 1}),
        lambda: ct.Settings().replace(**{old: 1}),
    ):
        expected = rf'^unknown setting {old}: did you mean .*{re.escape(new)}(\?| or )'
        with pytest.raises(ct.SettingError, match=expected):
            make()


@pytest.mark.parametrize('gone', ['denoise_weight', 'region_upsampling'])
def test_what_is_gone_is_refused(gone):
    with pytest.raises(ct.SettingError, match=f'unknown setting {gone}'):
        ct.Settings(**{gone: 1})


def test_a_full_name_as_a_keyword_is_explained():
    with pytest.raises(ct.SettingError, match=re.escape("cluster.eps: write cluster={'eps': ...}")):
        ct.Settings(**{'cluster.eps': 1.0})


def test_groups_may_be_mappings():
    settings = ct.Settings(cluster={'eps': 2}, resclip={'feedback': {'tau': 3, 'lambda': 0.5}})
    assert settings.cluster.eps == 2.0 and settings.cluster.min_samples == 'auto'
    assert settings.resclip.feedback.tau == 3.0 and settings.resclip.feedback.lambda_ == 0.5
    assert settings.resclip.tau == ct.Settings().resclip.tau
    nested = {'cluster': {'eps': 2}, 'resclip': {'feedback.tau': 3, 'feedback': {'lambda': 0.5}}}
    assert settings == ct.Settings.from_mapping(nested)
    assert settings == ct.Settings(cluster=settings.cluster, resclip=settings.resclip)
    assert hash(settings) == hash(ct.Settings.from_mapping(nested))
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_replace_keeps_the_rest_of_a_group():
    settings = ct.Settings(cluster={'eps': 2.0, 'min_samples': 5})
    for changed in (
        settings.replace(cluster={'eps': 3}),
        settings.replace(**{'cluster.eps': 3}),
    ):
        assert changed.cluster.eps == 3.0 and changed.cluster.min_samples == 5
    assert settings.cluster.eps == 2.0


def test_windows_overlap_by_half_unless_told():
    assert ct.Settings().sliding.window_and_stride is None
    for sliding, expected in (
        ({'window_px': 224}, (224, 112)),
        ({'window_px': 1}, (1, 1)),
        ({'window_px': 64, 'stride_px': 48}, (64, 48)),
        ({'stride_px': 48}, None),
    ):
        assert ct.Settings(sliding=sliding).sliding.window_and_stride == expected


def test_none_is_the_word_none():
    settings = ct.Settings(sliding={'window_px': None}, refine=None, naclip={'sigma': None})
    assert settings.sliding.window_px == settings.refine == settings.naclip.sigma == 'none'


@pytest.mark.parametrize(
    'name, value, expected',
    [
        ('confidence_threshold', 1, 1.0),
        ('confidence_threshold', np.float32(0.5), 0.5),
        ('confidence_threshold', np.int64(1), 1.0),
        ('cluster.eps', np.float64(0.7), 0.7),
        ('cluster.eps', 0, 0.0),
        ('input_size', np.int32(224), 224),
        ('input_size', np.uint8(64), 64),
        ('input_size', np.array(64), 64),
        ('compile', np.bool_(True), True),
        ('method', np.str_('clip'), 'clip'),
    ],
)
def test_numbers_of_numpy_are_numbers(name, value, expected):
    got = ct.Settings.from_mapping({name: value}).flat()[name]
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize('value', [np.float64(336.0), np.bool_(True), np.array([336])])
def test_other_values_of_numpy_are_refused(value):
    with pytest.raises(ct.SettingError, match='input_size: expected an integer, got'):
        ct.Settings(input_size=value)


@pytest.mark.parametrize(
    'name, text, value',
    [
        ('cluster.eps', '0.7', 0.7),
        ('cluster.eps', 'auto', 'auto'),
        ('cluster.eps', '1', 1.0),
        ('cluster.min_samples', '3', 3),
        ('sliding.window_px', 'null', 'none'),
        ('refine', '~', 'none'),
        ('compile', 'true', True),
        ('compile', 'False', False),
        ('method', 'gclip', 'gclip'),
        ('weights', 'a b', 'a b'),
    ],
)
def test_values_from_text(name, text, value):
    [one] = [one for one in options_of(ct.Settings) if one.name == name]
    got = one.from_text(text)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    'name, text', [('cluster.eps', 'x'), ('input_size', '3.5'), ('compile', '1'), ('model', '~')]
)
def test_bad_text_is_refused(name, text):
    [one] = [one for one in options_of(ct.Settings) if one.name == name]
    with pytest.raises(ct.SettingError, match=f'^{name}: expected '):
        one.from_text(text)


def test_label_size_is_rows_before_columns():
    assert ct.Settings(output_size='320x240').label_size == (240, 320)
    assert ct.Settings().label_size is None


def test_in_the_engine_the_size_of_depth_is_that_of_the_image():
    settings = ct.Settings(output_size='depth')
    assert settings.output_size == 'depth' and settings.label_size is None


def test_replace_checks_as_well():
    settings = ct.Settings().replace(method='clip')
    assert settings.method == 'clip' and ct.Settings().method == 'cliptrase'
    with pytest.raises(ct.SettingError, match='unknown setting'):
        settings.replace(metod='clip')
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.method = 'clip'
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.cluster.eps = 1.0


def test_every_setting_is_of_one_scope():
    scopes = [scope_names(scope) for scope in (MODEL, IMAGE, WORDS, LABELS)]
    assert sorted(name for names in scopes for name in names) == sorted(NAMES)
    of_words = ct.Settings(distractors='stuff', method='clip').of_scope(WORDS)
    assert of_words == {
        'prompt_templates': 'imagenet80',
        'distractors': 'stuff',
        'cache_dir': 'auto',
    }


def test_what_is_offered_is_what_exists():
    from cliptrase_ros.words.distractors import DISTRACTORS
    from cliptrase_ros.words.templates import TEMPLATES

    choices = {one.name: one.choices for one in options_of(ct.Settings)}
    assert set(choices['method']) == set(ct.METHODS)
    assert set(choices['prompt_templates']) == set(TEMPLATES)
    assert set(choices['distractors']) == set(DISTRACTORS)
