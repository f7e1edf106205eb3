"""The window: MLflow shows what the trial folders hold; one writer keeps it so, from nothing if need be.

tracker.py      what is asked of a tracking server, and what it answers; no MLflow in it
wanted.py       pure: folders to the runs that the server should show
ledger.py       mirror.json: what was sent where, so that a mirrored folder is not read again
sync.py         the difference between wanted and held, sent
background.py   the thread that does so while trials run
overview.py     what the sweep's own run carries: leaderboard, figures, report
attached.py     what a trial's run carries besides numbers and images
door.py         the door to MLflow, with its annexes
database.py       SQLite databases of MLflow's
history.py        the fast way into one
server.py       the command line of the MLflow server that shows it all
uri.py          tracking URIs
"""

from orchestrator.mirror.background import Background
from orchestrator.mirror.reconcile import Synced
from orchestrator.mirror.server import ui_command
from orchestrator.mirror.sync import Mirror
from orchestrator.mirror.tracker import RunStatus
from orchestrator.mirror.uri import check_uri, default_uri, public_uri

__all__ = [
    "Background",
    "Mirror",
    "RunStatus",
    "Synced",
    "check_uri",
    "default_uri",
    "public_uri",
    "ui_command",
]
