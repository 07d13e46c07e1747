"""Stand-ins for the classes that our launch files take from ROS's launch, which pip does not have.

`load` runs a launch file on them and tells which processes it would start.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock


@dataclass
class LaunchDescription:
    entities: list


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: str
    description: str
    choices: list | None = None


@dataclass
class IncludeLaunchDescription:
    source: str
    launch_arguments: Iterable[tuple[str, str]] = ()


@dataclass
class OpaqueFunction:
    function: Any


@dataclass
class SetEnvironmentVariable:
    name: str
    value: str


@dataclass
class Node:
    package: str
    executable: str
    name: str
    namespace: str
    parameters: list
    remappings: list
    ros_arguments: list
    output: str
    emulate_tty: bool
    arguments: list = field(default_factory=list)
    # What the launch files have set by the time that they come to this node.
    environment: dict = field(default_factory=dict)

    def argv(self) -> list:
        """What the process is given, in launch_ros's order; a dict stands for a file of it."""
        namespace = self.namespace if self.namespace.startswith('/') else f'/{self.namespace}'
        argv = [*self.arguments, '--ros-args', *self.ros_arguments, '--ros-args']
        argv += ['-r', f'__node:={self.name}', '-r', f'__ns:={namespace}']
        for parameters in self.parameters:
            argv += ['--params-file', parameters]
        for name, new in self.remappings:
            argv += ['-r', f'{name}:={new}']
        return argv


MODULES = {
    'launch': [LaunchDescription],
    'launch.actions': [
        DeclareLaunchArgument,
        IncludeLaunchDescription,
        OpaqueFunction,
        SetEnvironmentVariable,
    ],
    'launch_ros': [],
    'launch_ros.actions': [Node],
}


@dataclass
class Launch:
    """A launch file, its declared arguments, and what it starts with the values given."""

    declared: dict[str, DeclareLaunchArgument]
    nodes: dict[str, Node]
    environment: dict[str, str]


def load(path: Path, environment: dict[str, str] | None = None, **values: str) -> Launch:
    """Run the launch file as `ros2 launch PATH name:=value ...` would, up to the processes."""
    context = SimpleNamespace(launch_configurations={}, environment=dict(environment or {}))
    nodes = {}
    declared = _run(path, values, context, nodes)
    return Launch(declared, nodes, context.environment)


def _run(path: Path, values: dict[str, str], context: SimpleNamespace, nodes: dict) -> dict:
    """Do what the file says, in launch's order: depth first. Returns the declared arguments."""
    declared = {}
    context.launch_configurations.update(values)  # one for all files, as in launch
    pending = list(_entities(path))
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, DeclareLaunchArgument):
            declared[entity.name] = entity
            value = context.launch_configurations.setdefault(entity.name, entity.default_value)
            if entity.choices and value not in entity.choices:
                raise RuntimeError(f'{entity.name}: {value!r} is not one of {entity.choices}')
        elif isinstance(entity, IncludeLaunchDescription):
            _run(Path(entity.source), dict(entity.launch_arguments), context, nodes)
        elif isinstance(entity, OpaqueFunction):
            pending[:0] = entity.function(context)
        elif isinstance(entity, SetEnvironmentVariable):
            context.environment[entity.name] = entity.value
        else:
            entity.environment = dict(context.environment)
            nodes[entity.name] = entity
    unknown = set(values) - set(declared)
    if unknown:
        raise RuntimeError(f'not an argument of {path.name}: {unknown}')
    return declared


def _entities(path: Path) -> list:
    modules = {name: ModuleType(name) for name in MODULES}
    for name, members in MODULES.items():
        for member in members:
            setattr(modules[name], member.__name__, member)
    with mock.patch.dict(sys.modules, modules):
        return runpy.run_path(str(path))['generate_launch_description']().entities
