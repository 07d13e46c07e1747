"""Parameters that ROS refuses, or takes for something else, in the three nodes."""

from pathlib import Path

import pytest
import rclpy
from processes import wait_for
from robot import node

from cliptrase_ros.ros import parameter_files

HEAD = '/**:\n  ros__parameters:\n'
QUOTE = 'as numbers or as true and false. Quote them: '
NODES = ('node', 'camera.publisher', 'demo.demo_world')

# What rcl refuses: {text of the file: the part after the name of the file}
FAULTS = {
    HEAD + '    vocabulary: [no, floor]\n': ', line 3: the list vocabulary has several types, '
    'because YAML reads some words ' + QUOTE + '"no"',
    HEAD + '    vocabulary: [floor, on, 1, 2.5, y]\n': QUOTE + '"on", "1", "2.5", "y"',
    HEAD + '    vocabulary:\n    - floor\n    - Off\n': ', line 4: the list vocabulary has',
    HEAD + '    vocabulary: [1, 2.5]\n': QUOTE + '"1", "2.5"',
    HEAD + '    vocabulary: ["no", yes, .nan, -.inf, 0x1f, 010, 1_0]\n': '"yes", ".nan", "-.inf", '
    '"0x1f", "010"',
    HEAD + '    vocabulary: [[floor, wall], [a]]\n': ': vocabulary has a list in a list',
    HEAD + '    vocabulary:\n    - floor\n    -\n': ', line 5: vocabulary has an empty entry',
    HEAD + '    vocabulary: [floor, , wall]\n': ', line 3: not YAML: ',
    HEAD + '    vocabulary: [12:30, floor]\n': 'near line 3. Quote texts with special characters',
    HEAD + '    vocabulary: [floor, "wall]\n': ', line 4: not YAML: found unexpected end',
    HEAD + '    smoothing: 0.1\n   seed: 2\n': ', line 4: not YAML: ',
    HEAD + '    background: &b [sky]\n    vocabulary: *b\n': ', line 4: ROS knows no aliases',
    '/**:\n  ros__parameters:\n\tsmoothing: 0.1\n': ', line 3: there is a tab before the text',
    '/**:\n\tros__parameters:\n\t\tsmoothing: 0.1\n': ', line 2: there is a tab before the text',
    HEAD + '    smoothing: 0.1\n\tseed: 2\n': ', line 4: there is a tab before the text',
    '/**:\n  smoothing: 0.1\n': ', line 2: smoothing is not below ros__parameters. Write the name',
    'smoothing: 0.1\n': ', line 1: smoothing is not below ros__parameters',
    '/**:\n  ros_parameters:\n    smoothing: 0.1\n': ', line 3: smoothing is not below ros__param',
    'segmentation:\n': ', line 1: segmentation is not below ros__parameters',
    HEAD: ', line 2: no parameters are below ros__parameters',
    HEAD + '    smoothing:0.1\n': ', line 2: no parameters are below ros__parameters',
    '/**:\n  ros__parameters: [floor]\n': ', line 2: no parameters are below ros__parameters',
    '- floor\n': ', line 1: expected the name of a node or /**:, and below it ros__parameters:',
    '/seg*:\n  ros__parameters: {seed: 1}\n': 'node name must not contain characters',
    b'/**:\n  ros__parameters:\n    background: [caf\xe9]\n': ' is not text in UTF-8',
    bytes(range(256)): ' is not text in UTF-8',
    None: ' does not exist',
}


def written(folder, text):
    file = folder / 'mine.yaml'
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refused(*arguments):
    """Return what is said about arguments that rcl refuses."""
    arguments = ['node', '--ros-args', *arguments]
    with pytest.raises(RuntimeError) as caught:
        rclpy.init(args=arguments, context=rclpy.Context())
    return parameter_files.explained(arguments, caught.value)


@pytest.mark.parametrize('text', FAULTS)
def test_what_rcl_refuses_is_explained_in_one_sentence(tmp_path, text):
    file = written(tmp_path, text)
    said = refused('--params-file', str(file))
    assert FAULTS[text] in said and str(file) in said
    assert '\n' not in said and '.c:' not in said


@pytest.mark.parametrize('module', NODES)
def test_every_node_explains_its_file(start, tmp_path, module):
    file = written(tmp_path, HEAD + '    vocabulary: [floor, on]\n')
    process = start(module, files=[file])
    assert process.wait() == 1
    assert f'{file}, line 3: the list vocabulary has several types' in process.output
    assert 'Traceback' not in process.output


FILLED = {
    HEAD + '    background:\n    smoothing: 0.1\n': HEAD
    + '    background: null\n    smoothing: 0.1\n',
    HEAD + '    background:': HEAD + '    background: null',
    HEAD + '    cluster:\n      eps: # later\n      min_samples:\n': HEAD
    + '    cluster:\n      eps: null # later\n      min_samples: null\n',
    HEAD + '    a: {b: , c: 1}\n': HEAD + '    a: {b: null , c: 1}\n',
    HEAD + "    background: ''\n": None,
    HEAD + '    vocabulary:\n    - floor\n    -\n': None,
    HEAD + '    smoothing: 0.1\n   seed:\n': None,
    HEAD: None,
    'segmentation:\n': None,
    b'\xff\xfe': None,
}


@pytest.mark.parametrize('text', FILLED)
def test_keys_without_a_value_are_null(tmp_path, text):
    file = written(tmp_path, text)
    arguments = ['node', '--ros-args', '--params-file', str(file), '-p', 'seed:=']
    with parameter_files.filled(arguments) as got:
        copy = Path(got[3])
        assert (copy != file) == (FILLED[text] is not None)
        if FILLED[text] is not None:
            assert copy.read_text() == FILLED[text]
        assert [one for n, one in enumerate(got) if n != 3] == [*arguments[:3], *arguments[4:]]
    assert copy.exists() == (copy == file)


def test_a_key_without_a_value_means_none(robot, start, tmp_path):
    text = '    background:\n    max_rate_hz:\n    refine: # later\n    smoothing: 0.1\n'
    process = node(start, files=[written(tmp_path, HEAD + text)])
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    assert not list(robot.vocabularies[-1].background)


@pytest.mark.parametrize(
    'module, line, reason',
    [
        ('node', 'input_size:', 'input_size: expected an integer, got nothing (null)'),
        ('camera.publisher', 'loop:', 'loop: expected true or false, got nothing (null)'),
        ('demo.demo_world', 'seed:', 'seed: expected an integer, got nothing (null)'),
    ],
)
def test_a_key_that_needs_a_value_is_named(start, tmp_path, module, line, reason):
    process = start(module, files=[written(tmp_path, f'{HEAD}    {line}\n')])
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['-p', 'background:='], '-p background:=: there is no value after :='),
        (['-p', 'vocabulary:=[no, floor]'], 'the list vocabulary has several types'),
        (['--param', 'vocabulary:=[floor, 1]'], QUOTE + '"1"'),
        (['-p', 'vocabulary:=[floor'], '-p vocabulary:=[floor: not YAML: expected'),
        (['-p', 'smoothing'], '-p smoothing: write -p NAME:=VALUE'),
        (['-p', 'background: [sky]'], 'write -p NAME:=VALUE'),
        (['-r', 'image'], "Couldn't parse remap rule: '-r image'"),
        (['--params-file', '/'], 'parameters file / cannot be read: Is a directory'),
        (['--params-file'], 'ROS cannot read the arguments'),
        (['--foo'], 'ROS cannot read the arguments'),
    ],
)
def test_arguments_that_rcl_refuses(arguments, sentence):
    assert sentence in refused(*arguments)


# What rcl reads, but not as it was meant.
DOUBTS = {
    '': ' holds no parameters: the defaults are used',
    '# smoothing: 0.1\n': ' holds no parameters',
    'nothing\n': ' holds no parameters',
    '/**: {ros__parameters: {}}\n': ' holds no parameters',
    'other:\n  ros__parameters:\n    seed: 1\n': ' is ignored: it is for /other, but this node is '
    '/robot/eye. Write /robot/eye: or /**: in the file',
    'eye:\n  ros__parameters: {seed: 1}\n/a/b: {ros__parameters: {seed: 1}}\n': 'for /eye, /a/b, b',
    '/*:\n  ros__parameters: {seed: 1}\n': ' is ignored: it is for /*, but',
    '/*/*/eye:\n  ros__parameters: {seed: 1}\n': ' is ignored',
    HEAD + '    smoothing: 0.1\n    seed: 1\n    smoothing: 0.2\n': ', line 5: smoothing is given '
    'twice, first in line 3. The last value counts',
    HEAD
    + '    cluster.eps: 1\n    cluster:\n      eps: 2\n': ', line 5: cluster.eps is given twice',
    HEAD + '    seed: 1\n' + HEAD + '    seed: 2\n': ', line 6: seed is given twice',
    HEAD + '    vocabulary: [floor, null]\n': ', line 3: vocabulary has the entry null, which ROS '
    'takes for a word. Remove it, or write "null" if you mean the word',
    HEAD + '    vocabulary:\n    - floor\n    - ~\n': ', line 5: vocabulary has the entry ~',
    HEAD
    + '    vocabulary: [7: mug]\n': ', line 3: vocabulary has an entry with a colon. Quote it: '
    '"7: mug"',
}
FINE = [
    HEAD + '    smoothing: 0.1\n    vocabulary: ["null", floor, "no"]\n',
    '/robot/eye:\n  ros__parameters: {seed: 1}\n',
    'robot:\n  eye:\n    ros__parameters: {seed: 1}\n',
    '/robot/*: {ros__parameters: {seed: 1}}\n',
    '/*/eye: {ros__parameters: {seed: 1}}\n',
    '/**/eye: {ros__parameters: {seed: 1}}\n',
    '/**: {ros__parameters: {seed: 1}}\n/robot/eye: {ros__parameters: {seed: 2}}\n',
    'other: {ros__parameters: {seed: 1, seed: 2}}\n/**: {ros__parameters: {seed: 2}}\n',
    '\ufeff' + HEAD + '    seed: 1\n',
    (HEAD + '    seed: 1\n').encode('utf-16'),
    (HEAD + '    seed: 1\n').replace('\n', '\r\n'),
    '---\n' + HEAD + '    seed: 1\n---\n' + HEAD + '    smoothing: 1\n',
]


def doubts(file):
    arguments = ['node', '--ros-args', '--params-file', str(file)]
    return list(parameter_files.doubts(arguments, '/robot/eye'))


@pytest.mark.parametrize('text', DOUBTS)
def test_what_rcl_takes_for_something_else(tmp_path, text):
    file = written(tmp_path, text)
    [doubt] = doubts(file)
    assert str(file) in doubt and DOUBTS[text] in doubt


@pytest.mark.parametrize('text', FINE)
def test_files_without_doubt(tmp_path, text):
    assert doubts(written(tmp_path, text)) == []


def test_other_arguments_are_not_looked_at():
    arguments = ['node', '-p', 'other:seed:=1', '--ros-args', '-r', 'a:=b', '--', '-p', 'x:y:=1']
    assert list(parameter_files.doubts(arguments, '/eye')) == []
    [doubt] = parameter_files.doubts(['--ros-args', '-p', 'other:seed:=1'], '/eye')
    assert doubt == '-p other:seed:=1 is ignored: it is for /other, but this node is /eye'
    [doubt] = parameter_files.doubts(['--ros-args', '-p', 'eye:words:=[null, a]'], '/eye')
    assert doubt.startswith('-p eye:words:=[null, a]: words has the entry null')


@pytest.mark.parametrize('module', NODES)
def test_every_node_warns_of_a_file_for_another(start, tmp_path, module):
    """Also if it then cannot start, because it lacks what the file says."""
    file = written(tmp_path, 'cam:\n  ros__parameters:\n    source: photo.png\n')
    process = start(module, ['nothing:=1'], files=[file])
    assert process.wait() == 1
    assert f'parameters file {file} is ignored: it is for /cam, but this node is' in process.output
    assert 'Traceback' not in process.output


@pytest.mark.parametrize(
    'line, got',
    [
        ('vocabulary: [no, yes]', 'got bool False. Quote words that YAML reads as a number or as'),
        ('vocabulary: [1, 2]', 'got int 1. Quote words'),
        ('vocabulary: [1.5]', 'got float 1.5. Quote words'),
        ('vocabulary: no', 'got bool False. Quote words'),
        ('vocabulary: "[no, floor]"', "got str '[no, floor]'. Quote words"),
        ('vocabulary: floor', "got str 'floor'\n"),
        ('background: [on]', 'background: expected a list of texts, got bool True. Quote'),
    ],
)
def test_lists_that_hold_no_words(start, tmp_path, line, got):
    file = written(tmp_path, HEAD + f'    {line}\n')
    process = node(start, 'autostart:=true', 'weights:=/nowhere', files=[file])
    assert process.wait() == 1
    assert got in process.output and 'Traceback' not in process.output


@pytest.mark.parametrize('how', ['file', 'argument'])
@pytest.mark.parametrize('empty', ['[]', 'null', '~', '[""]'])
def test_an_empty_list_and_a_whole_number_at_the_start(robot, start, tmp_path, how, empty):
    files, parameters = [], []
    if how == 'file':
        files = [written(tmp_path, HEAD + f'    background: {empty}\n    max_rate_hz: 5\n')]
    else:
        parameters = [f'background:={empty}', 'max_rate_hz:=5']
    process = node(start, *parameters, files=files)
    wait_for(lambda: robot.vocabularies, what='words', process=process)
    assert not list(robot.vocabularies[-1].background)
    robot.stream(rate_hz=20.0)
    wait_for(lambda: robot.value('dropped: above max_rate_hz'), what='drops', process=process)


@pytest.mark.parametrize('empty', [[], [''], 'null', '~', 'None'])
def test_an_empty_list_and_a_whole_number_while_running(running, empty):
    robot, process = running
    assert robot.set(background=['sky'])[0].successful
    wait_for(lambda: list(robot.vocabularies[-1].background), what='sky', process=process)
    results = robot.set(background=empty, max_rate_hz=5)
    assert [r.successful for r in results] == [True, True], results
    wait_for(lambda: not list(robot.vocabularies[-1].background), what='none', process=process)
    wait_for(lambda: robot.value('dropped: above max_rate_hz'), what='drops', process=process)
    assert 'Traceback' not in process.output


def test_bad_lists_are_refused_while_running(running):
    robot, process = running
    for bad in ([True, False], [1, 2], [1.5], 'floor', '[no, floor]', True, 3):
        [result] = robot.set(vocabulary=bad)
        assert not result.successful
        assert 'vocabulary: expected a list of texts, got' in result.reason
        if bad != 'floor':
            assert 'Quote words' in result.reason
    assert process.running
