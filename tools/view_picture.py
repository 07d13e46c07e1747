"""Make doc/view.jpg: the page of `cliptrase view demo`, in Chromium without a graphics card.

Run in the root of the repository, after `make setup`: python tools/view_picture.py
"""

import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path('doc/view.jpg')
LIGHT = ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
# A port that the command's users do not have.
COMMAND = ['-m', 'cliptrase_ros.cli', 'view', 'demo', '--device', 'cpu', '--json', '--port', '8777']


def main():
    process = subprocess.Popen([sys.executable, *COMMAND], stdout=subprocess.PIPE, text=True)
    try:
        address = json.loads(process.stdout.readline())['address']
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which('chromium'), args=LIGHT
            )
            page = browser.new_page(viewport={'width': 1280, 'height': 800})
            page.goto(address)
            # The note about the missing graphics card.
            page.locator('.mantine-Notification-closeButton').first.click()
            page.get_by_text('%').nth(4).wait_for(timeout=120_000)
            page.wait_for_timeout(3000)  # a note fades away, and the picture follows the numbers
            halves = [Image.open(io.BytesIO(page.screenshot()))]
            page.get_by_role('combobox', name='Show', exact=True).click()
            page.get_by_role('option', name='points in 3D').click()
            page.wait_for_timeout(6000)  # the points are drawn slowly
            halves.append(Image.open(io.BytesIO(page.screenshot())))
            browser.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    both = Image.new('RGB', (1280, 1608), 'white')
    for number, half in enumerate(halves):
        both.paste(half, (0, 808 * number))
    both.save(PICTURE, quality=85, optimize=True)


if __name__ == '__main__':
    main()
