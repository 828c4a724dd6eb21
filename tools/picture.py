"""Takes the picture of a report's first screen for the README: `python tools/picture.py REPORT PICTURE`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1280, 600
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> int:
    """Opens the report in a headless browser, in the light scheme."""
    report, picture = map(Path, sys.argv[1:])
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stderr.write(f"none of {', '.join(BROWSERS)} is installed\n")
        return 2
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--blink-settings=preferredColorScheme=1",
            f"--user-data-dir={profile}",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={picture.resolve()}",
            report.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # a browser found on the PATH
    return 0


if __name__ == "__main__":
    sys.exit(main())
