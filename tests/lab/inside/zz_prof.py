import contextlib
import cProfile
import io
import pstats
import sys
import time
from pathlib import Path

t0 = time.perf_counter()
c0 = time.process_time()
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from drgn_vmap.commands import run

out = io.StringIO()
p = cProfile.Profile()
if "prof" in sys.argv:
    p.enable()
with contextlib.redirect_stdout(out):
    run("ls", globals()["prog"], [])
p.disable()
print(
    "took",
    time.perf_counter() - t0,
    "cpu",
    time.process_time() - c0,
    "since start of process",
    time.process_time(),
)
if "prof" in sys.argv:
    s = pstats.Stats(p)
    s.sort_stats("tottime").print_stats(45)
    s.sort_stats("cumtime").print_stats(70)
