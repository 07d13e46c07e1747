import dataclasses

import pytest

import cliptrase_ros as ct


def test_defaults_hold_and_every_setting_is_described():
    settings = ct.Settings()
    for field in dataclasses.fields(settings):
        assert field.metadata['doc'].endswith(('.', '.)')), field.name
        if field.metadata['choices']:
            assert field.default in field.metadata['choices']
        elif type(field.default) in (int, float):
            assert field.metadata['low'] <= field.default <= field.metadata['high']


@pytest.mark.parametrize(
    'values, reason',
    [
        (
            {'method': 'cliptrace'},
            "'cliptrace' is not one of cliptrase, gclip, .* Did you mean 'clip",
        ),
        ({'input_size': 31}, 'outside 32 .. 2048'),
        ({'input_size': 336.0}, 'expected int, got float'),
        ({'input_size': True}, 'expected int, got bool'),
        ({'confidence_threshold': 1.5}, 'outside 0.0 .. 1.0'),
        ({'confidence_threshold': float('nan')}, 'finite'),
        ({'confidence_threshold': '0.5'}, 'expected float, got str'),
        ({'cls_weighting': 1}, 'expected bool'),
        ({'model': None}, 'expected str'),
        ({'region_median': 4}, 'odd'),
        ({'refine': 'crf'}, "'crf' is not one of none, guided, pamr"),
        ({'margin_threshold': -0.01}, 'outside 0.0 .. 2.0'),
        ({'window_px': 448}, 'larger than input_size'),
        ({'window_px': 64}, 'window_stride_px: 112 is larger than window_px 64'),
        ({'window_px': 224, 'protocol': 'cliptrase'}, "protocol 'native'"),
        ({'area_threshold': 0.1, 'regions': 'mean'}, "needs regions 'none' or 'vote'"),
        ({'output_size': '320 x 240'}, 'WIDTHxHEIGHT'),
        ({'output_size': '0x240'}, 'WIDTHxHEIGHT'),
        ({'output_size': '320x240', 'protocol': 'cliptrase'}, "protocol 'native'"),
        ({'output_size': 'depth', 'protocol': 'cliptrase'}, "output_size: .* protocol 'native'"),
        ({'output_size': 'Depth'}, "'Depth' is neither 'input' nor 'depth' nor WIDTHxHEIGHT"),
        ({'output_size': ''}, "'' is neither 'input' nor 'depth' nor WIDTHxHEIGHT"),
        ({'inputsize': 336}, "unknown setting 'inputsize'. Did you mean 'input_size'"),
        ({'xyz': 1}, "unknown setting 'xyz'."),
    ],
)
def test_bad_values_are_refused_with_the_reason(values, reason):
    with pytest.raises(ct.SettingError, match=reason):
        ct.Settings.from_mapping(values)


def test_an_int_is_taken_for_a_float():
    value = ct.Settings(confidence_threshold=1).confidence_threshold
    assert value == 1.0 and type(value) is float


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


def test_what_is_offered_is_what_exists():
    from cliptrase_ros.words.distractors import DISTRACTORS
    from cliptrase_ros.words.templates import TEMPLATES

    choices = {f.name: f.metadata['choices'] for f in dataclasses.fields(ct.Settings)}
    assert set(choices['method']) == set(ct.METHODS)
    assert set(choices['prompt_templates']) == set(TEMPLATES)
    assert set(choices['distractors']) == set(DISTRACTORS)
