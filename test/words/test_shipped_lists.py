"""The vocabularies in config/vocabularies: the node must accept them."""

from pathlib import Path

import pytest
import yaml

from cliptrase_ros.ros.topic_names import topic_name
from cliptrase_ros.words.templates import TEMPLATES
from cliptrase_ros.words.vocabulary import Ids, parse_vocabulary

FILES = sorted((Path(__file__).parents[2] / 'config' / 'vocabularies').iterdir())
MONO8_MAX_ID = 254
CONTEXT = 77  # tokens that CLIP's text encoder reads


def parameters(file):
    """Return the parameters that the file sets for every node."""
    (node, content), *others = yaml.safe_load(file.read_text()).items()
    assert node == '/**' and not others
    return content['ros__parameters']


def words(file):
    given = parameters(file)
    # An empty list has no type in ROS, so [''] means no background.
    background = [word for word in given['background'] if word]
    return parse_vocabulary(given['vocabulary'], background, Ids(largest=MONO8_MAX_ID))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    return request.param


def test_names():
    assert [file.name for file in FILES] == [
        *('ade150.yaml', 'indoor.yaml', 'kitchen.yaml', 'outdoor.yaml', 'warehouse.yaml')
    ]


def test_only_words_are_set(file):
    given = parameters(file)
    assert given.keys() == {'vocabulary', 'background'}
    for value in given.values():
        assert value and all(isinstance(entry, str) for entry in value)


def test_the_node_takes_the_words(file):
    classes, _ = words(file)
    assert len(classes) >= 40


def test_names_of_topics_differ(file):
    classes, _ = words(file)
    topics = [topic_name(c.name) for c in classes]
    assert all(topics) and len(set(topics)) == len(topics)


def test_every_sentence_fits(file):
    tokenize = pytest.importorskip('open_clip').get_tokenizer(
        'ViT-B-16', context_length=2 * CONTEXT
    )
    classes, background = words(file)
    for word in [*background, *(prompt for c in classes for prompt in c.prompts)]:
        for templates in TEMPLATES.values():
            tokens = tokenize([template.format(word) for template in templates])
            assert int((tokens != 0).sum(1).max()) <= CONTEXT, word


def test_ade150_has_the_numbers_of_the_benchmark():
    """Ids 1 .. 150 in the order of the benchmark. Some of them are spelled out below."""
    classes, background = words(FILES[0])
    assert [c.id for c in classes] == list(range(1, 151))
    assert not background
    known = {
        1: 'wall',
        13: 'person',
        20: 'chair',
        51: 'refrigerator',
        90: 'television',
        150: 'flag',
    }
    assert {number: classes[number - 1].name for number in known} == known
