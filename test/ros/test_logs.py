import logging

from cliptrase_ros.ros.logs import library_logs_to


class Recorder:
    """A fake node whose logger keeps all lines."""

    def __init__(self):
        self.lines = []

    def get_logger(self):
        return self

    def error(self, text):
        self.lines.append(('error', text))

    def warning(self, text):
        self.lines.append(('warning', text))

    def info(self, text):
        self.lines.append(('info', text))


def test_records_go_to_the_nodes_log_and_nowhere_else(caplog):
    library, node = logging.getLogger('cliptrase_ros.model.weights'), Recorder()
    library.setLevel(logging.INFO)
    with library_logs_to(node):
        library.info('one')
        library.warning('two %s', 2)
        library.error('three')
    assert node.lines == [('info', 'one'), ('warning', 'two 2'), ('error', 'three')]
    assert not caplog.records
    library.warning('after')
    library.setLevel(logging.NOTSET)
    assert [r.getMessage() for r in caplog.records] == ['after'] and len(node.lines) == 3
