"""The result of an evaluation, as text for people and as JSON for files."""

from __future__ import annotations

import json
from typing import Any


def dumped(result: dict[str, Any]) -> str:
    """Return JSON with one line for each entry.

    An entry that is a list of lists or of objects has one line for each item.
    """
    lines = (f' {json.dumps(name)}: {_value(value)}' for name, value in result.items())
    return '{\n' + ',\n'.join(lines) + '\n}\n'


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return '[\n' + ',\n'.join(f'  {json.dumps(part)}' for part in value) + '\n ]'
    return json.dumps(value)


def text(result: dict[str, Any]) -> str:
    """Return a text with the scores, each class, and the published numbers."""
    settings = result['settings']
    head = [
        f'{result["dataset"]}{" " + result["split"] if result["split"] else ""}, '
        f'{result["measured"]} of {result["pictures"]["count"]} pictures',
        f'{settings["method"]} on {settings["model"]} ({settings["weights"]}), protocol '
        f'{settings["protocol"]}, {result["arithmetic"]} on {result["device"]}',
        '',
        f'mIoU {_percent(result["miou"])}   pixel accuracy {_percent(result["accuracy"])}   '
        f'mean class accuracy {_percent(result["class_accuracy"])}   '
        f'fwIoU {_percent(result["fwiou"])}',
    ]
    if result['unreadable']:
        head.append(f'{len(result["unreadable"])} pictures could not be read and were skipped')
    if settings['weights'] == 'random':
        head.append('The weights are random: these numbers mean nothing.')
    parts = [head, _table(result['classes']), _published(result)]
    if result['differs']:
        heading = 'Differences from the protocol or from the defaults:'
        parts.insert(1, [heading, *(f'  - {sentence}' for sentence in result['differs'])])
    return '\n\n'.join('\n'.join(part) for part in parts)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.2f} %'


def _table(classes: list[dict[str, Any]]) -> list[str]:
    width = max(len('class'), *(len(row['name']) for row in classes))
    lines = [f'{"class":{width}}      IoU  accuracy      pixels']
    for row in classes:
        iou, accuracy = _percent(row['iou']), _percent(row['accuracy'])
        lines.append(f'{row["name"]:{width}} {iou:>8}  {accuracy:>8}  {row["pixels"]:>10}')
    return lines


def _published(result: dict[str, Any]) -> list[str]:
    if not result['published']:
        return ['No published numbers are known for this method, model and data set.']
    lines = ['Published mIoU:']
    for row in result['published']:
        conditions = ', '.join(f'{name} {value}' for name, value in row['conditions'].items())
        source = f'{row["source"]}{f" ({conditions})" if conditions else ""}'
        lines.append(f'  {_percent(row["miou"])}  {source}')
        if row['differs']:
            lines.append(f'         not comparable: {"; ".join(row["differs"])}')
        else:
            lines.append('         same weights, protocol and settings, as far as known')
    return lines
