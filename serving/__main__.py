import os
import sys

import serving

# `python -m` has put the working directory first. Unless we lie there, what it holds is none of ours.
if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(serving.__file__)):
    del sys.path[0]

from serving.cli.main import main  # noqa: E402

raise SystemExit(main())
