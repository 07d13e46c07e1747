import sys

from .publisher import main

sys.exit(main())
