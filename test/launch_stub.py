"""Stubs of the classes of ROS's launch that our launch files use; pip does not have that package.

`load` runs a launch file with the stubs and returns the processes that it would start.
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
class LaunchConfiguration:
    variable_name: str


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: str | list
    description: str
    choices: list | None = None

    def default(self, context) -> str:
        """Return the default with the values of other arguments filled in."""
        return ''.join(
            context.launch_configurations[part.variable_name]
            if isinstance(part, LaunchConfiguration)
            else part
            for part in self.default_value
        )


@dataclass
class IncludeLaunchDescription:
    source: str
    launch_arguments: Iterable[tuple[str, str]] = ()


@dataclass
class PushLaunchConfigurations:
    pass


@dataclass
class ResetLaunchConfigurations:
    launch_configurations: dict


@dataclass
class PopLaunchConfigurations:
    pass


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
    ros_arguments: list
    output: str
    emulate_tty: bool
    remappings: list = field(default_factory=list)
    arguments: list = field(default_factory=list)
    # The environment variables that the launch files have set before this node.
    environment: dict = field(default_factory=dict)

    def argv(self) -> list:
        """Return the arguments of the process in launch_ros's order. A dict stands for a parameters
        file with its content."""
        namespace = self.namespace if self.namespace.startswith('/') else f'/{self.namespace}'
        argv = [*self.arguments, '--ros-args', *self.ros_arguments, '--ros-args']
        argv += ['-r', f'__node:={self.name}', '-r', f'__ns:={namespace}']
        for parameters in self.parameters:
            argv += ['--params-file', parameters]
        for name, new in self.remappings:
            argv += ['-r', f'{name}:={new}']
        return argv


def get_package_prefix(package: str) -> str:
    """Return the prefix where the package would be installed; it need not exist."""
    return '/opt/ros'


def get_package_share_directory(package: str) -> str:
    """Return the folder where the package would be installed; it need not exist."""
    return f'/opt/ros/share/{package}'


MODULES = {
    'ament_index_python': [],
    'ament_index_python.packages': [get_package_prefix, get_package_share_directory],
    'launch': [LaunchDescription],
    'launch.actions': [
        DeclareLaunchArgument,
        IncludeLaunchDescription,
        OpaqueFunction,
        PopLaunchConfigurations,
        PushLaunchConfigurations,
        ResetLaunchConfigurations,
        SetEnvironmentVariable,
    ],
    'launch.substitutions': [LaunchConfiguration],
    'launch_ros': [],
    'launch_ros.actions': [Node],
}


@dataclass
class Launch:
    """The declared arguments of a launch file, and what it starts with the given values."""

    # Includes the arguments of included files, as --show-args lists them.
    declared: dict[str, DeclareLaunchArgument]
    nodes: dict[str, Node]
    # {package/file: arguments} of the launch files of other packages; these files are not read.
    foreign: dict[str, dict[str, str]]
    environment: dict[str, str]


def load(path: Path, environment: dict[str, str] | None = None, **values: str) -> Launch:
    """Run the launch file as `ros2 launch PATH name:=value ...` would, but start no processes."""
    context = SimpleNamespace(launch_configurations={}, environment=dict(environment or {}))
    launch = Launch({}, {}, {}, context.environment)
    launch.declared = _run(path, values, context, launch)
    return launch


def _run(path: Path, values: dict[str, str], context: SimpleNamespace, launch: Launch) -> dict:
    """Run a launch file in launch's order (depth first); return the declared arguments."""
    declared, saved = {}, []
    context.launch_configurations.update(values)  # shared by all files, as in launch
    entities = _entities(path)
    pending = list(entities)
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, DeclareLaunchArgument):
            declared.setdefault(entity.name, entity)
            default = entity.default(context)
            value = context.launch_configurations.setdefault(entity.name, default)
            if entity.choices and value not in entity.choices:
                raise RuntimeError(f'{entity.name}: {value!r} is not one of {entity.choices}')
        elif isinstance(entity, IncludeLaunchDescription):
            source, arguments = Path(entity.source), dict(entity.launch_arguments)
            if source.parent != path.parent:
                name = f'{source.parents[1].name}/{source.name}'
                launch.foreign[name] = {**context.launch_configurations, **arguments}
                continue
            inner = _run(source, arguments, context, launch)
            if any(entity is own for own in entities):  # --show-args runs no functions
                declared = {**inner, **declared}
        elif isinstance(entity, OpaqueFunction):
            pending[:0] = entity.function(context) or []
        elif isinstance(entity, SetEnvironmentVariable):
            context.environment[entity.name] = entity.value
        elif isinstance(entity, PushLaunchConfigurations):
            saved.append(context.launch_configurations)
        elif isinstance(entity, ResetLaunchConfigurations):
            context.launch_configurations = dict(entity.launch_configurations)
        elif isinstance(entity, PopLaunchConfigurations):
            context.launch_configurations = saved.pop()
        else:
            entity.environment = dict(context.environment)
            launch.nodes[entity.name] = entity
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
