"""A campaign from start to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mmlu_client.campaign.cell_state import FAILED, FINISHED
from mmlu_client.campaign.choices import LOCAL, CampaignChoices
from mmlu_client.campaign.file.campaign_file import Campaign, read_campaign
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.campaign.lane import Lane
from mmlu_client.campaign.ledger import Ledger
from mmlu_client.campaign.local.child import foreign_variables
from mmlu_client.campaign.local.place import LocalPlace
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.outcome_files import OutcomeFiles
from mmlu_client.campaign.outcome.outcome_text import printed_outcome
from mmlu_client.campaign.place import Place
from mmlu_client.campaign.schedule import Schedule
from mmlu_client.campaign.watch.progress import CampaignProgress
from mmlu_client.campaign.workloads import check_workloads
from mmlu_client.errors import ClientError, RunError, StoppedError
from mmlu_client.report.outcome import joined, loss, print_text

CAMPAIGNS = Path("campaigns")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def conduct(file: Path, choices: CampaignChoices) -> None:
    """Run every cell of a campaign that is not finished, and write what came out.

    Raises:
        InputError: the file is wrong, or cannot be run here; nothing was started.
        RunError: a cell has failed, or something cannot be written.
        StoppedError: a signal ended it.
    """
    campaign = read_campaign(file)
    folder = CampaignFolder(choices.output or CAMPAIGNS / file.stem)
    folder.check_fits(campaign)
    check_workloads(campaign, folder)
    place = _place(choices)
    try:
        left = [cell for cell in campaign.cells if folder.state(cell).state != FINISHED]
        settings = list({cell.setting.name: cell.setting for cell in left}.values())
        place.check(campaign, settings)
        if choices.dry_run:
            print_text(cells_text(campaign, folder))
            return
        with folder.locked():
            _run(campaign, folder, place, choices)
    finally:
        place.close()


def cells_text(campaign: Campaign, folder: CampaignFolder) -> str:
    """Return a line for each cell: its state, its name, and its command lines."""
    lines = []
    for cell in campaign.cells:
        server = cell.setting.url or " ".join(["trt-server", *cell.setting.words])
        lines += [
            f"{cell.name}: {folder.state(cell).state}",
            f"  {server}",
            f"  {' '.join(['mmlu-client', *cell.words])}",
        ]
    return "\n".join([*lines, f"{len(campaign.cells)} cells on {len(campaign.settings)} servers"])


def _place(choices: CampaignChoices) -> Place:
    if choices.on == LOCAL:
        return LocalPlace(choices.parallel or 1)
    from mmlu_client.campaign.ray.installed import ray_place

    return ray_place(choices.on.partition(":")[2] or None, choices.parallel)


def _run(campaign: Campaign, folder: CampaignFolder, place: Place, choices: CampaignChoices) -> None:
    stop = _Stop()
    folder.open(campaign)
    outcome = CampaignOutcome(folder.path)
    files = OutcomeFiles(outcome)
    with stop, CampaignProgress(outcome, files, choices) as progress:
        ledger = Ledger(campaign, folder, progress)
        if foreign := foreign_variables():
            progress.say(
                f"{', '.join(foreign)} of the environment: cells take their flags from {campaign.path}"
            )
        progress.update()
        left = [cell for cell in campaign.cells if ledger.state(cell).state != FINISHED]
        schedule = Schedule(left)
        lanes = [
            Lane(number, place, folder, schedule, ledger, progress, stop.is_set)
            for number in range(place.lanes(len(left)))
        ]
        threads = [
            threading.Thread(target=lane.run, name=f"lane {number}") for number, lane in enumerate(lanes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.close()
        trouble = _trouble(campaign, ledger, lanes, stop)
        trouble = joined(trouble, _report(outcome, files))
        progress.show_last_figures(stop.is_set)
    if trouble is not None:
        raise trouble


def _trouble(campaign: Campaign, ledger: Ledger, lanes: Sequence[Lane], stop: _Stop) -> ClientError | None:
    """Return what ended the campaign early, or went wrong in it; None where nothing did.

    Raises:
        BaseException: a lane was ended by something that is no error of a campaign.
    """
    for lane in lanes:
        if isinstance(lane.trouble, ClientError):
            return lane.trouble
        if lane.trouble is not None:
            raise lane.trouble
    if stop.by is not None:
        return StoppedError(stop.by)
    failed = [cell for cell in campaign.cells if ledger.state(cell).state == FAILED]
    if not failed:
        return None
    first = failed[0]
    return RunError(
        f"{len(failed)} of {len(campaign.cells)} cells failed, the first {first.name}: "
        f"{ledger.state(first).error}"
    )


def _report(outcome: CampaignOutcome, files: OutcomeFiles) -> list[RunError]:
    """Write and print what came out, and return what could not be written or printed."""
    lost = files.finish()
    errors = loss(lost, "report")
    try:
        print_text(printed_outcome(outcome, "table", is_written=not lost))
    except RunError as error:
        errors.append(RunError(f"{error}; see {outcome.folder}"))
    return errors


class _Stop:
    """Tells the lanes of the first signal; the next one ends the process, and what it started with it.

    Attributes:
        by: the signal; None where none came.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def is_set(self) -> bool:
        """Return whether a signal has come."""
        return self.by is not None

    def __enter__(self) -> _Stop:
        for number in SIGNALS:
            signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.by = signal.Signals(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
