"""`python -m chatlab` is the command `chatlab`."""

import sys

from chatlab.cli import main

sys.exit(main())
