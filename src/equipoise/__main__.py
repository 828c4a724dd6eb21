"""`python -m equipoise` is the `equipoise` command."""

from .cli import main

raise SystemExit(main())
