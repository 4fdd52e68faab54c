"""campaign.html: the table of a campaign's cells, to sort and to filter, and its charts."""

from __future__ import annotations

import html
import re
import shutil
import statistics
from pathlib import Path

import pytest
from chromium import dumped, needs_chromium
from compared_campaign import BASELINE_OF, CELLS, FINISHED, NOTICE, ComparedCampaign, json_rows
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.outcome_files import PAGE, PAGE_SECONDS, OutcomeFiles
from run_files import summary


@pytest.fixture(scope="module")
def page(campaign: ComparedCampaign) -> str:
    return (campaign.folder / PAGE).read_text()


def rows_of(page: str, section: str) -> list[list[str]]:
    """The texts of a table's cells, of the section with this heading."""
    table = page.partition(f"<h2>{section}</h2>")[2].partition("</table>")[0]
    return [
        [
            " ".join(html.unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    ]


def test_the_table_has_the_figures_of_every_cell(campaign: ComparedCampaign, page: str) -> None:
    head, *shown = rows_of(page, "Cells")
    rows = json_rows(campaign.folder)
    assert len(shown) == len(CELLS)
    for name, cells in zip(CELLS, shown, strict=True):
        row, found = rows[name], dict(zip(head, cells, strict=True))
        # The workload is the same of all.
        assert found["cell"].replace("+ ", "+") == name.replace("+all", "")
        assert found["state"] == row["state"]
        if name not in FINISHED:
            assert set(cells[2:]) == {"/"}
            continue
        assert found["acc"] == f"{row['acc']:.3f} {row['acc_low']:.3f} … {row['acc_high']:.3f} made up"
        assert found["tok/s whole"] == f"{row['p_infer_whole']:,.0f}"
        assert found["tok/s core"] == f"{row['p_infer_core']:,.0f}"
        assert found["MFU"] == f"{row['mfu']:.1%}"
        assert found["p99"] == f"{row['latency_p99_seconds'] * 1e3:,.1f} ms"
        assert found["GiB"] == "2.00"
        energy = row["joules_per_token"]
        assert (found["J/1000 tok"] == "/") is (energy is None)
        if energy is not None:
            assert float(found["J/1000 tok"].replace(",", "")) == pytest.approx(energy * 1000, rel=1e-3)
        if name in BASELINE_OF:
            assert found["acc - baseline"].startswith(f"{row['baseline.acc_difference']:+.4f} ")
            assert float(found["paired test"][4:]) == pytest.approx(row["baseline.mcnemar_p"], rel=1e-2)
            assert found["core × baseline"].startswith(f"× {row['baseline.p_infer_core_ratio']:.2f} ")
        else:
            assert found["acc - baseline"] == found["paired test"] == found["core × baseline"] == "/"


def test_a_failed_cell_stands_with_its_error_and_its_log(campaign: ComparedCampaign, page: str) -> None:
    ((name, text),) = rows_of(page, "What went wrong")
    row = json_rows(campaign.folder)["third+all+r1"]
    assert name == "third+all+r1"
    assert text == f"failed , 1 attempt: {row['error']}"
    assert "refuse <it>" in text
    assert 'href="cells/third%2Ball%2Br1/client.log"' in page
    assert "\x1b" not in page
    assert NOTICE in page


def test_every_link_leads_to_a_file_and_none_to_a_network(campaign: ComparedCampaign, page: str) -> None:
    from urllib.parse import unquote

    without_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    links = re.findall(r'(?:href|src)="([^"]*)"', without_scripts)
    assert {f"cells/{name}/report.html" for name in FINISHED} <= set(map(unquote, links))
    assert {"campaign.csv", "campaign.parquet", "campaign.json"} <= set(links)
    for link in links:
        assert (campaign.folder / unquote(link)).is_file(), link


def test_repetitions_have_mean_and_deviation(campaign: ComparedCampaign, page: str) -> None:
    head, *shown = rows_of(page, "Repetitions")
    assert [row[0] for row in shown] == ["first", "second", "third"]
    assert [row[1] for row in shown] == ["2 of 2", "2 of 2", "0 of 1"]
    found = dict(zip(head, shown[1], strict=True))
    runs = [summary(campaign.cell(f"second+all+{number}")) for number in ("r1", "r2")]
    for name, key, scale, form in (
        ("acc", "acc", 1, ".4f"),
        ("tok/s whole", "p_infer_whole", 1, ",.0f"),
        ("MFU, %", "mfu", 100, ".1f"),
        ("p50, ms", "latency_p50_seconds", 1000, ",.1f"),
    ):
        values = [run[key] * scale for run in runs]
        assert found[name] == f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"
    assert set(shown[2][2:]) == {"/"}


def test_while_a_campaign_is_on_the_page_is_drawn_now_and_then(
    campaign: ComparedCampaign, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(campaign.folder, tmp_path / "copy"))
    seconds = 100.0
    files = OutcomeFiles(CampaignOutcome(folder), lambda: seconds)

    def is_drawn() -> bool:
        (folder / PAGE).unlink(missing_ok=True)
        (folder / "campaign.csv").unlink()
        assert not files.update()
        assert (folder / "campaign.csv").is_file()
        return (folder / PAGE).is_file()

    assert is_drawn()
    seconds += PAGE_SECONDS - 1
    assert not is_drawn()
    seconds += 1
    assert is_drawn()
    (folder / PAGE).unlink()
    assert not files.finish()
    assert (folder / PAGE).is_file()


@needs_chromium
def test_the_table_sorts_and_filters_in_a_browser(campaign: ComparedCampaign, tmp_path: Path) -> None:
    """At the width of a phone, in a frame: what its scripts made of it is told by the frame's page."""
    frame, page = tmp_path / "frame.html", (campaign.folder / PAGE).as_uri()
    frame.write_text(
        f"""<iframe src="{page}" width="390" height="800" style="border: 0"></iframe><p id="seen"></p>
        <script>onload = () => {{
            const page = document.querySelector("iframe").contentDocument, seen = [];
            const heads = [...page.querySelectorAll("table.cells thead th")];
            const head = heads.find(each => each.textContent.trim() === "tok/s whole");
            const names = () => [...page.querySelectorAll("table.cells tbody tr")].filter(
                each => !each.hidden).map(each => each.cells[0].title).join(" ");
            const told = what => seen.push([what, head.getAttribute("aria-sort"), names()].join(": "));
            told("file");
            head.querySelector("button").click(); told("once");
            head.querySelector("button").click(); told("twice");
            heads[0].querySelector("button").click(); told("cell");
            const choose = (field, value) => {{
                field.value = value; field.dispatchEvent(new Event("input", {{bubbles: true}}));
            }};
            const server = page.querySelector("select");
            choose(server, "second"); told("server");
            choose(page.querySelector("input"), "R2"); told("both");
            choose(server, ""); choose(page.querySelector("input"), "failed"); told("state");
            seen.push(page.querySelector("output").textContent);
            seen.push(page.documentElement.scrollWidth);
            seen.push(page.querySelectorAll("svg.main-svg").length);
            document.querySelector("#seen").textContent = seen.join("; ");
        }};</script>"""
    )
    (seen,) = re.findall('<p id="seen">(.*?)</p>', dumped(frame, tmp_path))
    rows = json_rows(campaign.folder)
    by_speed = sorted(FINISHED, key=lambda name: float(rows[name]["p_infer_whole"]))
    *told, count, width, charts = seen.split("; ")
    assert told == [
        f"file: : {' '.join(CELLS)}",
        f"once: ascending: {' '.join([*by_speed, CELLS[-1]])}",
        f"twice: descending: {' '.join([*by_speed[::-1], CELLS[-1]])}",
        f"cell: : {' '.join(CELLS)}",
        "server: : second+all+r1 second+all+r2",
        "both: : second+all+r2",
        "state: : third+all+r1",
    ]
    assert count == "1 of 5 cells"
    assert width == "390"
    # Each of the four charts has two layers or more.
    assert int(charts) >= 8
