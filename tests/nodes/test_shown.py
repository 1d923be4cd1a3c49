"""What nodes show is left out where nobody looks, and with it all that it needs."""

import subprocess
import sys

from tests.paths import ROOT

SILENT = """
import sys
from tools.rigs.pack_in_process import pack_on_host

with pack_on_host("test") as (_, pack):
    out = pack.nodes.study.EgoXSweep.execute("0, 3", "1")
    print(out.ui, len(out.result[0]))
    print(*(name for name in sys.modules if name.startswith("egox_pack.nodes.show.")))
    print(*(name for name in sys.modules if name.startswith("egox_pack.egox_core.metrics.path")))
"""


def test_nothing_is_shown_or_judged_without_anybody_who_looks(host_root):
    run = subprocess.run(
        [sys.executable, "-X", "egox_show=0", "-c", SILENT],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines() == ["None 2", "", ""], run.stderr
