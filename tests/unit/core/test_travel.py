"""What leaves this machine with a sweep, and what does not."""

from __future__ import annotations

import pytest

from sweeper.core.errors import InputError
from sweeper.core.travel import home_on_cluster, travelling


def test_what_leads_to_the_servers_goes_along_and_nothing_else() -> None:
    goes = {"SWEEPER_HOME": "/s", "MLFLOW_TRACKING_PASSWORD": "p", "PGPASSWORD": "q", "PGHOST": "db"}
    stays = {
        "AWS_SECRET_ACCESS_KEY": "k",
        "HF_TOKEN": "t",
        "RAY_AUTH_TOKEN": "r",
        "PATH": "/bin",
        "SWEEPER_CACHE": "/c",
    }
    assert travelling({**goes, **stays}) == goes


@pytest.mark.parametrize(("environment", "told"), [({}, "all nodes"), ({"SWEEPER_HOME": ""}, "all nodes")])
def test_a_missing_folder_of_sweeps_is_named(environment: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=rf"^SWEEPER_HOME: must name a folder that {told}"):
        home_on_cluster(environment)


@pytest.mark.parametrize("home", ["sweeps", "~/sweeps", "./x"])
def test_a_folder_of_sweeps_that_depends_on_where_one_stands_is_refused(home: str) -> None:
    with pytest.raises(InputError, match=r"absolute path on the cluster, got"):
        home_on_cluster({"SWEEPER_HOME": home})
    assert home_on_cluster({"SWEEPER_HOME": "/shared/sweeps"}) == "/shared/sweeps"
