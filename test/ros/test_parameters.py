import dataclasses
import subprocess
import sys

import pytest
import yaml
from processes import ROOT

import cliptrase_ros as ct
from cliptrase_ros.ros.parameters import OPTIONS, NodeOptions, parameter_names
from cliptrase_ros.space.groups import Group


def test_config_and_documents_say_what_is_declared():
    check = subprocess.run(
        [sys.executable, 'tools/parameters.py', '--check'], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_the_config_file_gives_the_defaults():
    parsed = yaml.safe_load((ROOT / 'config' / 'segmentation.yaml').read_text())
    values = parsed['/**']['ros__parameters']
    assert list(values) == [f.name for o in reversed(OPTIONS) for f in dataclasses.fields(o)]
    assert sorted(values) == sorted(parameter_names())
    for options in OPTIONS:
        own = {f.name: values[f.name] for f in dataclasses.fields(options)}
        assert options(**own) == options()


def test_no_name_is_declared_twice():
    assert len(set(parameter_names())) == len(parameter_names())


@pytest.mark.parametrize(
    'values, reason',
    [
        ({'overlay_alpha': 2.0}, 'overlay_alpha: 2.0 is outside'),
        ({'input_reliability': 'best'}, "Did you mean 'best_effort'"),
        ({'vocabulary': 'floor'}, 'vocabulary: expected tuple'),
        ({'depth_min_m': -0.1}, 'depth_min_m: -0.1 is outside'),
        ({'depth_max_m': 1001}, 'depth_max_m: 1001.0 is outside'),
        (
            {'depth_min_m': 0.5, 'depth_max_m': 0.25},
            'depth_max_m: 0.25 m is not above depth_min_m 0.5 m',
        ),
        (
            {'depth_min_m': 0.5, 'depth_max_m': 0.5},
            'depth_max_m: 0.5 m is not above depth_min_m 0.5 m',
        ),
        ({'point_groups': ['a=floor', 'b']}, "point_groups: 'b': write group=class;class"),
        ({'point_groups': ['a=floor', 'a=wall']}, "point_groups: 'a' stands twice"),
        (
            {'point_groups': ['My seats=chair', 'my_seats=sofa']},
            "point_groups: 'my_seats' cannot have a topic of its own; give it another name",
        ),
        (
            {'point_groups': ['椅子=chair']},
            "point_groups: '椅子' cannot have a topic of its own; give it another name",
        ),
    ],
)
def test_node_options_are_checked(values, reason):
    with pytest.raises(ct.SettingError, match=reason):
        NodeOptions(**values)


def test_empty_background_words_do_not_count():
    assert NodeOptions(background=['', 'sky', ' ']).background_words == ('sky',)


@pytest.mark.parametrize('nearest', [0.0, 0.5, 1000.0])
def test_no_limit_of_depth_is_above_any(nearest):
    assert NodeOptions(depth_min_m=nearest, depth_max_m=0.0).depth_max_m == 0.0


def test_groups_of_classes_by_topic():
    entries = ['', 'My seats=chair; sofa', ' ', '3D=!floor']
    assert NodeOptions(point_groups=entries).groups_by_topic == {
        'my_seats': Group('My seats', ('chair', 'sofa')),
        'class_3d': Group('3D', ('floor',), True),
    }
    assert NodeOptions().groups_by_topic == {}


def test_names_of_classes_without_the_empty_ones():
    options = NodeOptions(target_classes=['', ' mug '], object_classes=['coffee cup', ' ', 'door'])
    assert options.targets == ('mug',) and options.objects == ('coffee cup', 'door')
    assert NodeOptions().targets == NodeOptions().objects == ()
