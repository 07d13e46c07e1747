"""The hint that CLIP reads English."""

# ruff: noqa: RUF001 (letters of other scripts are the subject)

import random

import pytest
from text_towers import TOKENIZER, make_model

from cliptrase_ros import cli
from cliptrase_ros.model.text import TextEncoder
from cliptrase_ros.words import check, lists
from cliptrase_ros.words.vocabulary import parse_vocabulary

GERMAN = """
Stuhl Tisch Boden Wand Decke Fenster Tür Lampe Schrank Regal Buch Tasse Teller Gabel
Messer Löffel Flasche Glas Kühlschrank Herd Spüle Waschbecken Handtuch Bett Kissen Teppich Vorhang
Spiegel Bild Uhr Straße Gehweg Auto Fahrrad
"""
SPANISH = """
silla mesa suelo pared techo ventana puerta lámpara armario estante libro taza plato
tenedor cuchillo cuchara botella vaso nevera fregadero toalla cama almohada alfombra cortina espejo
cuadro reloj ordenador pantalla teclado ratón árbol
"""
FRENCH = """
chaise table sol mur plafond fenêtre porte lampe armoire étagère livre tasse assiette
fourchette couteau cuillère bouteille verre réfrigérateur évier serviette lit oreiller tapis rideau
miroir tableau horloge ordinateur écran poubelle arbre trottoir
"""


@pytest.fixture(scope='module')
def text():
    return TextEncoder(make_model(), TOKENIZER)


@pytest.mark.parametrize('name', ['ade150', 'indoor', 'kitchen', 'outdoor', 'warehouse'])
def test_the_lists_of_the_package_are_english(text, name):
    entries, background = lists.read_words(name)
    classes, background = parse_vocabulary(entries, background)
    prompts = [*(p for c in classes for p in c.prompts), *background]
    assert check.not_english(prompts, text) == ''
    for seed in range(50):
        assert check.not_english(random.Random(seed).sample(prompts, 8), text) == ''


@pytest.mark.parametrize(
    'words',
    [
        ['robot dog', 'r2d2', 'fire-extinguisher', 'iRobot Roomba', 'KUKA', 'turtlebot', 'IKEA'],
        ['teal', 'ochre', 'mauve', 'vermilion', 'cerulean', 'chartreuse', 'taupe'],
        ['café', 'crème brûlée', 'jalapeño', 'façade', 'table', 'chair', 'Škoda'],
        ['screwdriver', 'hacksaw', 'chisel', 'caliper', 'multimeter', 'oscilloscope', 'pliers'],
        ['µSD card', '50 % grey', 'H₂O bottle', '5 Å', 'no. 1º', 'ｃｈａｉｒ', '🚗', '№ 5'],
        ['Löffel', 'Tür', 'Straße', 'Kühlschrank'],
    ],
)
def test_names_colours_signs_and_few_words_are_not_reported(text, words):
    assert check.not_english(words, text) == '' == check.not_english(words)


@pytest.mark.parametrize(
    'word',
    ['椅子', 'стул', 'كرسي', 'कुर्सी', 'καρέκλα', '의자', 'כיסא', 'いす', '\u0441hair', '犬 dog'],
)
def test_a_letter_of_another_script_is_enough(text, word):
    for encoder in (text, None):
        sentence = check.not_english(['floor', word, 'mug'], encoder)
        assert sentence.startswith('CLIP reads English, and these words have letters of other')
        assert f': {word}; translate' in sentence


@pytest.mark.parametrize('words', [GERMAN, SPANISH, FRENCH])
def test_a_list_of_another_language(text, words):
    words = words.split()
    sentence = check.not_english(words, text)
    assert f' of {len(words)} words' in sentence and 'some have accents' in sentence
    accented = [word for word in words if not word.isascii()]
    assert accented[0] in sentence
    found = [bool(check.not_english(random.Random(n).sample(words, 20), text)) for n in range(100)]
    assert sum(found) > 75
    # Without the tokenizer, nothing is known.
    assert check.not_english(words) == ''


def test_many_words_are_counted(text):
    assert ' and 3 more; translate' in check.not_english([f'стул {n}' for n in range(8)], text)


class Multilingual:
    """A tokenizer of the hub, which is not made from English."""

    def __call__(self, texts):
        return TOKENIZER(texts)


def test_a_multilingual_tokenizer_reads_them():
    encoder = TextEncoder(make_model(), Multilingual())
    assert check.not_english(['椅子', *GERMAN.split()], encoder) == ''


TINY = ['--model', 'cliptrase-tiny', '--weights', 'random', '--device', 'cpu']


@pytest.mark.parametrize('options', [TINY, ['--check-only']])
def test_the_command_says_it_once(capsys, options):
    assert cli.main(['words', '--words', 'floor', 'стул', '--background', '壁', *options]) == 0
    error = capsys.readouterr().err
    assert error.count('CLIP reads English') == 1 and ': стул, 壁; translate' in error
    assert cli.main(['words', '--words', 'floor', 'стул=chair', *options]) == 0
    assert 'CLIP reads English' not in capsys.readouterr().err
