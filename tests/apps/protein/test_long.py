"""As long as titin: predicted, written and drawn in bounded memory. Each in a process of its own, to see its peak."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TITIN = 34_350  # residues of the longest human protein
MIB = 2**20

# What one prediction adds to the largest size that the process had before, in bytes.
MEASURED = """
import json, resource, sys
from pathlib import Path
import torch
from isometry.app import load_app
from isometry.loaded import Loaded
from isometry.story import predict
from isometry_protein.simulate import simulated

torch.set_num_threads(1)
n, out = int(sys.argv[1]), Path(sys.argv[2])
app = load_app("protein")
settings = app.presets["netsurfp2"].changed(model={"heads": ("ss", "rsa", "disorder", "contacts")})
loaded = Loaded(app, settings, app.model(settings).eval(), None, None)

def run(length, out):
    fasta = out.with_name(f"{length}.fasta")
    fasta.write_text(f">p{length}\\n{simulated(1, 0, length, length)[0].sequence}\\n")
    return predict(loaded, [fasta], out)

run(60, out.with_name("warm" + out.suffix))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = run(n, out)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"grown": (after - before) * 1024, "rows": len(rows), "size": out.stat().st_size}))
"""


def measured(n, out):
    sources = os.pathsep.join(str(ROOT / root) for root in ("core", "data", "apps"))
    environment = os.environ | {"PYTHONPATH": sources, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, str(n), str(out)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "most"), [(".csv", 640 * MIB), (".ss2", 640 * MIB), (".png", 640 * MIB)])
def test_titin_is_predicted_in_bounded_memory(tmp_path, ending, most):
    found = measured(TITIN, tmp_path / f"titin{ending}")
    assert found["rows"] == TITIN
    assert found["size"] > 10_000
    assert found["grown"] < most
    assert sorted(p.name for p in tmp_path.iterdir() if "titin" in p.name) == [f"titin{ending}"]
