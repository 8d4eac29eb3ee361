import math
import time
from collections import Counter

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mssync import records
from mssync.demo.server import serve
from mssync.download.access import Access
from mssync.download.addresses import Policy
from mssync.download.budget import Budget
from mssync.download.fetcher import Fetcher
from mssync.download.governor import Governor
from mssync.download.secrets import Secrets
from mssync.download.state import Job
from mssync.errors import InputError, StageFailedError
from mssync.ledger import ATTEMPTS, DECISIONS, read_attempts, read_decisions
from mssync.lists.sources import source_of
from mssync.media import decode
from mssync.stages import download_videos
from tests.download.faults import serving

MIRROR = Access(policy=Policy(mirrors=("127.0.0.1",)))


@pytest.fixture
def download(tmp_path, store, tiny):
    """Run the stage on a list: (manifest rows, decisions by clip)."""

    def run(text, *, base="", whole=True, takedown="", again=(), access=MIRROR, **changes):
        (tmp_path / "takedown.csv").write_text(takedown)
        sources = tmp_path / "sources.csv"
        sources.write_text(text)
        download_videos.run(
            sources,
            tmp_path / "manifest.parquet",
            tmp_path / "ledger",
            tiny.download_videos.model_copy(update={"min_success_ratio": 0.0, **changes}),
            store=store,
            workers=2,
            base=base,
            whole=whole,
            takedown=tmp_path / "takedown.csv",
            again=again,
            access=access,
        )
        rows = records.read(tmp_path / "manifest.parquet", records.MANIFEST)
        for row in rows:  # NaN is not equal to itself
            row["av_offset_ms"] = None if math.isnan(row["av_offset_ms"]) else row["av_offset_ms"]
        decisions = read_decisions(tmp_path / "ledger" / DECISIONS)
        return rows, {decision.clip_id: decision for decision in decisions}

    return run


@pytest.fixture
def clip(small_corpus):
    return small_corpus / "media" / "speaker_00" / "clip_0.mp4"


def test_what_cannot_be_had_is_a_row_with_a_reason(download, clip, tmp_path):
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    (tmp_path / "empty.mp4").write_bytes(b"")
    rows, decisions = download(
        f"source,speaker_id\n{clip},a\nnone.mp4,b\npage.mp4,c\nempty.mp4,d\n"
        "http://127.0.0.1:9/clip.mp4,e\n"
    )
    assert [row["speaker_id"] for row in rows] == ["a"]
    reasons = {name.split("/")[-1]: decision.reason for name, decision in decisions.items()}
    assert reasons == {
        "clip_0.mp4": "",
        "none.mp4": "not_found",
        "page.mp4": "not_a_video",
        "empty.mp4": "not_a_video",
        "clip.mp4": "connection",
    }
    assert decisions["http://127.0.0.1:9/clip.mp4"].detail


def test_if_nothing_survives_the_stage_fails_with_the_first_reason(download, tmp_path):
    with pytest.raises(StageFailedError) as error:
        download("source\nb.mp4\na.mp4\n")
    assert "First reason: a.mp4: not_found: the file does not exist" in str(error.value)
    assert str(tmp_path / "ledger" / DECISIONS) in str(error.value)


def test_too_few_survivors_fail_the_stage_and_lose_nothing(download, clip, tmp_path):
    with pytest.raises(StageFailedError, match=r"1 of 2 clips survive, at least 80% must"):
        download(f"source\n{clip}\nnone.mp4\n", min_success_ratio=0.8)
    assert len(records.read(tmp_path / "manifest.parquet", records.MANIFEST)) == 1


def test_one_file_makes_many_clips(download, clip, store):
    rows, _ = download(
        f"source,speaker_id,start_s,end_s\n{clip},a,0.5,1.5\n{clip},a,2,\n{clip},a,,\n"
    )
    assert [row["clip_id"].split("/")[-1] for row in rows] == [
        "clip_0.mp4",
        "clip_0.mp4#2000-end",
        "clip_0.mp4#500-1500",
    ]
    lengths = [decode.read_clock(store.path(row["sha256"])).frames for row in rows]
    assert lengths == [100, 50, 25]


def test_a_cut_beyond_the_end_is_a_row_with_a_reason(download, clip):
    _, decisions = download(f"source,start_s\n{clip},\n{clip},60\n")
    assert sorted(decision.reason for decision in decisions.values()) == ["", "empty_cut"]


def test_a_second_run_makes_the_same_manifest(download, clip, tmp_path):
    text = f"source,speaker_id\n{clip},a\nnone.mp4,b\n"
    download(text)
    manifest = tmp_path / "manifest.parquet"
    decisions = tmp_path / "ledger" / DECISIONS
    before = manifest.read_bytes(), decisions.read_bytes()
    download(text)
    assert (manifest.read_bytes(), decisions.read_bytes()) == before
    # a file that did not change is no attempt
    assert len(records.read(tmp_path / "ledger" / ATTEMPTS, None)) == 3


def test_host_and_port_never_enter_a_clip_id(download, clip):
    rows, _ = download(
        f"source\nspeaker_00/clip_0.mp4\n{clip.parent.parent}/speaker_01/clip_0.mp4\n",
        base=str(clip.parent.parent),
    )
    assert [row["clip_id"] for row in rows] == ["speaker_00/clip_0.mp4", "speaker_01/clip_0.mp4"]


def test_a_base_ends_at_a_folder_not_within_a_name(download, clip, tmp_path):
    (tmp_path / "videos").mkdir()
    other = tmp_path / "videos" / "x.mp4"
    other.write_bytes(clip.read_bytes())
    rows, _ = download(f"source\n{other}\n", base=str(tmp_path / "vid"))
    assert [row["clip_id"] for row in rows] == [str(other)]


def test_an_address_that_is_none_is_a_row_with_a_reason(download, clip):
    _, decisions = download(f"source\n{clip}\nhttp://host:80a/x.mp4\nhttp://[::1/x.mp4\n")
    reasons = {decision.reason for decision in decisions.values()}
    assert reasons == {"", "refused"}


def test_a_pin_in_one_row_holds_for_all_of_a_speaker(download, small_corpus):
    media = small_corpus / "media"
    rows, _ = download(
        f"source,speaker_id,split\n{media}/speaker_00/clip_0.mp4,a,\n"
        f"{media}/speaker_01/clip_0.mp4,a,test\n"
    )
    assert [row["split"] for row in rows] == ["test", "test"]


def test_a_source_listed_twice_is_one_clip(download, clip, caplog):
    rows, _ = download(f"source\n{clip}\n{clip}\n")
    assert len(rows) == 1
    assert "listed before" in caplog.text


def test_without_a_speaker_each_source_is_its_own_and_that_is_told(download, clip, caplog):
    rows, _ = download(f"source,speaker\n{clip},a\n")
    assert rows[0]["speaker_id"] == str(clip)
    assert "columns speaker are not known" in caplog.text
    assert "has no column speaker_id" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a header"),
        (
            "file,speaker\na.mp4,x\n",
            "expected a comma-separated header with the column `source`.*found file, speaker",
        ),
        ("source\n", "lists no source"),
        ("source,start_s\na.mp4,soon\n", "row 2: start_s must be seconds, 0 or more, found 'soon'"),
        ("source,start_s,end_s\na.mp4,3,2\n", r"end_s \(2\) must come after start_s \(3\)"),
        ("source,split\na.mp4,dev\n", "split must be train, val, test or empty, found 'dev'"),
        (
            "source,speaker_id,split\na.mp4,x,train\nb.mp4,x,test\n",
            "a speaker belongs to one split",
        ),
    ],
)
def test_a_wrong_list_says_what_was_expected(download, text, message):
    with pytest.raises(InputError, match=message):
        download(text)


def test_a_list_that_is_not_text_is_refused(tmp_path, store, tiny):
    sources = tmp_path / "sources.csv"
    sources.write_bytes(b"\xff\xfe\x00source")
    with pytest.raises(InputError, match="cannot be read as comma-separated UTF-8"):
        download_videos.run(
            sources,
            tmp_path / "m",
            tmp_path / "l",
            tiny.download_videos,
            store=store,
            workers=1,
        )


# ---------------------------------------------------------------- the web


@pytest.fixture
def web(small_corpus):
    """A server with a video at most of its paths, and the corpus at `files/`."""
    clip = small_corpus / "media" / "speaker_00" / "clip_0.mp4"
    with serving(content=clip.read_bytes(), folder=small_corpus / "media") as server:
        yield server


def listed(*links):
    return "source,speaker_id\n" + "".join(f"{link},a\n" for link in links)


def reasons_of(decisions, web):
    return {name.removeprefix(web.base): found.reason for name, found in decisions.items()}


def test_every_link_gets_its_true_reason(download, web):
    paths = ["plain", "404", "410", "401", "403", "451", "500", "429", "page"]
    _, decisions = download(listed(*map(web.url, paths)))
    assert reasons_of(decisions, web) == {
        "/plain": "",
        "/404": "gone",
        "/410": "gone",
        "/401": "auth",
        "/403": "forbidden",
        "/451": "geo",
        "/500": "server_error",
        "/429": "rate_limit",
        "/page": "not_a_video",
    }
    assert "404" in decisions[web.url("404")].detail


def test_passing_failures_alone_are_tried_again_in_the_run(download, web, tiny):
    download(listed(*map(web.url, ["plain", "404", "403", "500"])))
    asked = Counter(one.path for one in web.log)
    assert asked == {
        "/plain": 1,
        "/404": 1,
        "/403": 1,
        "/500": tiny.download_videos.attempts,
    }


def test_a_later_run_asks_only_for_what_may_have_passed(download, web):
    text = listed(*map(web.url, ["plain", "404", "403", "500", "page"]))
    first = download(text)
    web.forget()
    second = download(text)
    assert {one.path for one in web.log} == {"/403", "/500"}
    assert first[0] == second[0]
    assert reasons_of(first[1], web) == reasons_of(second[1], web)
    web.forget()
    download(text, again=["gone"])
    assert {one.path for one in web.log} == {"/403", "/404", "/500"}


def test_attempts_say_what_was_tried_in_which_run(download, web, tmp_path, tiny):
    text = listed(web.url("plain"), web.url("500"))
    download(text)
    download(text)
    attempts = read_attempts(tmp_path / "ledger" / ATTEMPTS)
    done = [one for one in attempts if one.outcome == "done"]
    failed = [one for one in attempts if one.outcome == "server_error"]
    assert [one.bytes for one in done] == [len(web.content)]
    assert done[0].tool.startswith("httpx ")
    assert [one.tries for one in failed] == [tiny.download_videos.attempts] * 2
    assert len({one.run for one in attempts}) == 2


def test_one_link_is_fetched_once_for_all_its_clips(download, web):
    link = web.url("plain")
    text = f"source,speaker_id,start_s,end_s\n{link},a,0,1\n{link},a,1,2\n{link},a,,\n"
    rows, _ = download(text)
    assert len(rows) == 3
    assert len(web.log) == 1


def test_a_crop_cuts_the_picture(download, web):
    text = f'source,speaker_id,crop\n{web.url("plain")},a,"0,0,0.5,1"\n'
    _, decisions = download(text)
    (found,) = decisions.values()
    assert found.kept
    assert found.scores["width_px"] == pytest.approx(found.scores["height_px"] / 2, abs=2)


def test_equal_bytes_are_stored_once_and_recorded_as_duplicates(download, web, store):
    links = [web.url("plain/b"), web.url("plain/a")]
    rows, decisions = download(listed(*links), min_success_ratio=1.0)
    assert [row["clip_id"] for row in rows] == [links[1]]
    assert decisions[links[0]].detail == f"the same bytes as {links[1]}"
    assert len([file for file in (store.folder / "objects").rglob("*") if file.is_file()]) == 1


def test_where_it_came_from_is_kept_beside_the_manifest(download, web, tmp_path):
    download(listed(web.url("redirect", to=web.url("plain"))))
    (row,) = records.read(tmp_path / "provenance.parquet", records.PROVENANCE)
    assert row["final_url"] == web.url("plain")
    assert row["etag"]
    assert row["fetched"].endswith("+00:00")
    assert row["source_bytes"] == len(web.content)


def test_loopback_is_refused_unless_it_is_named_as_a_mirror(download, web):
    with pytest.raises(StageFailedError, match=r"refused: 127\.0\.0\.1.*MSSYNC_LOCAL_MIRRORS"):
        download(listed(web.url("plain")), access=Access())
    assert web.log == []


def test_what_asks_not_to_be_trained_on_is_left_out(download, web):
    link = web.url("says", name="X-Robots-Tag", value="noai, noimageai")
    _, decisions = download(listed(link), whole=False)
    assert decisions[link].reason == "opt_out"
    rows, _ = download(listed(link), honour_opt_out=False)
    assert [row["clip_id"] for row in rows] == [link]


def test_what_was_taken_down_does_not_come_back(download, web, store):
    links = [web.url("plain/1"), web.url("files/speaker_01/clip_0.mp4")]
    text = f"source,speaker_id\n{links[0]},ada\n{links[1]},ben\n"
    rows, _ = download(text)
    assert len(rows) == 2
    taken = "speaker_id,sha256,reason\nada,,asked by mail\n"
    rows, decisions = download(text, takedown=taken)
    assert [row["speaker_id"] for row in rows] == ["ben"]
    assert decisions[links[0]].reason == "taken_down"
    assert "asked by mail" in decisions[links[0]].detail
    content = rows[0]["sha256"]
    rows, _ = download(text, takedown=f"{taken},{content},the same\n", whole=False)
    assert rows == []
    assert content not in store


def test_a_takedown_reaches_the_cuts_in_the_store(download, web, store, tmp_path):
    text = f"source,start_s,end_s\n{web.url('plain')},0.5,1.5\n"
    rows, _ = download(text)
    (origin,) = records.read(tmp_path / "provenance.parquet", records.PROVENANCE)
    download(text, takedown=f"sha256\n{origin['source_sha256']}\n", whole=False)
    assert rows[0]["sha256"] not in store
    assert origin["source_sha256"] not in store


def test_a_run_stops_at_its_budget_and_the_next_goes_on(download, web):
    links = [web.url(f"files/speaker_0{number}/clip_0.mp4") for number in range(4)]
    rows, decisions = download(listed(*links), run_bytes=1, connections=1, whole=False)
    assert rows == []
    assert {found.reason for found in decisions.values()} == {"budget"}
    rows, decisions = download(listed(*links), run_media_s=5.0, connections=1)
    assert 0 < len(rows) < 4
    rows, _ = download(listed(*links))
    assert len(rows) == 4


def test_a_disk_that_would_fill_up_ends_the_run_cleanly(download, web):
    _, decisions = download(
        listed(web.url("plain"), web.url("404")), min_free_bytes=10**18, whole=False
    )
    assert decisions[web.url("plain")].reason == "disk"


def test_a_host_that_refuses_in_a_row_is_left_for_a_later_run(download, web):
    links = [web.url(f"403/{number}") for number in range(40)]
    _, decisions = download(
        listed(*links),
        connections=1,
        breaker_failures=3,
        breaker_pause_s=0.05,
        breaker_pauses=1,
        whole=False,
    )
    reasons = Counter(found.reason for found in decisions.values())
    assert reasons["forbidden"] < 10
    assert reasons["host_paused"] == 40 - reasons["forbidden"]
    assert len(web.log) == reasons["forbidden"]


def test_a_link_that_dies_after_it_was_fetched_loses_no_clip(download, web, tmp_path):
    text = listed(web.url("dies"))
    assert len(download(text)[0]) == 1
    rows, _ = download(text, revalidate=True)
    assert len(rows) == 1
    outcomes = [one.outcome for one in read_attempts(tmp_path / "ledger" / ATTEMPTS)]
    assert outcomes == ["done", "gone"]


def test_secrets_reach_their_host_and_nothing_that_is_written(download, web, tmp_path, caplog):
    secrets = Secrets(headers={"127.0.0.1": {"Authorization": "Bearer s3cr3t-token"}})
    access = Access(policy=MIRROR.policy, secrets=secrets)
    links = [web.url("plain"), web.url("500"), web.url("404")]
    rows, _ = download(listed(*links), access=access)
    assert len(rows) == 1
    assert all(one.headers["authorization"] == "Bearer s3cr3t-token" for one in web.log)
    assert "s3cr3t" not in caplog.text
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"s3cr3t" not in file.read_bytes(), file


def test_awkward_names_survive_the_way_over_the_web(download, real_clips):
    folder = real_clips / "awkward"
    names = sorted(file.name for file in folder.iterdir())
    with serving(folder=folder) as web:
        quoted = "\n".join(f'"{name}"' for name in names)
        rows, decisions = download(f"source\n{quoted}\n", base=f"{web.base}/files")
        assert len(web.log) == len(names)
    assert set(decisions) == set(names)
    for row in rows:
        assert row["bytes"] == (folder / row["clip_id"]).stat().st_size
    # many names are those of one file
    broken = {
        name: found.reason
        for name, found in decisions.items()
        if found.reason not in ("", "duplicate")
    }
    assert broken == {
        "audio_only.mp4": "no_video",
        "audio_with_cover_art.m4a": "no_video",
        "html_error_page.mp4": "not_a_video",
        "lfs_pointer.mp4": "not_a_video",
        "random_bytes.mp4": "not_a_video",
        "truncated_no_moov.mp4": "corrupt",
        "zero_bytes.mp4": "not_a_video",
    }


def test_sections_of_a_page_are_clips_and_are_not_fetched_again(download, small_corpus, store):
    with serve(small_corpus) as base:
        page = f"yt-dlp+{base}speaker_00/clip_0.mp4"
        text = f"source,speaker_id,start_s,end_s\n{page},a,0.5,1.5\n{page},a,2,3\n{page},a,60,61\n"
        rows, decisions = download(text)
    assert [row["clip_id"].rpartition("#")[2] for row in rows] == ["2000-3000", "500-1500"]
    assert decisions[f"{page}#60000-61000"].reason == "empty_cut"
    lengths = [decode.read_clock(store.path(row["sha256"])).frames for row in rows]
    assert lengths == [25, 25]
    assert download(text)[0] == rows  # the server is gone


def test_objects_of_a_bucket_are_clips(download, clip, store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        client.create_bucket(Bucket="footage")
        client.upload_file(str(clip), "footage", "a #1.mp4")
        rows, decisions = download(listed("s3://footage/a #1.mp4", "s3://footage/none.mp4"))
    finally:
        server.stop()
    assert [row["clip_id"] for row in rows] == ["s3://footage/a #1.mp4"]
    assert store.path(rows[0]["sha256"]).read_bytes() == clip.read_bytes()
    assert decisions["s3://footage/none.mp4"].reason == "not_found"


def test_a_mistake_in_a_late_row_stops_the_run_soon_and_loses_nothing(download, web, store):
    """Though a download is under way that would take minutes."""
    rows = [web.url("plain"), web.url("drip", pause=0.05), *["/none.mp4"] * 1000]
    began = time.monotonic()
    with pytest.raises(InputError, match="end_s"):
        download(
            "source,start_s,end_s\n" + "".join(f"{row},,\n" for row in rows) + "/a.mp4,3,2\n",
            min_bytes_per_s=0.0,
        )
    assert time.monotonic() - began < 30
    rows, _ = download(listed(web.url("plain")))
    assert len(rows) == 1


def test_a_mistake_of_this_program_costs_one_clip_and_is_told(clip, store, tiny, caplog):
    params = tiny.download_videos
    store.folder.mkdir(parents=True)
    fetcher = Fetcher(
        store,
        params,
        access=MIRROR,
        governor=Governor(params),
        budget=Budget(params, store.folder),
        tombstones=None,  # the mistake
        client=None,
        sandboxes=None,
        browsers=None,
    )
    source = source_of(str(clip), base="", folder=clip.parent)
    job = Job(1, str(clip), "file", "", 1, [source], {})
    (result,) = fetcher.bring(job).results.values()
    assert result.reason == "bug"
    assert "AttributeError" in result.detail
    assert "Traceback" in caplog.text
