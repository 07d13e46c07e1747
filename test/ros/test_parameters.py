import dataclasses
import subprocess
import sys

import pytest
import yaml
from processes import ROOT

import cliptrase_ros as ct
from cliptrase_ros.ros.parameters import OPTIONS, NodeOptions, names


def test_config_and_documents_say_what_is_declared():
    check = subprocess.run(
        [sys.executable, 'tools/parameters.py', '--check'], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_the_config_file_gives_the_defaults():
    parsed = yaml.safe_load((ROOT / 'config' / 'segmentation.yaml').read_text())
    values = parsed['/**']['ros__parameters']
    assert list(values) == [f.name for o in reversed(OPTIONS) for f in dataclasses.fields(o)]
    assert sorted(values) == sorted(names())
    for options in OPTIONS:
        own = {f.name: values[f.name] for f in dataclasses.fields(options)}
        assert options(**own) == options()


def test_no_name_is_declared_twice():
    assert len(set(names())) == len(names())


@pytest.mark.parametrize(
    'values, reason',
    [
        ({'overlay_alpha': 2.0}, 'overlay_alpha: 2.0 is outside'),
        ({'input_reliability': 'best'}, "Did you mean 'best_effort'"),
        ({'vocabulary': 'floor'}, 'vocabulary: expected tuple'),
    ],
)
def test_node_options_are_checked(values, reason):
    with pytest.raises(ct.SettingError, match=reason):
        NodeOptions(**values)


def test_empty_background_words_do_not_count():
    assert NodeOptions(background=['', 'sky', ' ']).background_words == ('sky',)
