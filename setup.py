"""`pip install .`: the library and the `cliptrase` command, without ROS.

In a ROS workspace colcon uses package.xml and CMakeLists.txt and never runs this file.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
VERSION = re.search('<version>(.+)</version>', (ROOT / 'package.xml').read_text())[1]
RUNTIME = (ROOT / 'requirements' / 'runtime.txt').read_text().splitlines()


class FreshWithWordLists(build_py):
    """Build from an empty folder, and copy the word lists into the package.

    The build folder stays after a build, so modules that no longer exist would be installed again.
    The word lists are next to the package, because launch files use them. The installed package
    has copies inside, so the library finds them in every kind of installation.
    """

    def run(self) -> None:
        built = Path(self.build_lib, 'cliptrase_ros')
        if built.resolve() != ROOT / 'cliptrase_ros':
            shutil.rmtree(built, ignore_errors=True)
        super().run()
        folder = Path(self.build_lib, 'cliptrase_ros', 'words', 'vocabularies')
        folder.mkdir(parents=True, exist_ok=True)
        for path in ROOT.glob('config/vocabularies/*.yaml'):
            shutil.copy(path, folder)


setup(
    name='cliptrase_ros',
    version=VERSION,
    description='Open-vocabulary segmentation of camera images with CLIP, for ROS 2',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['cliptrase_ros', 'cliptrase_ros.*']),
    cmdclass={'build_py': FreshWithWordLists},
    package_data={'cliptrase_ros': ['py.typed', 'model/configs/*', 'evaluation/class_lists/*.txt']},
    install_requires=[line for line in RUNTIME if line and not line.startswith('#')],
    extras_require={
        'demo': ['pybullet>=3.2.5'],
        'heif': ['pillow-heif'],
        'ray': ['ray>=2.9'],
        # The page is one file inside viser's wheel; it moves its interfaces with minor versions.
        'view': ['aiohttp>=3.9', 'viser>=1.1,<1.2'],
        'test': ['pytest', 'ray', 'scikit-learn', 'scipy', 'transformers'],
        # Only for `make`: the ROS containers have an older pytest with its own plugins. The
        # versions of ruff and mypy are exact, because newer versions have new rules.
        'make': [
            *('pillow-heif', 'playwright', 'pytest-cov', 'pytest-xdist', 'pre-commit'),
            *('import-linter>=2.1', 'mypy==2.4.1', 'ruff==0.17.5'),
        ],
    },
    entry_points={'console_scripts': ['cliptrase = cliptrase_ros.cli:main']},
)
