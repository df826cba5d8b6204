"""What MLflow's pages show of a sweep, asked of the browser that shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHARTS = """
return [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
  title: plot.closest('[data-testid="experiment-view-compare-runs-card"]')?.innerText.split('\\n')[0] ?? '',
  traces: (plot.data || []).filter(trace => trace.x?.length).map(trace => ({
    name: String(trace.name), type: trace.type, last: Math.max(...trace.x), points: trace.x.length})),
  top: plot.getBoundingClientRect().top,
}))
"""
"""Each chart that is drawn, with its lines: their name, last place on the axis, and height on the page."""

SEEN = """
const inside = box => box.width > 0 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
return [...document.querySelectorAll('*')].filter(e => !e.children.length && e.textContent.trim())
  .filter(e => inside(e.getBoundingClientRect())).map(e => e.textContent.trim())
"""
"""Every text that can be read as the page stands, without scrolling."""

NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
"""MLflow opens a panel of its own over a quarter of the window, on the first visit of a browser."""


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """Run ``serve`` on a sweep's folder and yield the address that it prints."""
    code = "import sys; from pathlib import Path; from sweeper.adapters.mlflow.ui import serve; "
    code += "sys.exit(serve(Path(sys.argv[1]), port=int(sys.argv[2])))"
    command = [sys.executable, "-c", code, str(folder), str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found is not None, line
            yield found[0]
        finally:
            server.terminate()


def summary_path(address: str) -> str:
    """Return the address of the summary run's page."""
    server, rest = address.split("/#/")
    experiment = rest.split("/")[1]
    body = {"experiment_ids": [experiment], "filter": "attributes.run_name = 'summary'"}
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/runs/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    run_id = found["runs"][0]["info"]["run_id"]
    return f"{server}/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
