"""Weights to a hub and back, on a stand-in for its interface on this machine."""

import base64
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
import torch
import yaml

from tests.commands.test_translate import SIZE, SPEC, save
from xdomain.commands.main import main
from xdomain.commands.push import page
from xdomain.errors import UserError
from xdomain.inference import hub
from xdomain.inference.loading import load
from xdomain.inference.packing import pack
from xdomain.methods import DTN

needs_hub = pytest.mark.skipif(hub.installed() is None, reason="huggingface_hub is not installed: pip install '.[hub]'")
TOKEN = "hf_right"


class Answers(BaseHTTPRequestHandler):
    """The part of the hub's interface that a push and a download need."""

    def log_message(self, *args):
        pass

    def answer(self, status, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        repositories = self.server.repositories
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = unquote(self.path.partition("?")[0])
        if path == "/api/validate-yaml":
            return self.answer(200, {"warnings": [], "errors": []})
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if path == "/api/repos/create":
            wanted = json.loads(content)
            name = f"{wanted['organization']}/{wanted['name']}"
            self.server.private[name] = wanted.get("visibility") == "private" or wanted.get("private")
            status = 409 if name in repositories else 200
            repositories.setdefault(name, {"main": []})
            return self.answer(status, {"url": f"{self.server.address}/{name}", "name": name, "id": name})
        name, verb, revision = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/(.+)", path).groups()
        if verb == "branch":
            repositories[name][revision] = []
            return self.answer(201, {})
        if verb == "preupload":
            files = [
                {"path": x["path"], "uploadMode": "regular", "shouldIgnore": False}
                for x in json.loads(content)["files"]
            ]
            return self.answer(200, {"files": files})
        entries = [json.loads(line) for line in content.splitlines()]
        files = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in entries if x["key"] == "file"}
        sha = hashlib.sha1(content).hexdigest()
        repositories[name][revision].append((sha, files))
        return self.answer(200, {"commitUrl": f"{self.server.address}/{name}/commit/{sha}", "commitOid": sha})

    def do_GET(self):
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append((self.command, path))
        name, verb, rest = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)/(\w+)/(.+)", path).groups()
        revision, _, file = rest.partition("/")
        if name not in self.server.repositories:
            return self.answer(404, {"error": "no"}, X_Error_Code="RepoNotFound")
        branches = self.server.repositories[name]
        commits = {sha: files for commits in branches.values() for sha, files in commits}
        commits |= {branch: commits[-1][1] for branch, commits in branches.items() if commits}
        if revision not in commits:
            return self.answer(404, {"error": "no"}, X_Error_Code="RevisionNotFound")
        files = commits[revision]
        sha = next(sha for sha, known in commits.items() if known is files)
        if verb == "revision":
            told = self.server.told
            siblings = [{"rfilename": x, "size": told.get(x, len(content))} for x, content in files.items()]
            return self.answer(200, {"id": name, "sha": sha, "siblings": siblings, "tags": [], "downloads": 0})
        if file not in files:
            return self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound")
        etag = hashlib.sha1(files[file]).hexdigest()
        return self.answer(200, files[file], X_Repo_Commit=sha, ETag=f'"{etag}"')

    do_HEAD = do_GET


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stand-in for the hub at HF_ENDPOINT, with a token that it knows."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    serving.address = f"http://127.0.0.1:{serving.server_address[1]}"
    serving.repositories, serving.private, serving.told, serving.asked = {}, {}, {}, []
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", serving.address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    serving.ended = False

    def end():
        if not serving.ended:
            serving.shutdown()
            serving.server_close()
            thread.join(20)
            serving.ended = True

    serving.end = end
    yield serving
    end()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder of an untrained DTN whose test has been written."""
    folder = tmp_path_factory.mktemp("runs") / "dtn"
    torch.manual_seed(0)
    method = DTN(f=SPEC, domains=("colour", "grey"), channels=(3, 1), image_size=SIZE)
    save(method, folder / "checkpoints" / "last.ckpt")
    (folder / "run.json").write_text(json.dumps({"recipe": "dtn", "commit": "abc", "seed": 3, "steps": 7}))
    metrics = {"accuracy@handwritten-classifier": 0.925, "accuracy": 0.5}
    (folder / "results.json").write_text(json.dumps({"recipe": "dtn", "metrics": metrics}))
    return folder


@pytest.fixture
def there(server, run, tmp_path):
    """A repository with packed weights, and its files; changes to them are what is downloaded."""
    pack(run, tmp_path / "model.safetensors")
    files = {
        "model.safetensors": (tmp_path / "model.safetensors").read_bytes(),
        "config.json": (tmp_path / "model.json").read_bytes(),
    }
    server.repositories["me/mine"] = {"main": [("a" * 40, files)]}
    return files


def same(one, other):
    """Whether two methods have the same weights, but for D, which is not packed."""
    one, other = ({k: v for k, v in method.state_dict().items() if k[:2] != "D."} for method in (one, other))
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


# ---------------------------------------------------------------- there and back


@needs_hub
def test_what_is_pushed_is_loaded_as_it_was_packed(server, run, tmp_path, capsys):
    assert main(["push", str(run), "me/my-dtn", "--private"]) == 0
    name = re.fullmatch(rf"pushed {run}: --ckpt_path (hf:me/my-dtn@\w{{40}})\n", capsys.readouterr().out)[1]
    assert server.private["me/my-dtn"]
    (((_, files),),) = server.repositories["me/my-dtn"].values()
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    pack(run, tmp_path / "x.safetensors")
    assert files["model.safetensors"] == (tmp_path / "x.safetensors").read_bytes()
    assert json.loads(files["config.json"]) == json.loads((tmp_path / "x.json").read_text())
    expected = load(tmp_path / "x.safetensors")
    assert same(load(name), expected)
    assert same(load("hf:me/my-dtn"), expected)
    fetched = [path for verb, path in server.asked if verb == "GET" and "/resolve/" in path]
    assert len(fetched) == 2  # a commit is downloaded once


@needs_hub
def test_packed_weights_are_pushed_as_they_are_to_a_branch(server, there, capsys):
    assert main(["push", "model.safetensors", "me/other", "--revision", "second"]) == 0
    (((_, files),),) = [commits for commits in server.repositories["me/other"].values() if commits]
    assert {name: files[name] for name in there} == there
    assert load("hf:me/other@second").domains == ("colour", "grey")
    with pytest.raises(UserError, match="hf:me/other@third does not exist: me/other has no revision third"):
        load("hf:me/other@third")


@needs_hub
def test_a_commit_stays_what_it_is(server, there, run):
    old = load("hf:me/mine")
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"] = {key: value * 0.5 for key, value in content["state_dict"].items()}
    torch.save(content, "half.ckpt")
    assert main(["push", "half.ckpt", "me/mine"]) == 0
    assert not same(load("hf:me/mine"), old)
    assert same(load(f"hf:me/mine@{'a' * 40}"), old)


@needs_hub
def test_without_a_connection_what_was_downloaded_is_used(server, there):
    known = load(f"hf:me/mine@{'a' * 40}")
    server.end()
    assert same(load(f"hf:me/mine@{'a' * 40}"), known)
    with pytest.raises(UserError, match=r"the Hub cannot be used for hf:me/none \(\w+\): try again later"):
        load("hf:me/none")


def test_the_page_says_how_weights_are_used_trained_and_measured(run, tmp_path):
    card = pack(run, tmp_path / "x.safetensors")
    text = page(card, "me/my-dtn")
    metadata, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(metadata)["library_name"] == "xdomain"
    assert "xdomain translate --ckpt_path hf:me/my-dtn --input photos --output translated" in body
    assert re.search(r"^\| recipe \| street → handwritten, % \|", body, re.MULTILINE)
    assert "| `dtn` | 92.5 |" in body
    assert "| accuracy | 0.5 |" in body
    assert "| commit | abc |" in body
    assert "without D," in body
    changed = page({**card, "overrides": {"trainer.max_steps": 3}}, "me/my-dtn")
    assert "92.5" not in changed  # it is not the recipe of the table
    assert "| `trainer.max_steps` | 3 |" in changed


# ---------------------------------------------------------------- what is refused


@needs_hub
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf:", "an empty name is no repository of the Hub: give OWNER/NAME"),
        ("hf:mine", "mine is no repository of the Hub"),
        ("hf:../..", r"\.\./\.\. is no repository of the Hub"),
        ("hf:/etc/passwd", "/etc/passwd is no repository of the Hub"),
        ("hf:me/mine/model.safetensors", "is no repository of the Hub"),
        ("hf:me/none", "hf:me/none does not exist, or you may not see it: check the name, and log in"),
        ("hf:me/mine@v7", "hf:me/mine@v7 does not exist: me/mine has no revision v7"),
        ("hf:me/mine@../../x", "me/mine has no revision ../../x"),
    ],
)
def test_names_without_weights(server, there, name, sentence):
    with pytest.raises(UserError, match=sentence):
        load(name)


@needs_hub
def test_only_two_files_of_a_size_that_fits_are_downloaded(server, there):
    there["pytorch_model.bin"] = b"\x80\x04cos\nsystem\n"
    server.told["config.json"] = 2**20 + 1
    with pytest.raises(UserError, match=r"hf:me/mine is refused: its config\.json has more than 1,048,576 bytes"):
        load("hf:me/mine")
    server.told["config.json"] = None
    with pytest.raises(UserError, match=r"its config\.json has more"):
        load("hf:me/mine")
    del server.told["config.json"]
    server.told["model.safetensors"] = 5 * 2**30
    with pytest.raises(UserError, match=r"its model\.safetensors has more than 4,294,967,296 bytes"):
        load("hf:me/mine")
    assert not [path for _, path in server.asked if "/resolve/" in path]
    server.told["model.safetensors"] = 10
    with pytest.raises(UserError, match=r"its model\.safetensors has not the size that the Hub tells"):
        load("hf:me/mine")
    del server.told["model.safetensors"]
    load("hf:me/mine")
    assert {path.rpartition("/")[2] for _, path in server.asked if "/resolve/" in path} == {
        "config.json",
        "model.safetensors",
    }
    del there["model.safetensors"]
    with pytest.raises(UserError, match=r"holds no model\.safetensors, so that it is no repository of `xdomain push`"):
        load("hf:me/mine")


@needs_hub
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "os.system"}, r"os\.system, which is neither of xdomain nor of torch"),
        ({"method": 5}, "does not name its method"),
        ({"left_out": 5}, r"has no card config\.json"),
        ({"settings": "x"}, r"has no card config\.json"),
        ({"sha256": "0"}, "is damaged: its checksum is not that of its card"),
        (None, r"has no card config\.json"),
    ],
)
def test_a_card_that_cannot_be(server, there, change, sentence):
    card = json.loads(there["config.json"])
    there["config.json"] = b"[" * 100_000 if change is None else json.dumps(card | change).encode()
    with pytest.raises(UserError, match=sentence):
        load("hf:me/mine")


@needs_hub
def test_a_push_that_may_not_be(server, run, monkeypatch, capsys):
    def refused(*words):
        assert main(["push", *words]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err.removeprefix("xdomain: error: ").rstrip()

    assert refused(str(run), "mine") == "mine is no repository of the Hub: give OWNER/NAME."
    assert "absent does not exist" in refused("absent", "me/x")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert (
        refused(str(run), "me/x") == "hf:me/x is refused by the Hub: log in by `hf auth login` with a token that may."
    )
    monkeypatch.setattr(hub.installed(), "get_token", lambda: None)
    assert refused(str(run), "me/x") == "you are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN."
    assert server.repositories == {}


def test_a_missing_package_is_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    way = "which is not installed: run `pip install huggingface_hub`."
    assert main(["push", str(run), "me/x"]) == 2
    assert capsys.readouterr().err == f"xdomain: error: xdomain push needs huggingface_hub, {way}\n"
    assert main(["translate", "--ckpt_path", "hf:me/x", "--input", str(run), "--output", "out"]) == 2
    assert capsys.readouterr().err == f"xdomain: error: hf:me/x needs huggingface_hub, {way}\n"
