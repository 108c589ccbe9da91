"""The judge, by a server on this machine that speaks OpenAI's protocol, and by a tiny local model."""

import base64
import dataclasses
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from PIL import Image

from unclutter.training.evaluation.metrics.facts import METRICS
from unclutter.training.evaluation.metrics.opening import open_metrics
from unclutter.training.evaluation.metrics.result import Result
from unclutter.training.evaluation.raters.endpoint import Endpoint
from unclutter.training.evaluation.raters.judge import Judge, Quality, SuccessRate
from unclutter.training.evaluation.raters.protocols import PROTOCOLS
from unclutter.training.evaluation.raters.settings import JudgeOptions

KEY = "sk-secret-of-the-tests-1234567890"
YES, NO = '{"success": true}', '{"success": false}'


class Server:
    """Answers one after the other: words to say, or (status, headers, body) of an error; keeps what it was asked."""

    def __init__(self):
        self.answers, self.asked, self.headers = [], [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.headers.append((self.path, dict(self.headers)))
                answer = outer.answers.pop(0)
                if callable(answer):
                    answer = answer()
                status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
                if status == 200:
                    message = {"role": "assistant", "content": body}
                    body = json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message}]})
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(body)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Who gave up waiting does not take the answer.
        self.server.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def result():
    mask = torch.zeros(40, 60)
    mask[10:20, 20:40] = 1
    return Result(torch.full((3, 40, 60), 0.2), torch.full((3, 40, 60), 0.6), mask, name="vase")


def endpoint(server, **options):
    return Endpoint(server.url, "seer", KEY, 1.0, **{"tries": 3, "wait": 0.01, **options})


def judge(server, folder, protocol="lrnr", repeats=1, **options):
    return Judge(endpoint(server, **options), PROTOCOLS[protocol], repeats, folder)


def test_the_server_is_asked_by_the_protocol_with_three_pictures(server, tmp_path, result):
    server.answers = [YES]
    assert judge(server, tmp_path).ratings(result) == [{"success": True}]
    (asked,), ((path, headers),) = server.asked, server.headers
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert asked["model"] == "seer" and asked["temperature"] == 1.0
    (message,) = asked["messages"]
    text, *pictures = message["content"]
    assert message["role"] == "user" and text == {"type": "text", "text": PROTOCOLS["lrnr"].question()}
    shown = []
    for picture in pictures:
        kind, data = picture["image_url"]["url"].split(",")
        assert picture["type"] == "image_url" and kind == "data:image/png;base64"
        shown.append(Image.open(io.BytesIO(base64.b64decode(data))))
    assert [each.size for each in shown] == [(60, 40)] * 3
    assert [each.getpixel((30, 15)) for each in shown] == [(51, 51, 51), (153, 26, 26), (153, 153, 153)]
    assert shown[1].getpixel((0, 0)) == (51, 51, 51)


def test_large_pictures_are_scaled_down(server, tmp_path):
    server.answers = [YES]
    large = torch.rand(3, 300, 2000)
    judge(server, tmp_path).ratings(Result(large, large, torch.ones(300, 2000)))
    data = server.asked[0]["messages"][0]["content"][1]["image_url"]["url"].split(",")[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1024, 154)


def test_repeats_count_each_and_are_kept(server, tmp_path, result):
    server.answers = [YES, NO, YES, YES]
    asked = judge(server, tmp_path, repeats=4)
    metric = SuccessRate(METRICS["success"], asked)
    assert metric.measure([result]) == [0.75]
    # From the folder, in another process too; a repeat more is asked for alone.
    assert SuccessRate(METRICS["success"], judge(server, tmp_path, repeats=4)).measure([result]) == [0.75]
    server.answers = [NO]
    assert SuccessRate(METRICS["success"], judge(server, tmp_path, repeats=5)).measure([result]) == [0.6]
    assert len(server.asked) == 5


def test_another_picture_mask_model_or_protocol_is_asked_about_anew(server, tmp_path, result):
    server.answers = [YES]
    judge(server, tmp_path).ratings(result)
    others = [dataclasses.replace(result, after=result.before), dataclasses.replace(result, mask=1 - result.mask)]
    for other in others:
        server.answers = [NO]
        assert judge(server, tmp_path).ratings(other) == [{"success": False}]
    server.answers = [NO]
    asked = judge(server, tmp_path)
    asked.model.name = "another"
    assert asked.ratings(result) == [{"success": False}]
    assert judge(server, tmp_path).ratings(result) == [{"success": True}]


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_then_a_gap(server, tmp_path, result):
    server.answers = ["It looks clean to me.", '{"success": "yes"}', YES]
    assert judge(server, tmp_path).ratings(result) == [{"success": True}]
    other = dataclasses.replace(result, after=result.before)
    server.answers = ["Hm.", "Hm.", "Hm."]
    assert judge(server, tmp_path).ratings(other) == [None]
    assert SuccessRate(METRICS["success"], judge(server, tmp_path)).value([None, None]) is None
    # A gap is not kept, and does not count as a failure.
    server.answers = ["Hm.", "Hm.", "Hm.", YES]
    assert SuccessRate(METRICS["success"], judge(server, tmp_path, repeats=2)).measure([other]) == [1.0]


def test_a_busy_server_is_asked_again(server, tmp_path, result):
    server.answers = [(429, {"Retry-After": "0"}, "{}"), (503, {}, "busy"), YES]
    assert judge(server, tmp_path).ratings(result) == [{"success": True}]
    server.answers = [(500, {}, "")] * 3
    other = dataclasses.replace(result, after=result.before)
    with pytest.raises(ConnectionError, match="seer at http.* gave no answer in 3 tries: it says 500"):
        judge(server, tmp_path).ratings(other)


def test_a_slow_server_is_asked_again(server, tmp_path, result):
    release = threading.Event()

    def late():
        release.wait(5)
        return YES

    server.answers = [late, YES]
    assert judge(server, tmp_path, timeout=0.3).ratings(result) == [{"success": True}]
    release.set()


def test_a_server_that_is_not_there_or_refuses_is_told_without_the_key(server, tmp_path, result, capfd):
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}."}})
    server.answers = [(401, {}, body)]
    with pytest.raises(ConnectionError, match="refuses: 401 Unauthorized, Incorrect API key provided: …") as refused:
        judge(server, tmp_path).ratings(result)
    assert len(server.asked) == 1
    server.answers = [(200, {}, {"no": "words"})]
    with pytest.raises(ConnectionError, match="does not answer as OpenAI's protocol has it"):
        judge(server, tmp_path).ratings(result)
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(ConnectionError, match="gave no answer in 3 tries: it cannot be reached") as gone:
        judge(server, tmp_path).ratings(result)
    told = "".join(str(each.value) for each in (refused, gone)) + "".join(capfd.readouterr())
    assert KEY not in told
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_mild_has_four_scores_and_a_verdict(server, tmp_path, result):
    names = PROTOCOLS["mild"].scores
    server.answers = [
        json.dumps(dict(zip(names, (8, 7, 9, 6), strict=True)) | {"success": True}),
        json.dumps(dict(zip(names, (2, 2, 2, 4), strict=True)) | {"success": False}),
    ]
    asked = judge(server, tmp_path, "mild", repeats=2)
    assert Quality(METRICS["quality"], asked).measure([result]) == [(7.5 + 2.5) / 2]
    assert SuccessRate(METRICS["success"], asked).measure([result]) == [0.5]
    assert len(server.asked) == 2
    server.answers = [YES]
    assert Quality(METRICS["quality"], judge(server, tmp_path)).measure([result]) == [None]


def test_metrics_open_with_a_judge_whose_key_is_in_the_environment(server, tmp_path, result, monkeypatch):
    _, gaps = open_metrics(["success", "quality", "psnr"])
    assert set(gaps) == {"success", "quality"} and "--judge.url" in gaps["success"]
    monkeypatch.setenv("JUDGE_KEY", KEY)
    options = JudgeOptions(server.url, "seer", "JUDGE_KEY", "mild", repeats=1, cache=tmp_path)
    options.check()
    assert KEY not in repr(options)
    opened, gaps = open_metrics(["success", "quality"], judge=options)
    assert not gaps and opened[0].judge is opened[1].judge
    server.answers = [json.dumps(dict.fromkeys(PROTOCOLS["mild"].scores, 6) | {"success": True})]
    assert [metric.measure([result]) for metric in opened] == [[1.0], [6.0]]
    assert server.headers[0][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "localhost:8000", "model": "a"}, "url of the judge is localhost:8000: expected an address"),
        ({"url": "http://localhost/v1"}, "has no model: give its name there as --judge.model"),
        ({"model": "nowhere/model"}, "There is no folder nowhere/model"),
        ({"repeats": 0}, "repeats of the judge is 0"),
        ({"temperature": 3}, "temperature of the judge is 3"),
    ],
)
def test_options_that_do_not_go_together_are_told(options, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        JudgeOptions(**options).check()


def tiny_model(folder):
    """A LLaVA of random weights, in a folder as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *'{}:,"', "success", "true", "false", "picture"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens(["<image>"], special_tokens=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=len(fast),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=2048,
        ),
        image_token_index=words.index("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
        "{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
    )
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def test_a_local_model_is_asked_too_and_its_nonsense_is_a_gap(tmp_path, result):
    torch.manual_seed(0)
    folder = tiny_model(tmp_path / "llava")
    options = JudgeOptions(model=str(folder), repeats=1, cache=tmp_path / "judged")
    options.check()
    (metric,), gaps = open_metrics(["success"], judge=options)
    assert not gaps
    answer = metric.judge.model.answer("picture success?", [picture_file()])
    assert isinstance(answer, str)
    assert metric.measure([result]) == [None] and not (tmp_path / "judged").exists()


def test_a_folder_that_holds_no_such_model_is_a_gap(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    _, gaps = open_metrics(["success"], judge=JudgeOptions(model=str(tmp_path)))
    assert "holds no vision-language model that transformers can load" in gaps["success"]


def picture_file():
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (90, 20, 200)).save(file, "PNG")
    return file.getvalue()
