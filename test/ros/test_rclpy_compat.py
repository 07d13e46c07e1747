"""Internal names of rclpy: the installed version has them, and the node works without them.

The tests remove names to imitate versions of rclpy that cannot be installed beside this one.
"""

import ast
import gc
import itertools
import re
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from processes import call, wait_for
from rclpy.lifecycle import LifecycleNode

from cliptrase_ros.ros import rclpy_compat
from cliptrase_ros.ros.shutdown import spun

# Each node has its own name, since some leave services to the garbage collector.
NAMES = (f'lives_{number}' for number in itertools.count())


@pytest.fixture
def made(tester):
    """A lifecycle node with a parameter that nobody declares."""
    options = {'context': tester.context, 'cli_args': ['--ros-args', '-p', 'x:=1']}
    return LifecycleNode(next(NAMES), **options)


def lives(tester, name):
    """Return how many servers offer the service that changes the state of this node."""
    return tester.count_services(f'/{name}/change_state')


def privates(tree):
    """Yield (True if it is an attribute of self, name) for each private attribute."""
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute) and re.match('_[^_]', part.attr):
            yield isinstance(part.value, ast.Name) and part.value.id == 'self', part.attr


def test_no_other_module_uses_what_is_rclpys_own(made):
    """None of our nodes has a private name that rclpy also uses."""
    nodes, taken = [], {*vars(made), *dir(made)}
    folder = Path(rclpy_compat.__file__).parent
    for file in folder.rglob('*.py'):
        tree = ast.parse(file.read_text())
        others = [name for own, name in privates(tree) if not own and name != '_exit']
        assert not others or file.name == 'rclpy_compat.py', (file.name, others)
        for part in ast.walk(tree):
            bases = [ast.unparse(base) for base in getattr(part, 'bases', ())]
            if {'Node', 'LifecycleNode'} & set(bases):
                nodes.append(part.name)
                assert not taken & {name for _, name in privates(part)}, file.name
    assert 'SegmentationNode' in nodes
    made.destroy_node()


def test_parameters_are_told(made):
    assert list(rclpy_compat.given_parameters(made)) == ['x']
    made.destroy_node()


def test_where_rclpy_does_not_tell_there_are_none(made, monkeypatch):
    monkeypatch.delattr(made, '_parameter_overrides')
    assert not rclpy_compat.given_parameters(made)
    made.destroy_node()


def transition(tester, node, number):
    name = node.get_name()
    client = tester.create_client(ChangeState, f'/{name}/change_state')
    request = ChangeState.Request(transition=Transition(id=number))
    success = call(client, request).success
    client = tester.create_client(GetState, f'/{name}/get_state')
    return success, call(client, GetState.Request()).current_state.label


def test_an_impossible_transition_is_refused_and_others_are_made(made, tester):
    assert rclpy_compat.refuse_impossible_transitions(made)
    with spun(made):
        assert transition(tester, made, Transition.TRANSITION_ACTIVATE) == (False, 'unconfigured')
        assert transition(tester, made, Transition.TRANSITION_CONFIGURE) == (True, 'inactive')


@pytest.mark.parametrize('name', ['srv_name', 'callback'])
def test_a_service_that_is_not_known_is_left_alone(made, tester, monkeypatch, name):
    """Possible transitions still work."""
    [service] = [s for s in made.services if s.srv_name.endswith('/change_state')]
    with monkeypatch.context() as patch:
        patch.delattr(service, name)
        assert not rclpy_compat.refuse_impossible_transitions(made)
    with spun(made):
        assert transition(tester, made, Transition.TRANSITION_CONFIGURE) == (True, 'inactive')


def test_an_error_of_another_kind_does_not_end_the_node_either(made, monkeypatch):
    [service] = [s for s in made.services if s.srv_name.endswith('/change_state')]
    monkeypatch.setattr(service, 'callback', lambda request, response: {}['x'])
    assert rclpy_compat.refuse_impossible_transitions(made)
    response = service.callback(ChangeState.Request(), ChangeState.Response())
    assert response.success is False
    made.destroy_node()


def test_services_of_the_lifecycle_go_with_the_node(made, tester):
    name = made.get_name()
    wait_for(lambda: lives(tester, name), what='the service')
    made.destroy_node()
    rclpy_compat.free_lifecycle(made)
    wait_for(lambda: not lives(tester, name), what='the end of the service')


@pytest.mark.parametrize('missing', ['all of it', 'its end'])
def test_they_go_with_the_garbage_where_nothing_ends_them(tester, monkeypatch, missing):
    name = next(NAMES)
    node = LifecycleNode(name, context=tester.context)
    wait_for(lambda: lives(tester, name), what='the service')
    with monkeypatch.context() as patch:
        if missing == 'all of it':
            patch.delattr(node, '_state_machine')
        else:
            patch.setattr(node, '_state_machine', object())
        rclpy_compat.free_lifecycle(node)
    node.destroy_node()
    del node
    gc.collect()
    wait_for(lambda: not lives(tester, name), what='the end of the service')
