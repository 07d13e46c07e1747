"""The node has all topics and services that the layouts for RViz and Foxglove use."""

import json

import numpy as np
import yaml
from cliptrase_ros.srv import SetVocabulary
from processes import ROOT, TINY, wait_for
from std_srvs.srv import SetBool

from cliptrase_ros.space.clouds import point_type

DISPLAYS = [
    display
    for file in (ROOT / 'config').glob('*.rviz')
    for display in yaml.safe_load(file.read_text())['Visualization Manager']['Displays']
]
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
    wanted = SHOWN - {'/camera/image_raw'}
    wait_for(
        lambda: all(tester.count_publishers(topic) for topic in wanted),
        what=f'publishers of {sorted(wanted)}',
        process=node,
    )
    for topic in wanted & DISPLAYED.keys():
        (publisher,) = tester.get_publishers_info_by_topic(topic)
        assert publisher.topic_type == DISPLAYED[topic]
    wait_for(
        lambda: CALLED.keys() <= {name for name, _ in tester.get_service_names_and_types()},
        what=f'services {sorted(CALLED)}',
        process=node,
    )


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
