"""What the layouts for RViz and Foxglove show and call: does the node have it?"""

import json

import yaml
from cliptrase_ros.srv import SetVocabulary
from processes import ROOT, TINY, wait_for
from std_srvs.srv import SetBool

RVIZ = yaml.safe_load((ROOT / 'config' / 'cliptrase.rviz').read_text())
PANELS = json.loads((ROOT / 'config' / 'foxglove.json').read_text())['configById'].values()

SHOWN = {
    *(display['Topic']['Value'] for display in RVIZ['Visualization Manager']['Displays']),
    *(panel['imageMode']['imageTopic'] for panel in PANELS if 'imageMode' in panel),
    *(panel['topicToRender'] for panel in PANELS if 'topicToRender' in panel),
    *(panel['topicPath'] for panel in PANELS if 'topicPath' in panel),
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
    wait_for(
        lambda: CALLED.keys() <= {name for name, _ in tester.get_service_names_and_types()},
        what=f'services {sorted(CALLED)}',
        process=node,
    )


def test_requests_fit_their_services():
    types = {'/segmentation/set_vocabulary': SetVocabulary, '/segmentation/enable': SetBool}
    assert CALLED.keys() == types.keys()
    for name, request in CALLED.items():
        types[name].Request(**request)  # refuses fields and types that it does not have
