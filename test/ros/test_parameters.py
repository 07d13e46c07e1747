import dataclasses
import subprocess
import sys

import pytest
import yaml
from processes import ROOT

import cliptrase_ros as ct
from cliptrase_ros.options import flattened, unknown
from cliptrase_ros.ros.parameters import OPTIONS, NodeOptions, parameter_names
from cliptrase_ros.space.groups import Group
from cliptrase_ros.words.vocabulary import parse_entry


def test_config_and_documents_say_what_is_declared():
    check = subprocess.run(
        [sys.executable, 'tools/parameters.py', '--check'], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_the_config_file_gives_the_defaults():
    parsed = yaml.safe_load((ROOT / 'config' / 'segmentation.yaml').read_text())
    values = parsed['/**']['ros__parameters']
    for options in OPTIONS:
        own = {f.name: values.pop(f.name) for f in dataclasses.fields(options)}
        assert flattened(options, own).keys() == options().flat().keys()
        assert options.from_mapping(own) == options()
    assert not values


def test_no_name_and_no_group_is_declared_twice():
    assert len(set(parameter_names())) == len(parameter_names())
    first = [{name.partition('.')[0] for name in options().flat()} for options in OPTIONS]
    assert not set.intersection(*first)


# The flat names of earlier versions.
RENAMED = {
    'depth_min_m': 'depth.min_m',
    'depth_max_m': 'depth.max_m',
    'depth_slop_s': 'depth.slop_s',
    'depth_patience_s': 'depth.patience_s',
    'unlabeled_points': 'points.unlabeled',
    'point_groups': 'points.groups',
    'target_classes': 'target.classes',
    'target_margin_m': 'target.margin_m',
    'object_classes': 'objects.classes',
    'object_min_pixels': 'objects.min_pixels',
    'object_depth_jump': 'objects.depth_jump',
    'input_reliability': 'qos.input_reliability',
    'output_reliability': 'qos.output_reliability',
    'output_depth': 'qos.output_depth',
}


@pytest.mark.parametrize('old, new', RENAMED.items())
def test_an_old_name_leads_to_the_new_one(old, new):
    assert new in parameter_names() and old not in parameter_names()
    error = str(unknown(old, *OPTIONS))
    assert error.startswith(f'unknown setting {old}: did you mean {new}'), error


@pytest.mark.parametrize(
    'values, reason',
    [
        ({'overlay_alpha': 2.0}, 'overlay_alpha: 2.0 is outside'),
        ({'qos.input_reliability': 'best'}, "Did you mean 'best_effort'"),
        ({'vocabulary': 'floor'}, 'vocabulary: expected a list of texts, got str'),
        ({'depth.min_m': -0.1}, 'depth.min_m: -0.1 is outside'),
        ({'depth.max_m': 1001}, 'depth.max_m: 1001.0 is outside'),
        (
            {'depth.min_m': 0.5, 'depth.max_m': 0.25},
            'depth.max_m: 0.25 m is not above depth.min_m 0.5 m',
        ),
        (
            {'depth.min_m': 0.5, 'depth.max_m': 0.5},
            'depth.max_m: 0.5 m is not above depth.min_m 0.5 m',
        ),
        ({'points.groups': ['a=floor', 'b']}, "points.groups: 'b': write group=class;class"),
        ({'points.groups': ['a=floor', 'a=wall']}, "points.groups: 'a' appears twice"),
        (
            {'points.groups': ['My seats=chair', 'my_seats=sofa']},
            "points.groups: 'my_seats' cannot have a topic of its own. Give it another name",
        ),
        (
            {'points.groups': ['椅子=chair']},
            "points.groups: '椅子' cannot have a topic of its own. Give it another name",
        ),
    ],
)
def test_node_options_are_checked(values, reason):
    with pytest.raises(ct.SettingError, match=reason):
        NodeOptions.from_mapping(values)


def test_empty_background_words_do_not_count():
    assert NodeOptions(background=['', 'sky', ' ']).background_words == ('sky',)


@pytest.mark.parametrize('nearest', [0.0, 0.5, 1000.0])
def test_no_limit_of_depth_is_above_any(nearest):
    assert NodeOptions(depth={'min_m': nearest}).depth.max_m == 'none'


def test_groups_of_classes_by_topic():
    entries = ['', 'My seats=chair; sofa', ' ', '3D=!floor']
    assert NodeOptions(points={'groups': entries}).groups_by_topic == {
        'my_seats': Group('My seats', ('chair', 'sofa')),
        'class_3d': Group('3D', ('floor',), True),
    }
    assert NodeOptions().groups_by_topic == {}


def test_names_of_classes_without_the_empty_ones():
    options = NodeOptions(
        target={'classes': ['', ' mug ']}, objects={'classes': ['coffee cup', ' ', 'door']}
    )
    assert options.target_classes == ('mug',)
    assert options.object_classes == ('coffee cup', 'door')
    assert NodeOptions().target_classes == NodeOptions().object_classes == ()


def test_stuff_has_objects_only_if_it_is_named():
    def with_objects(*names, **objects):
        options = NodeOptions(objects=objects)
        return [name for name in names if options.has_objects(name)]

    words = 'floor', 'mug', 'wall'
    assert with_objects(*words) == ['mug']
    assert with_objects(*words, classes=['wall', 'mug']) == ['mug', 'wall']
    assert with_objects(*words, stuff=[' mug ', '']) == ['floor', 'wall']
    assert with_objects(*words, stuff=['']) == with_objects(*words, stuff=[]) == [*words]
    assert with_objects(*words, classes=['wall'], stuff=['wall']) == ['wall']


def test_stuff_of_the_shipped_vocabularies():
    """Surfaces that fill a view, in every vocabulary; nothing that a robot grasps or avoids."""
    options = NodeOptions()
    stuff = {
        file.stem: {
            parse_entry(entry)[1]
            for entry in yaml.safe_load(file.read_text())['/**']['ros__parameters']['vocabulary']
            if not options.has_objects(parse_entry(entry)[1])
        }
        for file in (ROOT / 'config' / 'vocabularies').glob('*.yaml')
    }
    assert stuff['indoor'] == {'floor', 'wall', 'ceiling'}
    assert stuff['kitchen'] == {'floor', 'wall'}
    assert stuff['warehouse'] == {'floor', 'floor marking', 'wall', 'ceiling'}
    assert stuff['outdoor'] >= {'road', 'sidewalk', 'grass', 'gravel', 'wall'}
    assert stuff['ade150'] >= {'wall', 'sky', 'floor', 'road', 'sidewalk', 'sea', 'earth'}
    for name in ('person', 'car', 'table', 'countertop', 'door', 'rug', 'puddle', 'stairs', 'tree'):
        assert options.has_objects(name)
