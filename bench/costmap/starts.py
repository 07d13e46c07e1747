"""`bench/costmap starts`: a costmap in each order of starts, many times."""

import itertools
import random
import time
from collections import Counter
from contextlib import contextmanager

import torch
from cells import layer_parameters
from cliptrase_ros.srv import SetVocabulary
from processes import ANSWER_S, NODES, Died, Trouble, wait

from cliptrase_ros.demo.things import CLASSES
from cliptrase_ros.evaluation import timing

# A costmap must have cells this long after it and the node are up, or so many images later if that
# takes longer.
CELLS_S, CELLS_IMAGES = 5.0, 10
STRANGERS_S = 5.0
RATE_S = 10.0
PAUSE_S = 1.0
CHANGE_S = 0.3
WORDS = list(CLASSES), list(CLASSES[: len(CLASSES) // 2])
STRANGERS = ['ladder'], ['couch', 'lamp']


def starts(setup, options):
    """Print a table with a row for each order."""
    words, camera = NODES[options.node]
    setup.start_world(seed=options.seed, scene_s='none', **camera)
    lead = {} if options.lead is None else {'points.label_info_lead_s': options.lead}
    setup.listen(beside=not options.alone)
    setup.start_node(**words, **lead)
    rate_hz = setup.rate_hz(RATE_S)
    setup.cells_s = max(CELLS_S, CELLS_IMAGES / max(rate_hz, 1 / RATE_S))
    print(timing.hardware(torch.device('cpu')))
    print(f'\nNode: {options.node}, labels at {rate_hz:.1f} Hz; {options.count} starts per order\n')
    print('| order | starts | died | wrong otherwise | s per start | what was wrong |')
    print('|---|---|---|---|---|---|', flush=True)
    chance = random.Random(options.seed)
    for letter in options.orders:
        order, began = ORDERS[letter], time.monotonic()
        found = [_outcome(order, setup, chance, number) for number in range(options.count)]
        each_s = (time.monotonic() - began) / options.count
        died = sum(isinstance(trouble, Died) for trouble in found)
        wrong = sum(trouble is not None for trouble in found) - died
        what = ', '.join(f'{n} x {t}' for t, n in Counter(map(str, filter(None, found))).items())
        name = order.__doc__.split('.')[0]
        row = f'{letter}: {name}', options.count, died, wrong, f'{each_s:.1f}', what
        print('| ' + ' | '.join(map(str, row)) + ' |', flush=True)


def _outcome(order, setup, chance, number):
    """Return the trouble of one start, or None."""
    try:
        order(setup, lambda: time.sleep(chance.uniform(0, PAUSE_S)), number)
    except Trouble as trouble:
        return trouble
    return None


def _cells(setup, costmap):
    """Wait for cells. Raise Trouble if none come, Died if the costmap dies."""
    if not wait(lambda: setup.has_cells(costmap), setup.cells_s):
        raise Trouble('no cells')


def _new_cells(setup, costmap):
    """Do the same for cells of images that come from now on."""
    decay_s = setup.layer['camera']['tile_map_decay_time']
    _live(setup, costmap, decay_s + 0.5)
    costmap.clear()
    _cells(setup, costmap)


def _live(setup, costmap, seconds):
    def dead():
        setup.check()
        costmap.process.check()

    wait(dead, seconds)


@contextmanager
def _up(setup, pause):
    """Yield a costmap that has cells, beside a node that is up."""
    with setup.costmap() as costmap:
        costmap.change('configure')
        pause()
        costmap.change('activate')
        _cells(setup, costmap)
        yield costmap


def node_first(setup, pause, number):
    """The node first, the costmap later."""
    with _up(setup, pause):
        pass


def costmap_first(setup, pause, number):
    """The costmap first, the node later."""
    setup.stop_node()
    with setup.costmap() as costmap:
        try:
            costmap.change('configure', 'activate')
            pause()
        finally:
            setup.restart_node()
        _cells(setup, costmap)


def node_restarted(setup, pause, number):
    """Both are up, the node restarts."""
    with _up(setup, pause) as costmap:
        setup.stop_node()
        try:
            pause()
            _live(setup, costmap, setup.layer['camera']['tile_map_decay_time'])
            costmap.clear()
        finally:
            setup.restart_node()
        _cells(setup, costmap)


def reactivated(setup, pause, number):
    """Both are up, the costmap is deactivated and activated."""
    with _up(setup, pause) as costmap:
        costmap.change('deactivate')
        pause()
        costmap.change('activate')
        _new_cells(setup, costmap)


def reconfigured(setup, pause, number):
    """Both are up, the costmap is also cleaned up and configured."""
    with _up(setup, pause) as costmap:
        costmap.change('deactivate', 'cleanup')
        costmap.costs = None
        costmap.change('configure')
        pause()
        costmap.change('activate')
        _cells(setup, costmap)


def comes_and_goes(setup, pause, number):
    """A costmap comes and goes. Every second one is killed, every tenth must have cells."""
    with setup.costmap() as costmap:
        costmap.change('configure', 'activate')
        pause()
        if number % 10 == 9:
            _cells(setup, costmap)
        costmap.process.check()
        if number % 2:
            costmap.process.kill()


def words_change(setup, pause, number):
    """The words change while the costmap starts."""
    client = setup.node.create_client(SetVocabulary, '/segmentation/set_vocabulary')
    lists, asked = itertools.cycle(WORDS), []

    def change():
        if not asked or asked[-1].done():
            asked.append(client.call_async(SetVocabulary.Request(prompts=next(lists))))

    timer = setup.node.create_timer(CHANGE_S, change)
    try:
        with setup.costmap() as costmap:
            costmap.change('configure')
            pause()
            costmap.change('activate')
            pause()
            timer.cancel()  # while words change, a slow node publishes nothing
            _cells(setup, costmap)
    finally:
        setup.node.destroy_timer(timer)
        wait(lambda: all(future.done() for future in asked), ANSWER_S)
        setup.node.destroy_client(client)
    if not asked or not all(future.done() and future.result().success for future in asked):
        raise SystemExit(f'the words were not changed: {len(asked)} requests')


def strangers(setup, pause, number):
    """The costmap knows none of the node's words. It must live, and have no cells."""
    with setup.costmap(layer_parameters(setup.shipped, *STRANGERS, {})) as costmap:
        costmap.change('configure')
        pause()
        costmap.change('activate')
        _live(setup, costmap, STRANGERS_S)
        if costmap.has_cells:
            raise Trouble('cells without a known word')


ORDERS = dict(
    zip(
        'abcdefgh',
        (
            node_first,
            costmap_first,
            node_restarted,
            reactivated,
            reconfigured,
            comes_and_goes,
            words_change,
            strangers,
        ),
        strict=True,
    )
)
