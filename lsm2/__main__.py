"""`python -m lsm2` is `lsm2`."""

import sys

from lsm2.cli import main

sys.exit(main())
