"""The examples of doc/python.md and the Python of the other pages run unchanged, and their stated
results are true.

In an example `expression  # -> text` states that str(expression) is that text. Decimal fractions
may differ by 0.03, because machines round differently. Everything else must be equal, except
spaces. `...` at the end of the text stands for any rest.
"""

import ast
import io
import re
import shutil
import tokenize
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cliptrase_ros as ct

ROOT = Path(__file__).parents[1]
PAGE = ROOT / 'doc' / 'python.md'
ARROW = '# -> '
TOLERANCE = 0.03
NUMBER = re.compile(r'-?\d+\.\d*(?:e-?\d+)?')


def blocks(text):
    """Return (number of its first line, source) of each ```python block of a page."""
    found = re.finditer(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count('\n') + 1, match[1]) for match in found]


def sections(text):
    """Return {heading: blocks} of the sections of a page that have blocks."""
    starts = [match.start() for match in re.finditer(r'^## ', text, re.MULTILINE)]
    result = {}
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        above = text[:start].count('\n')
        own = [(above + line, source) for line, source in blocks(text[start:end])]
        if own:
            result[text[start:].partition('\n')[0][3:]] = own
    return result


def agrees(text, value):
    """Return whether a value agrees with the text after an arrow."""
    said, came = text.strip(), ' '.join(str(value).split())
    if said.endswith('...'):
        said = said[:-3].rstrip()
        # Compare only as much of the value as the text states.
        pattern = '.*?'.join(re.escape(part) for part in NUMBER.split(said))
        match = re.match(pattern, came)
        came = match[0] if match else came
    if NUMBER.split(said) != NUMBER.split(came):
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(came), strict=True)
    return all(abs(float(one) - float(two)) <= TOLERANCE for one, two in pairs)


class Instrument(ast.NodeTransformer):
    """A transformer that passes the expressions before an arrow to `_says`."""

    def __init__(self, arrows):
        self.left = set(arrows)

    def visit_Expr(self, node):
        if node.end_lineno in self.left:
            self.left.remove(node.end_lineno)
            line = ast.Constant(node.end_lineno)
            call = ast.Call(ast.Name('_says', ast.Load()), [line, node.value], [])
            node.value = ast.copy_location(call, node.value)
        return node


def execute(source, namespace, file='example', line=1):
    """Run a block that begins at this line of the file."""
    source = '\n' * (line - 1) + source
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [t for t in tokens if t.type == tokenize.COMMENT and t.string.startswith(ARROW)]
    arrows = {t.start[0]: t.string.removeprefix(ARROW) for t in comments}
    tree = ast.parse(source, file)
    instrument = Instrument(arrows)
    tree = ast.fix_missing_locations(instrument.visit(tree))
    assert not instrument.left, f'{file}: no expression before the arrow of {instrument.left}'
    reached = set()

    def says(number, value):
        reached.add(number)
        assert agrees(arrows[number], value), (
            f'{file}, line {number}: {arrows[number]!r} is {value!s}'
        )

    namespace['_says'] = says
    exec(compile(tree, file, 'exec'), namespace)
    assert reached == set(arrows), f'{file}: never reached: {set(arrows) - reached}'


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3', 3),
        ('0.95', 0.9612),
        ('(240, 320)', (240, 320)),
        ("['a', 'b']", ['a', 'b']),
        ('no such ...', 'no such thing'),
        ('at 0.50 of ...', 'at 0.51 of 7 and 1.2'),
        ('nan', float('nan')),
    ],
)
def test_arrows_that_agree(text, value):
    assert agrees(text, value)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3', 4),
        ('0.95', 0.99),
        ('0.95', 1),
        ('(240, 320)', (240, 321)),
        ("['a']", ['a', 'b']),
        ('no such ...', 'none such thing'),
        ('at 0.50 of ...', 'at 0.54 of 7'),
        ('at 0.50 of ...', 'at'),
    ],
)
def test_arrows_that_do_not(text, value):
    assert not agrees(text, value)


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        ('1 + 1  # -> 3', "line 7: '3' is 2"),
        ('if True:\n    max(\n        1, 2\n    )  # -> 1', "line 10: '1' is 2"),
        ('x = 1  # -> 1', 'no expression before the arrow of {7}'),
        ('# -> 1', 'no expression before'),
        ('if False:\n    1  # -> 1', 'never reached: {8}'),
    ],
)
def test_wrong_examples_fail(source, reason):
    with pytest.raises(AssertionError) as caught:
        execute(source, {}, 'page', 7)
    assert reason in str(caught.value)


def put_files(folder):
    """Copy the files that the pages use."""
    for file in ROOT.glob('doc/room*'):
        shutil.copy(file, folder)
    Image.open(ROOT / 'doc' / 'room.jpg').resize((640, 480)).save(folder / 'kitchen.jpg')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Run the example in its own working folder."""
    put_files(tmp_path)
    monkeypatch.chdir(tmp_path)


SECTIONS = sections(PAGE.read_text())


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """Return the names that the first section of the page defines."""
    namespace, folder = {}, tmp_path_factory.mktemp('first')
    put_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line, source in next(iter(SECTIONS.values())):
            execute(source, namespace, str(PAGE), line)
    return namespace


@pytest.mark.parametrize('heading', SECTIONS)
def test_section(heading, first, folder):
    """Each section needs only the first one."""
    namespace = dict(first)
    for line, source in SECTIONS[heading]:
        if 'World(' in source:
            pytest.importorskip('pybullet')
        execute(source, namespace, str(PAGE), line)


def test_the_picture_of_the_page(first, folder):
    """The picture is what the example of the page draws."""
    namespace = dict(first)
    for line, source in SECTIONS['Features, heat maps, clusters']:
        execute(source, namespace, str(PAGE), line)
    drawn, shown = (
        np.asarray(Image.open(file)).astype(float)
        for file in ('python.jpg', PAGE.parent / 'python.jpg')
    )
    assert np.abs(drawn - shown).mean() < 3


TABLE_ROW = re.compile(r'^\| `(\S+?)` \|', re.MULTILINE)


def test_the_names_of_the_page():
    text = PAGE.read_text().partition('## The names')[2]
    rows = TABLE_ROW.findall(text)
    public = [name.removeprefix('ct.') for name in rows if name.startswith('ct.')]
    assert sorted(public) == sorted(ct.__all__)
    assert len(public) == len(rows)
    for module, names in re.findall(r'^\| `ct\.([a-z]+)` \| .+: (`.+`) \|$', text, re.MULTILINE):
        for name in re.findall(r'`(\w+)`', names):
            value = getattr(getattr(ct, module), name)
            assert getattr(value, '__doc__', None), f'ct.{module}.{name} has no docstring'


def test_the_page_imports_no_module_of_the_package():
    code = '\n'.join(source for _, source in blocks(PAGE.read_text()))
    assert set(re.findall(r'.*\bcliptrase_ros.*', code)) == {'import cliptrase_ros as ct'}


def test_the_examples_leave_no_section_out():
    headings = re.findall(r'^## (.+)$', PAGE.read_text(), re.MULTILINE)
    assert set(headings) - set(SECTIONS) == {'The names'}


# Other pages. They use the real CLIP, whose weights may be missing here: the demo's model replaces
# it.


def with_demo_model(source):
    return re.sub(
        r'ct\.Settings\((?!\*|.*?(?:model|weights)=)',
        "ct.Settings(model='cliptrase-demo', weights='demo', ",
        source,
    ).replace('ct.load()', "ct.load(ct.Settings(model='cliptrase-demo', weights='demo'))")


def test_the_stand_in():
    demo = "ct.Settings(model='cliptrase-demo', weights='demo', "
    assert with_demo_model("ct.Settings(method='clip')") == f"{demo}method='clip')"
    assert with_demo_model('ct.load()') == f'ct.load({demo[:-2]}))'
    for kept in ("ct.Settings(model='m')", 'ct.Settings(**SETTINGS)'):
        assert with_demo_model(kept) == kept


OTHERS = [
    file
    for file in sorted({*ROOT.glob('*.md'), *ROOT.glob('doc/*.md')} - {PAGE})
    if blocks(file.read_text())
]


@pytest.mark.parametrize('file', OTHERS, ids=lambda file: file.name)
def test_other_pages(file, folder):
    """The blocks of a page run in order; each has the names of the blocks before it."""
    namespace = {}
    for line, source in blocks(file.read_text()):
        if 'World(' in source:
            pytest.importorskip('pybullet')
        execute(with_demo_model(source), namespace, str(file), line)


def test_the_readme_shows_the_library():
    assert ROOT / 'README.md' in OTHERS
