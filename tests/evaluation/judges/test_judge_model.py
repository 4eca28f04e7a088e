"""An endpoint asks over a real wire, tries again where that helps, and says in one sentence why it cannot."""

import pytest

from evaluation import JudgeError
from evaluation.judges import JudgeModel
from tests.evaluation.endpoint_server import serving

MESSAGES = [{"role": "user", "content": "Hi"}]


def test_a_chat_is_asked_at_temperature_0_with_the_key_of_the_named_variable(monkeypatch):
    monkeypatch.setenv("OWN_KEY", "k-123")
    with serving(lambda body: {"text": "yes", "first": {"yes": -0.1, " no": -2.5}}) as served:
        reply = JudgeModel("judge/m", served.url, "OWN_KEY").chat(MESSAGES, max_tokens=7, logprobs=5)
    assert (reply.text, reply.first) == ("yes", {"yes": -0.1, " no": -2.5})
    (path, headers, body) = served.requests[0]
    assert path == "/v1/chat/completions" and headers["authorization"] == "Bearer k-123"
    assert body == {
        "model": "judge/m", "messages": MESSAGES, "max_tokens": 7, "temperature": 0, "logprobs": True, "top_logprobs": 5,
    }  # fmt: skip


def test_a_key_of_another_service_is_not_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k-not-for-you")
    with serving(lambda body: "ok") as served:
        JudgeModel("m", served.url).chat(MESSAGES, max_tokens=1)
    assert "k-not-for-you" not in str(served.requests)


def test_a_completion_leaves_the_text_as_it_is():
    with serving(lambda body: {"text": " yes", "first": {" yes": -0.2}}) as served:
        reply = JudgeModel("m", served.url).complete("[INST] x [/INST]", max_tokens=1, logprobs=5)
    assert (reply.text, dict(reply.first)) == (" yes", {" yes": -0.2})
    assert served.requests[0][0] == "/v1/completions" and served.bodies[0]["prompt"] == "[INST] x [/INST]"


def test_a_busy_server_is_tried_again():
    answers = iter([503, "at last"])
    with serving(lambda body: next(answers)) as served:
        assert JudgeModel("m", served.url, retries=2).chat(MESSAGES, max_tokens=1).text == "at last"


def test_a_server_that_gives_no_logprobs_is_asked_without_them():
    with serving(lambda body: 400 if "logprobs" in body else "yes") as served:
        endpoint = JudgeModel("m", served.url)
        assert [endpoint.chat(MESSAGES, max_tokens=1, logprobs=5).text for _ in range(2)] == ["yes", "yes"]
    assert ["logprobs" in body for body in served.bodies] == [True, False, False]


@pytest.mark.parametrize(("status", "said"), [(401, "HTTP 401"), (404, "HTTP 404"), (400, "HTTP 400")])
def test_failures_are_one_sentence_without_what_was_asked(status, said):
    with serving(lambda body: status) as served, pytest.raises(JudgeError, match=said) as caught:
        JudgeModel("m", served.url).chat([{"role": "user", "content": "a secret"}], max_tokens=1)
    assert "the judge m at 127.0.0.1" in str(caught.value) and "secret" not in str(caught.value)


def test_nobody_there_and_no_key():
    with serving(lambda body: "") as served:
        pass
    with pytest.raises(JudgeError, match="gave no answer .APIConnectionError.: check"):
        JudgeModel("m", served.url, retries=0).chat(MESSAGES, max_tokens=1)
    with pytest.raises(JudgeError, match="variable NO_SUCH_KEY is not set: export"):
        JudgeModel("m", served.url, "NO_SUCH_KEY")


def test_a_reasoning_model_judges_too():
    """It takes neither `max_tokens` nor a temperature; that it is asked otherwise says nothing of its logprobs."""

    def particular(body):
        for name in ("max_tokens", "temperature"):
            if name in body:
                message = f"'{name}' is not supported with this model. Use 'max_completion_tokens' for 'max_tokens'."
                return 400, {"error": {"message": message, "param": name, "code": "unsupported_parameter"}}
        return {"text": "yes", "first": {"yes": -0.1}}

    with serving(particular) as served:
        endpoint = JudgeModel("m", served.url)
        assert [dict(endpoint.chat(MESSAGES, max_tokens=3, logprobs=5).first) for _ in range(2)] == [{"yes": -0.1}] * 2
    assert len(served.bodies) == 4 and served.bodies[-1]["max_completion_tokens"] == 3


def test_a_filter_before_the_judge_is_named():
    said = 400, {"error": {"message": "filtered", "code": "content_filter"}}
    with (
        serving(lambda body: said) as served,
        pytest.raises(JudgeError, match="filter keeps .* ask another judge"),
    ):
        JudgeModel("m", served.url).chat(MESSAGES, max_tokens=3, logprobs=5)
    assert len(served.bodies) == 1
