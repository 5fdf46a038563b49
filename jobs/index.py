"""The main job as a script for `ray job submit -- python jobs/index.py --input ... --output ...`.

The same as the command `facebatch index`: arguments, configuration, messages and exit codes.
"""

import sys

from facebatch.cli import entry

if __name__ == "__main__":
    entry(["index", *sys.argv[1:]])
