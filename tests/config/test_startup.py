"""What the web process loads: the engine's libraries stay out of it until someone needs them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "cv2", "scipy", "av", "mcap", "pycocotools", "torch")
LOAD_ALL = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "platform")!r}]
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import config.asgi
import pipeline.recordings
from django.urls import get_resolver

def load(patterns):
    for pattern in patterns:
        load(getattr(pattern, "url_patterns", ()))

load(get_resolver().url_patterns)
assert "labeling.review.views" in sys.modules and "training.views" in sys.modules
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


def test_the_application_and_all_its_addresses_load_without_the_engines_libraries(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL],
        env={"FOVEA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
