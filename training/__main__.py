"""`python -m unclutter.training COMMAND`: the command line, as `accelerate launch` wants it."""

import sys

from .cli import main

sys.exit(main())
