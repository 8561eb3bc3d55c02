"""The prediction service over real HTTP and PostgreSQL: what it answers, and what it says when it cannot."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from bid_assets.deployments.events import active_model
from bid_assets.serving.models.loaded_model import LoadedModel
from bid_assets.serving.online_features import OnlineFeatures
from bid_assets.serving.schemas import BidIn
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.platforms import Platform
from bid_assets_tests.serving.servers import Server, bids_of, serving

pytestmark = pytest.mark.slow

DEEP = "deep"
"""Stands for objects in objects, `LEVELS` of them: more than Python's own encoder writes."""
LEVELS = 1000


@pytest.fixture(scope="module")
def server(platform: Platform) -> Iterator[Server]:
    with serving(platform) as running:
        yield running


@pytest.fixture(scope="module")
def bids(platform: Platform) -> list[dict[str, Any]]:
    return bids_of(platform, 40)


@pytest.fixture(scope="module")
def model(platform: Platform) -> LoadedModel:
    active = active_model(platform.store)
    assert active is not None
    return LoadedModel.load(platform.store, active.model)


@pytest.fixture(scope="module")
def features(platform: Platform, bids: list[dict[str, Any]]) -> pa.Table:
    """Of the bids, made in this process."""
    online = OnlineFeatures(platform.settings)
    yield online.features([BidIn(**bid).to_request() for bid in bids]).table
    online.close()


def content(body: dict[str, Any]) -> dict[str, Any]:
    """The options of a request with this JSON as its body."""
    text = json.dumps(body).replace(json.dumps(DEEP), '{"a":' * LEVELS + "1" + "}" * LEVELS)
    return {"content": text, "headers": {"Content-Type": "application/json"}}


def test_a_prediction_is_what_the_model_says_of_the_features_of_that_time(
    server: Server, bids: list[dict[str, Any]], model: LoadedModel, features: pa.Table
) -> None:
    expected = model.scorer.predict(features)
    for bid, probability in zip(bids[:10], expected, strict=False):
        answer = server.post("/predict", bid)
        assert answer["probability"] == probability
        assert answer["decision"] == (probability >= model.threshold)
        assert (answer["model_version"], answer["variant"]) == (model.version, "active")
        assert answer["dataset_version"] == model.dataset_version
        assert answer["features"]["as_of"][:19] == bid["at"][:19]


def test_a_batch_answers_in_order_what_each_bid_alone_is_answered(server: Server, bids: list[dict[str, Any]]) -> None:
    answers = server.post("/predict/batch", {"bids": bids})["predictions"]
    alone = [server.post("/predict", bid) for bid in bids[:5]]
    assert len(answers) == len(bids)
    assert [answer["probability"] for answer in answers[:5]] == [answer["probability"] for answer in alone]
    assert len({answer["prediction_id"] for answer in answers + alone}) == len(bids) + 5


def test_a_thousand_bids_are_answered_at_once(server: Server, bids: list[dict[str, Any]]) -> None:
    many = [bids[number % len(bids)] for number in range(1000)]
    assert len(server.post("/predict/batch", {"bids": many})["predictions"]) == 1000


def test_ready_features_are_answered_as_the_service_answers_from_its_own(
    server: Server, bids: list[dict[str, Any]], features: pa.Table
) -> None:
    known = [{name: value for name, value in row.items() if value is not None} for row in features.slice(0, 3).to_pylist()]
    rows = [{"profile_id": row.pop("profile_id"), "features": row} for row in known]
    own = [server.post("/predict", bid)["probability"] for bid in bids[:3]]
    one = server.post("/predict/features", rows[0])
    several = server.post("/predict/features", {"rows": rows})["predictions"]
    assert one["probability"] == own[0]
    assert [answer["probability"] for answer in several] == own
    assert one["missing"] == [name for name in features.column_names[1:] if name not in rows[0]["features"]]


def test_the_contributions_of_an_explanation_add_up_to_the_prediction(server: Server, bids: list[dict[str, Any]]) -> None:
    told = server.post("/predict/explain", bids[0])
    assert told["base"] + sum(each["log_odds"] for each in told["contributions"]) == pytest.approx(told["log_odds"])
    assert 1 / (1 + math.exp(-told["log_odds"])) == pytest.approx(told["probability"], abs=1e-5)
    sizes = [abs(each["log_odds"]) for each in told["contributions"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "multiplies the odds of success by" in told["contributions"][0]["words"]


def test_what_if_gives_the_expected_value_of_every_amount_at_every_moment(server: Server, bids: list[dict[str, Any]]) -> None:
    bid, later = bids[0], "2030-01-05T10:00:00Z"
    asked = {"bid": bid, "amounts": [100, bid["amount"]], "times": [bid["at"], later], "cost": 2, "gain": 50}
    told = server.post("/predict/what-if", asked)
    assert [cell["amount"] for cell in told["grid"]] == [100, 100, bid["amount"], bid["amount"]]
    assert told["grid"][2]["probability"] == server.post("/predict", bid)["probability"]
    for cell in told["grid"]:
        assert cell["expected_value"] == pytest.approx(cell["probability"] * 50 - 2)
    assert told["best"] == max(told["grid"], key=lambda cell: cell["expected_value"])


def test_what_nobody_knows_is_named_and_predicted_without(server: Server) -> None:
    answer = server.post("/predict", {"profile_id": "nobody", "job_id": "nothing", "bid_text": " "})
    assert answer["features"]["missing"] == [
        "profile unknown",
        "job unknown",
        "no history",
        "no bid text",
        "no amount",
        "no settings",
        "no external signals",
    ]
    assert answer["features"]["newest_outcome"] is None
    assert 0 < answer["probability"] < 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, ["no settings"]),
        ({"duration_weeks": 2, "is_fixed_price": True}, ["no budget"]),
        ({"budget": "much"}, ["no budget", "no duration_weeks", "no is_fixed_price"]),
        ({"budget": 600, "duration_weeks": 2, "is_fixed_price": True}, []),
    ],
)
@pytest.mark.parametrize("count", [1, 300])
def test_terms_that_are_not_stated_are_named(
    server: Server, bids: list[dict[str, Any]], settings: dict[str, Any] | None, words: list[str], count: int
) -> None:
    """Whether few bids are asked about or many, which are computed in another way; and in what-if."""
    bid = {**bids[0], "settings": settings}
    terms = {"no settings", "no budget", "no duration_weeks", "no is_fixed_price"}
    answers = server.post("/predict/batch", {"bids": [bid] * count})["predictions"]
    grid = server.post("/predict/what-if", {"bid": bid, "amounts": [100, 200]})
    for missing in (answers[-1]["features"]["missing"], grid["missing"]):
        assert [word for word in missing if word in terms] == words


def test_where_the_gain_is_a_share_of_the_amount_the_value_grows_with_it(server: Server, bids: list[dict[str, Any]]) -> None:
    asked = {"bid": bids[0], "amounts": [100, 1000, 100_000], "cost": 2, "gain_share": 0.2}
    cells = server.post("/predict/what-if", asked)["grid"]
    assert [cell["gain"] for cell in cells] == pytest.approx([20, 200, 20_000])
    for cell in cells:
        assert cell["expected_value"] == pytest.approx(cell["probability"] * cell["gain"] - 2)


def test_a_job_may_come_as_text(server: Server, bids: list[dict[str, Any]]) -> None:
    bid = {**bids[0], "job_id": None, "job": {"title": "A shop", "required_skills": ["python"]}}
    assert "job unknown" not in server.post("/predict", bid)["features"]["missing"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/predict", {"profile_id": ""}, "profile_id"),
        ("/predict", {"profile_id": "p", "amount": -1}, "amount"),
        ("/predict", {"profile_id": "p", "amount": "much"}, "amount"),
        ("/predict", {"profile_id": "p", "at": "yesterday"}, "at"),
        ("/predict", {"profile_id": "p", "at": "0001-01-01T00:00:00+05:00"}, "at"),
        ("/predict", {"profile_id": "p", "at": "9999-12-31T23:59:59-05:00"}, "at"),
        ("/predict", {"profile_id": "p", "ammount": 3}, "ammount"),
        ("/predict", {"profile_id": "p", "job": {"required_skills": [1]}}, "job.required_skills.0"),
        ("/predict/batch", {"bids": []}, "bids"),
        ("/predict/batch", {"bids": [{}, {"profile_id": "p", "ammount": 3}]}, "bids.1.ammount"),
        ("/predict/what-if", {"bid": {"profile_id": "p"}, "amounts": [-1]}, "amounts.0"),
        ("/predict/what-if", {"bid": {"profile_id": "p"}, "gain_share": 0.2}, "body"),
        ("/predict/what-if", {"bid": {"profile_id": "p", "amount": 5}, "gain_share": 0.2, "gain": 7}, "body"),
        ("/predict", {"profile_id": "p", "amount": True}, "amount"),
        ("/predict", {"profile_id": "p", "amount": "1_500"}, "amount"),
        ("/predict/what-if", {"bid": {"profile_id": "p"}, "gain": True}, "gain"),
        ("/predict/features", {"features": {"amount": True}}, "features.amount"),
        ("/predict", {"profile_id": "p", "settings": DEEP}, "settings"),
        ("/predict", {"profile_id": "p", "external_signals": {"seen": DEEP}}, "external_signals"),
        ("/predict", {"profile_id": "p", "amount": DEEP}, "amount"),
        ("/predict/features", {"features": {"amount": DEEP}}, "features"),
        ("/predict", {"profile_id": "p", "at": 1717156800}, "at"),
        ("/predict/features", {"features": {"amount": "much"}}, "features.amount"),
        ("/predict/features", {"features": {"amuont": 3}}, "features.amuont"),
        ("/predict/features", {"features": {"profile_skills": 3}}, "features.profile_skills"),
        ("/predict/features", {"rows": []}, "rows"),
    ],
)
def test_malformed_input_is_refused_by_the_name_of_its_field(
    server: Server, path: str, body: dict[str, Any], field: str
) -> None:
    answer = server.http.post(path, **content(body))
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert field in [each["field"] for each in error["fields"]]
    assert error["request_id"]


def test_a_bid_of_a_batch_that_is_not_what_it_must_be_keeps_no_other_from_its_answer(
    server: Server, bids: list[dict[str, Any]]
) -> None:
    wrong = [{**bids[1], "settings": DEEP}, {**bids[1], "amount": True}, {"profile_id": ""}, 7]
    told = server.http.post("/predict/batch", **content({"bids": [bids[0], *wrong, bids[2]]})).json()["predictions"]
    alone = [server.post("/predict", bid)["probability"] for bid in (bids[0], bids[2])]
    assert [told[0]["probability"], told[-1]["probability"]] == alone
    errors = [each["error"] for each in told[1:-1]]
    assert [error["code"] for error in errors] == ["invalid"] * 4
    fields = ["bids.1.settings", "bids.2.amount", "bids.3.profile_id", "bids.4"]
    assert [error["fields"][0]["field"] for error in errors] == fields


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"profile_id": "p", "x" * 1_000_000: 1}),
        ("/predict", {"profile_id": "p", **{f"{number}{'x' * 1000}": 1 for number in range(900)}}),
        ("/predict", {"profile_id": "p", "at": "x" * 90_000}),
        ("/predict/features", {"features": {"x" * 1_000_000: 1}}),
        ("/predict/features", {"features": {"amount": "x" * 1_000_000}}),
        ("/predict/batch", {"bids": [{"x" * 1_000_000: 1}]}),
    ],
)
def test_an_error_repeats_no_more_than_a_person_reads(server: Server, path: str, body: dict[str, Any]) -> None:
    answer = server.http.post(path, json=body)
    assert answer.status_code == 422
    assert len(answer.content) < 100_000
    assert all(len(each["field"]) < 300 for each in answer.json()["error"]["fields"])


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/features"])
def test_a_compressed_body_is_refused_by_its_encoding(server: Server, path: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = server.http.post(path, content=gzip.compress(b'{"profile_id": "p"}'), headers=headers)
    assert answer.status_code == 415
    assert "gzip" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/model"])
def test_head_is_answered_wherever_get_is(server: Server, path: str) -> None:
    answer = server.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/predict", "/predict/features"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe{}", b"[]"])
def test_a_body_that_is_no_json_object_is_refused(server: Server, path: str, body: bytes) -> None:
    answer = server.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], [each["field"] for each in error["fields"]]) == ("invalid", ["body"])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_does_not_say_that_it_is_json_is_refused(server: Server, kind: str | None) -> None:
    """A page of any site can make a browser send such a body to a service on the same machine."""
    headers = {} if kind is None else {"Content-Type": kind}
    answer = server.http.post("/predict", content=b'{"profile_id": "p"}', headers=headers)
    assert answer.status_code == 422
    assert "Content-Type must be application/json" in answer.json()["error"]["message"]


def test_the_model_is_described_with_metrics_and_lineage(server: Server, platform: Platform, model: LoadedModel) -> None:
    told = server.get("/model")
    assert told["active"]["model_version"] == model.version
    assert told["active"]["metrics"]["roc_auc"] == platform.head("metrics_report").info["roc_auc"]
    assert told["lineage"]["version"] == model.version
    assert "raw_bids" in str(told["lineage"])
    assert told["active"]["since"]


def test_the_openapi_description_names_every_endpoint_and_has_examples(server: Server) -> None:
    told = server.get("/openapi.json")
    paths = {"/predict", "/predict/batch", "/predict/explain", "/predict/what-if", "/predict/features"}
    assert paths | {"/model", "/health", "/ready", "/metrics", "/reload"} <= set(told["paths"])
    assert told["components"]["schemas"]["BidIn"]["examples"]


def test_an_unknown_path_is_told_in_the_shape_of_all_errors(server: Server) -> None:
    assert server.get("/nothing", status=404)["error"]["code"] == "not found"


def recipe(language: str, server: Server) -> str:
    """The first block of this language in the page about the service, for this server."""
    page = (CHECKOUT / "docs" / "how-to" / "call_the_service.md").read_text()
    block = page.split(f"```{language}\n")[1].split("```")[0]
    assert "http://127.0.0.1:8000" in block
    return block.replace("http://127.0.0.1:8000", server.url)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_recipe_with_curl_runs_as_written(server: Server) -> None:
    told = subprocess.run(recipe("", server), shell=True, capture_output=True, check=True).stdout
    assert 0 < json.loads(told)["probability"] < 1


def test_the_recipe_in_python_runs_as_written(server: Server) -> None:
    told = subprocess.run([sys.executable, "-c", recipe("python", server)], capture_output=True, text=True, check=True).stdout
    assert "best amount:" in told
    assert "multiplies the odds of success by" in told
