"""``python -m mlpapers`` and the command's entry point: an interruption ends it even while it starts."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command ``mlpapers``."""
    try:
        from mlpapers import cli

        cli.main()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
