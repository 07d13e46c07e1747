"""The pages: links and paths exist, and the claims of the quality declaration are true."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('doc/*.md')])
MANIFEST = ET.parse(ROOT / 'package.xml').getroot()

CODE = re.compile(r'^(`{3,}).*?^\1$|(`+)(?!`).+?(?<!`)\2(?!`)', re.MULTILINE | re.DOTALL)
FENCED = re.compile(r'^(`{3,}).*?^\1$', re.MULTILINE | re.DOTALL)
INLINE = re.compile(r'\]\(\s*<?([^\s)>]+)')
DEFINED = re.compile(r'^\[([^\]]+)\]:\s*(\S+)', re.MULTILINE)
REFERRED = re.compile(r'\]\[([^\]]+)\]')


def targets(text):
    """Return the targets of a page's links, including pictures."""
    text = CODE.sub('', text)
    return INLINE.findall(text) + [target for _, target in DEFINED.findall(text)]


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = []
    for heading in re.findall(r'^#{1,6} +(.+?) *#*$', FENCED.sub('', text), re.MULTILINE):
        heading = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
        anchor = re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        twin = sum(re.fullmatch(rf'{re.escape(anchor)}(-\d+)?', one) is not None for one in found)
        found.append(f'{anchor}-{twin}' if twin else anchor)
    return found


def broken(page, text):
    """Return the relative links of a page whose target does not exist."""
    result = []
    for target in targets(text):
        if re.match(r'[a-z]+:', target):
            continue
        path, _, anchor = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        inside = file.is_relative_to(ROOT) and file.exists()
        other = (
            text if file == page else file.read_text() if file.suffix == '.md' and inside else ''
        )
        if not inside or (anchor and anchor not in anchors(other)):
            result.append(target)
    return result


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links(page):
    text = page.read_text()
    assert not broken(page, text)
    defined = {name.lower() for name, _ in DEFINED.findall(text)}
    assert {name.lower() for name in REFERRED.findall(CODE.sub('', text))} <= defined


def test_links_that_lead_nowhere():
    text = (
        '# One `two`, three!\n## Same\n## Same\n'
        '[a](doc/no.md) [b](#none) ![c](doc/demo.png) [d](doc/demo.md#none) [e](../../../etc)\n'
        '[f](LICENSE) [g](#one-two-three) [h](#same-1) [i](https://x.y/z) `[j](no.md)` [k][l]\n'
        '```\n[m](no.md)\n# no heading\n```\n\n[l]: no/where.md\n[n]: doc/demo.md#the-model\n'
    )
    wrong = ['doc/no.md', '#none', 'doc/demo.png', 'doc/demo.md#none', '../../../etc']
    assert broken(ROOT / 'README.md', text) == [*wrong, 'no/where.md']
    assert anchors(text) == ['one-two-three', 'same', 'same-1']


DECLARATION = ROOT / 'QUALITY_DECLARATION.md'
PATH = re.compile(r'`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|rst|xml|py|toml))`')


@pytest.mark.parametrize('page', ['CONTRIBUTING.md', DECLARATION.name])
def test_paths_that_are_named(page):
    named = PATH.findall((ROOT / page).read_text())
    assert len(named) > 10
    missing = {path for path in named if not (ROOT / path).exists()}
    # golden/ is a folder next to a clone, not in it. Names in capitals are placeholders.
    assert missing <= {'golden/', 'test/ROOM/test_MODULE.py'}


def section(number):
    """Return the text under the heading of the declaration that ends in [number]."""
    text = DECLARATION.read_text()
    found = re.search(rf'^#+ .*\[{re.escape(number)}\]$\n(.*?)(?=^#)', f'{text}\n#', re.M | re.S)
    return ' '.join(found[1].split())


def test_the_declaration_has_the_points_of_the_rep():
    """The declaration has the points of the template in the REP, in the same order."""
    numbers = '1 1.i 1.ii 1.iii 1.iv 1.vi 1.v 1.vi 2 2.i 2.ii 2.iii 2.iv 2.v 3 3.i 3.ii 3.iii 3.iv'
    numbers += ' 3.v.c 4 4.i 4.ii 4.iii 4.iv 4.v 5 5.i 5.ii 5.iii 6 7 7.i'
    headings = re.findall(r'^#{2,3} .*$', DECLARATION.read_text(), re.MULTILINE)
    assert re.findall(r'\[([\w.]+)\]', ' '.join(headings)) == numbers.split()


def test_the_declared_version_and_licence():
    version = MANIFEST.findtext('version')
    assert f'the version is {version}' in section('1.ii') and version.startswith('0.')
    assert MANIFEST.findtext('license') == 'Apache-2.0' and 'Apache-2.0' in section('3.iii')


def test_the_declared_lack_of_a_copyright_statement():
    """If a copyright statement is added, the declaration must say so."""
    sources = [*ROOT.glob('cliptrase_ros/**/*.py'), *ROOT.glob('launch/*.py'), ROOT / 'setup.py']
    assert MANIFEST.find('author') is None and section('3.iv').startswith('**None**')
    assert not any(re.search(r'copyright', file.read_text(), re.I) for file in sources)
    assert not list(ROOT.glob('NOTICE*'))


def test_the_declared_dependencies():
    tags = {'depend', 'exec_depend'}
    ros = {tag.text for tag in MANIFEST if tag.tag in tags and not tag.text.startswith('python3-')}
    assert set(re.findall(r'[a-z]\w+', section('5.i').partition(':')[2].partition('.')[0])) == ros
    lines = (ROOT / 'requirements' / 'runtime.txt').read_text().splitlines()
    others = {re.match(r'[\w-]+', line)[0] for line in lines if line and line[0] != '#'}
    named = section('5.iii').partition(': ')[2].partition('.')[0]
    assert set(named.split(', ')) == others


def test_the_declared_checks():
    """The claims about CI and lint are true in their files."""
    workflow = (ROOT / '.github' / 'workflows' / 'ros.yml').read_text()
    assert 'push:' in workflow and 'pull_request:' in workflow and '.ci/run' in workflow
    declared = re.findall('Jazzy|Humble|Kilted', section('2.iv'))
    assert len(declared) == 3 and all(name.lower() in workflow for name in declared)
    assert 'make lint' in (ROOT / '.ci' / 'run').read_text()
    assert re.search(r"'ruff==[\d.]+'", (ROOT / 'setup.py').read_text())
