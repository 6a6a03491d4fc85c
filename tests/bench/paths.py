"""Import this before anything of the checkout: it puts tests/, tools/ and lib/ on the path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools"), str(ROOT / "lib")]
