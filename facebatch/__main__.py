"""`python -m facebatch`, for machines where the console script is not on PATH."""

import sys

from facebatch.cli import main

sys.exit(main())
