"""python -m cards_jax.page PATH ... [--save=FILE]"""

import sys

from cards_jax.page import main

sys.exit(main())
