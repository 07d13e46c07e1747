"""What /diagnostics says of the node: counters, rates, times, and one sentence on its health."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from .worker import Statistics

ACTIVATED = 'activated'
RECEIVED = 'received'
PUBLISHED = 'published'
DROPPED_FOR_NEWER = 'dropped: a newer image came'
DROPPED_BAD_IMAGE = 'dropped: bad image'
DROPPED_ERROR = 'dropped: error'
VOCABULARY_ERRORS = 'vocabulary errors'
INFERENCE = 'inference'
FROM_RECEIPT = 'receipt to publish'
FROM_STAMP = 'stamp to publish'

SILENCE_S = 5.0
ERROR_SHOWN_S = 10.0


def health(
    statistics: Statistics, topic: str | None, publishers: int, last_error: str
) -> tuple[bytes, str]:
    """(level, sentence).

    Args:
        topic: the image topic listened to, or None while the node is not active.
        publishers: how many publishers it has.
        last_error: text of the last error.
    """
    if min(map(statistics.age, (DROPPED_ERROR, VOCABULARY_ERRORS))) < ERROR_SHOWN_S:
        return DiagnosticStatus.ERROR, last_error
    if topic is None:
        return DiagnosticStatus.OK, 'not active'
    if min(map(statistics.age, (RECEIVED, ACTIVATED))) > SILENCE_S:
        return DiagnosticStatus.STALE, (
            f'no image on {topic} for {SILENCE_S:.0f} s; it has {publishers} publisher(s)'
        )
    if statistics.age(DROPPED_BAD_IMAGE) < SILENCE_S:
        return DiagnosticStatus.WARN, 'images arrive that cannot be read; see the log'
    return DiagnosticStatus.OK, 'segmenting'


def status(
    name: str, statistics: Statistics, health: tuple[bytes, str], facts: dict[str, object]
) -> DiagnosticStatus:
    """The status message: counters, rates over 5 s, times over the last 100 frames, the facts."""
    values: dict[str, object] = dict(statistics.counts())
    for event in (RECEIVED, PUBLISHED):
        values[f'{event} Hz'] = f'{statistics.rate(event):.1f}'
    for times in (INFERENCE, FROM_RECEIPT, FROM_STAMP):
        quantiles = statistics.quantiles_ms(times)
        for quantile, value in zip(('p50', 'p95', 'max'), quantiles or (), strict=False):
            values[f'{times} {quantile} ms'] = f'{value:.1f}'
    values.update(facts)
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    level, text = health
    return DiagnosticStatus(level=level, name=name, message=text, values=pairs)
