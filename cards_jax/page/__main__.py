"""python -m cards_jax.page PATH ... [--save=FILE]"""

import sys

from cards_jax.page import main

if __name__ == "__main__":
    sys.exit(main())
