"""A short picture sequence drawn by the project itself: a camera pans past a table in a room."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (480, 640)
WORDS = ('floor', 'wall', 'table', 'ball', 'mug|cup', 'door')


def draw(step: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Picture number `step` of the sequence, [H, W, 3] uint8 RGB; the same on every call."""
    height, width = size
    horizon = int(0.55 * height)
    shift = step * width // 160
    noise = np.random.default_rng(step).normal(0, 4, (height, width, 1))

    image = np.empty((height, width, 3), np.float32)
    light = np.linspace(235, 205, horizon)[:, None, None]
    image[:horizon] = light * np.float32([1.0, 0.97, 0.88])
    depth = np.linspace(0.15, 1.0, height - horizon)[:, None]
    boards = ((np.arange(width) - width / 2 + shift) / (depth * 90)).astype(int) % 2
    image[horizon:] = np.where(boards[..., None] == 0, (150, 105, 65), (165, 120, 78))

    def at(x: float) -> int:
        return int(x * width) - shift

    def box(left: float, top: float, right: float, bottom: float, color) -> None:
        corner = (at(left), int(top * height)), (at(right), int(bottom * height))
        cv2.rectangle(image, *corner, color, cv2.FILLED)

    box(0.95, 0.12, 1.15, 0.58, (110, 70, 45))
    cv2.circle(image, (at(1.12), int(0.36 * height)), 6, (220, 190, 60), cv2.FILLED, cv2.LINE_AA)
    for leg in (0.30, 0.72):
        box(leg, 0.55, leg + 0.03, 0.88, (95, 60, 30))
    box(0.26, 0.50, 0.79, 0.56, (185, 135, 80))
    box(0.58, 0.40, 0.65, 0.50, (60, 110, 200))
    cv2.ellipse(
        image, (at(0.66), int(0.45 * height)), (14, 18), 0, -90, 90, (60, 110, 200), 5, cv2.LINE_AA
    )
    ball = (int((0.15 + 0.010 * step) * width) - shift, int(0.80 * height))
    cv2.circle(image, ball, height // 14, (205, 50, 45), cv2.FILLED, cv2.LINE_AA)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_sequence(folder: Path, count: int = 60) -> Path:
    """Write the pictures as PNG files into the folder, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(count):
        path = folder / f'{step:04d}.png'
        cv2.imwrite(str(path), cv2.cvtColor(draw(step), cv2.COLOR_RGB2BGR))
    return folder
