"""The node has all topics and services that the layouts for RViz and Foxglove use."""

import json
import re

import numpy as np
import pytest
import yaml
from cliptrase_ros.srv import SetVocabulary
from processes import ROOT, TINY, wait_for
from std_srvs.srv import SetBool

from cliptrase_ros.space.clouds import point_type

LAYOUTS = {file.name: yaml.safe_load(file.read_text()) for file in (ROOT / 'config').glob('*.rviz')}
DISPLAYS = [
    display
    for layout in LAYOUTS.values()
    for display in layout['Visualization Manager']['Displays']
]
OF_CAMERAS = {f'/segmentation/{camera}/overlay' for camera in ('front', 'left', 'right')}
PANELS = json.loads((ROOT / 'config' / 'foxglove.json').read_text())['configById'].values()
SCENES = [panel['topics'] for panel in PANELS if 'topics' in panel]

# The message type of each kind of display.
TYPES = {
    'rviz_default_plugins/Image': 'sensor_msgs/msg/Image',
    'rviz_default_plugins/PointCloud2': 'sensor_msgs/msg/PointCloud2',
    'rviz_default_plugins/MarkerArray': 'visualization_msgs/msg/MarkerArray',
}
DISPLAYED = {display['Topic']['Value']: TYPES[display['Class']] for display in DISPLAYS}
SHOWN = {
    *DISPLAYED,
    *(panel['imageMode']['imageTopic'] for panel in PANELS if 'imageMode' in panel),
    *(panel['topicToRender'] for panel in PANELS if 'topicToRender' in panel),
    *(panel['topicPath'] for panel in PANELS if 'topicPath' in panel),
    *(topic for topics in SCENES for topic in topics),
}
CALLED = {
    panel['serviceName']: json.loads(panel['requestPayload'])
    for panel in PANELS
    if 'serviceName' in panel
}


def test_topics_and_services_are_those_of_the_node(start, tester):
    node = start('node', TINY)
    wanted = SHOWN - {'/camera/image_raw'} - OF_CAMERAS
    wait_for(
        lambda: all(tester.count_publishers(topic) for topic in wanted),
        what=f'publishers of {sorted(wanted)}',
        process=node,
    )
    check_types(tester, wanted & DISPLAYED.keys())
    wait_for(
        lambda: CALLED.keys() <= {name for name, _ in tester.get_service_names_and_types()},
        what=f'services {sorted(CALLED)}',
        process=node,
    )


def check_types(tester, topics):
    for topic in topics:
        (publisher,) = tester.get_publishers_info_by_topic(topic)
        assert publisher.topic_type == DISPLAYED[topic]


def test_topics_of_several_cameras_are_those_of_the_node(start, tester):
    node = start('node', [*TINY, 'cameras:=["front", "left", "right"]'])
    wait_for(
        lambda: all(tester.count_publishers(topic) for topic in OF_CAMERAS),
        what=f'publishers of {sorted(OF_CAMERAS)}',
        process=node,
    )
    check_types(tester, OF_CAMERAS)


# What RViz subscribes to, so what the node has to compute.
SUBSCRIBED = {
    'cliptrase.rviz': {
        '/camera/image_raw',
        '/segmentation/overlay',
        '/segmentation/color_mask',
        '/segmentation/confidence',
    },
    'cliptrase_depth.rviz': {
        '/camera/image_raw',
        '/segmentation/overlay',
        '/segmentation/points',
        '/segmentation/objects/markers',
    },
    'cliptrase_cameras.rviz': OF_CAMERAS,
}


def docks(window):
    """Return {name of a dock: True if it is visible} of a QMainWindow State.

    In the format of QMainWindow.saveState, 0xfb is in front of a dock; then come the length of its
    name in bytes, the name in UTF-16, and flags. Bit 0 is set if the dock is visible.
    """
    state = bytes.fromhex(window['QMainWindow State'])
    assert state.startswith(bytes.fromhex('000000ff00000000fd'))
    found = re.finditer(rb'\xfb(.{4})((?:\x00[\x20-\x7e])+)(.)', state, re.DOTALL)
    names = {}
    for length, name, flags in (dock.groups() for dock in found):
        assert int.from_bytes(length, 'big') == len(name)
        names[name.decode('utf-16-be')] = bool(flags[0] & 1)
    return names


@pytest.mark.parametrize('name', LAYOUTS)
def test_rviz_subscribes_to_what_is_visible(name):
    """RViz turns a display on if its dock is visible, whatever the display's own entry says, and
    without a saved state every dock is visible."""
    layout = LAYOUTS[name]
    displays, window = layout['Visualization Manager']['Displays'], layout['Window Geometry']
    assert all(display['Enabled'] and display['Value'] for display in displays)
    assert {display['Topic']['Value'] for display in displays} == SUBSCRIBED[name]
    pictures = {d['Name'] for d in displays if d['Class'] == 'rviz_default_plugins/Image'}
    panels = {panel['Name'] for panel in layout['Panels']}
    shown = docks(window)
    assert shown.keys() == pictures | panels
    assert {dock for dock in shown if shown[dock]} == pictures


@pytest.mark.parametrize('name', LAYOUTS)
def test_rviz_folds_its_panels(name):
    """A click on the arrow at the left opens them. RViz has no default for these values."""
    layout = LAYOUTS[name]
    window = layout['Window Geometry']
    assert window['Hide Left Dock'] is True and window['Hide Right Dock'] is False
    for panel in layout['Panels']:
        assert window[panel['Name']]['collapsed'] is True


def test_requests_fit_their_services():
    types = {'/segmentation/set_vocabulary': SetVocabulary, '/segmentation/enable': SetBool}
    assert CALLED.keys() == types.keys()
    for name, request in CALLED.items():
        types[name].Request(**request)  # raises an error for unknown fields and types


def test_clouds_have_the_fields_that_colour_them():
    displays = [display for display in DISPLAYS if display['Class'].endswith('/PointCloud2')]
    clouds = [topics['/segmentation/points'] for topics in SCENES]
    assert displays and clouds
    fields = {display['Channel Name'] for display in displays}
    fields |= {cloud['colorField'] for cloud in clouds}
    fields |= {'rgb'}  # the field that RViz reads for RGB8
    assert {display['Color Transformer'] for display in displays} == {'RGB8'}
    assert fields <= set(point_type(np.dtype(np.uint8)).names)
