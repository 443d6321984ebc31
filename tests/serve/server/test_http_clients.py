"""HTTP clients of other languages, in their default and other settings; one that is not installed is skipped."""

import json
import os
import shutil
import subprocess

import pytest

BODY = json.dumps({"response": "you worked hard"})
LONG = json.dumps({"responses": ["you worked hard on this " * 40] * 900})

JAVA = """
import java.net.URI; import java.net.http.*; import java.net.http.HttpRequest.*; import java.io.*;
public class Ask { public static void main(String[] a) throws Exception {
  String url = a[0], body = a[1], setting = a[2];
  HttpClient.Builder b = HttpClient.newBuilder();
  if (setting.equals("http/1.1")) b.version(HttpClient.Version.HTTP_1_1);
  HttpClient client = b.build();
  for (int i = 0; i < 3; i++) {
    BodyPublisher p = setting.equals("chunked")
      ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body.getBytes())) : BodyPublishers.ofString(body);
    HttpRequest.Builder r = HttpRequest.newBuilder(URI.create(url + "/v1/score")).POST(p);
    if (setting.equals("expect")) r.expectContinue(true);
    HttpResponse<String> s = client.send(r.build(), HttpResponse.BodyHandlers.ofString());
    System.out.println(s.statusCode() + " " + s.version() + " " + s.body().substring(0, 60).replace("\\n", ""));
  } } }
"""
GO = """
package main
import ("bytes"; "fmt"; "io"; "net/http"; "os"; "time")
func main() {
  transport := &http.Transport{ExpectContinueTimeout: 10 * time.Second, DisableKeepAlives: os.Args[3] == "close"}
  client := &http.Client{Transport: transport}
  for i := 0; i < 3; i++ {
    var body io.Reader = bytes.NewReader([]byte(os.Args[2]))
    if os.Args[3] == "chunked" { body = io.MultiReader(body) }
    request, _ := http.NewRequest("POST", os.Args[1]+"/v1/score", body)
    if os.Args[3] == "expect" { request.Header.Set("Expect", "100-continue") }
    answer, err := client.Do(request)
    if err != nil { panic(err) }
    content, _ := io.ReadAll(answer.Body)
    answer.Body.Close()
    fmt.Println(answer.StatusCode, string(content[:60]))
  }
}
"""
NODE = {
    "fetch": """
const [, url, body] = process.argv;
for (let i = 0; i < 3; i++) {
  const answer = await fetch(url + "/v1/score", { method: "POST", body });
  console.log(answer.status, (await answer.text()).slice(0, 60));
}""",
    "fetch, chunked": """
const [, url, body] = process.argv;
for (let i = 0; i < 3; i++) {
  const stream = new Blob([body]).stream();
  const answer = await fetch(url + "/v1/score", { method: "POST", body: stream, duplex: "half" });
  console.log(answer.status, (await answer.text()).slice(0, 60));
}""",
    "http, keep-alive": """
import http from "node:http";
const [, url, body] = process.argv, agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
for (let i = 0; i < 3; i++) await new Promise((done) => {
  http.request(url + "/v1/score", { method: "POST", agent }, (answer) => {
    let text = ""; answer.on("data", (part) => text += part);
    answer.on("end", () => { console.log(answer.statusCode, text.slice(0, 60)); done(); });
  }).end(body);
});
agent.destroy();""",
    "http, expect": """
import http from "node:http";
const [, url, body] = process.argv;
for (let i = 0; i < 3; i++) await new Promise((done) => {
  const headers = { Expect: "100-continue", "Content-Length": Buffer.byteLength(body) };
  const request = http.request(url + "/v1/score", { method: "POST", headers }, (answer) => {
    let text = ""; answer.on("data", (part) => text += part);
    answer.on("end", () => { console.log(answer.statusCode, text.slice(0, 60)); done(); });
  });
  request.on("continue", () => request.end(body));
});""",
}
CURL = {
    "default": (),
    "--http2": ("--http2",),
    "--http1.0": ("--http1.0",),
    "chunked": ("-H", "Transfer-Encoding: chunked"),
    "--http2, chunked": ("--http2", "-H", "Transfer-Encoding: chunked"),
    "Expect": ("-H", "Expect: 100-continue", "--expect100-timeout", "20"),
    "--http2, Expect": ("--http2", "-H", "Expect: 100-continue", "--expect100-timeout", "20"),
    "Connection: close": ("-H", "Connection: close"),
}


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder)) as server:
        yield server


def program(name: str) -> str:
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, **settings) -> list[str]:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, **settings)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def check(lines: list[str]) -> None:
    assert len(lines) == 3
    assert all(line.startswith("200 ") and '"model":"praise"' in line for line in lines), lines


@pytest.mark.parametrize("setting", ["default", "http/1.1", "chunked", "expect"])
def test_openjdk_httpclient(server, tmp_path, setting):
    """Its default offers h2c with every request on plain HTTP."""
    file = tmp_path / "Ask.java"
    file.write_text(JAVA)
    check(run(program("java"), "-Xmx200m", str(file), server.url, BODY, setting))


@pytest.mark.parametrize("setting", CURL)
def test_curl(server, setting):
    one = ("-sS", "-w", "%{http_code} %{http_version}\n", "--data-binary", BODY, *CURL[setting])
    url = f"{server.url}/v1/score"
    lines = run(program("curl"), *one, url, "--next", *one, url, "--next", *one, url)
    assert len(lines) == 3
    assert all('"model":"praise"' in line and "}200 1." in line for line in lines), lines


@pytest.mark.parametrize("options", [("--http2",), ("--http2", "-H", "Expect: 100-continue"), ("-T", "-")])
def test_curl_with_a_long_body(server, options):
    command = (program("curl"), "-sS", "-X", "POST", "-o", os.devnull, "-w", "%{http_code}\n", *options)
    body = () if "-T" in options else ("--data-binary", "@-")
    ended = subprocess.run(
        [*command, *body, f"{server.url}/v1/score"], input=LONG, capture_output=True, text=True, timeout=280, check=True
    )
    assert ended.stdout == "200\n"


@pytest.mark.parametrize("setting", ["default", "close", "chunked", "expect"])
def test_go_net_http(server, tmp_path, setting):
    file = tmp_path / "ask.go"
    file.write_text(GO)
    cached = tmp_path.parent / "go-ask"
    if not cached.exists():
        run(program("go"), "build", "-o", str(cached), str(file))
    check(run(str(cached), server.url, BODY, setting))


@pytest.mark.parametrize("setting", NODE)
def test_node(server, setting):
    check(run(program("node"), "--input-type=module", "-e", NODE[setting], server.url, BODY))


@pytest.mark.parametrize("options", [(), ("--no-http-keep-alive",)])
def test_wget(server, options):
    lines = run(program("wget"), "-qO-", f"--post-data={BODY}", *options, f"{server.url}/v1/score")
    assert '"model":"praise"' in lines[0]


def test_dotnet(server, tmp_path):
    program("dotnet")
    run("dotnet", "new", "console", "-o", str(tmp_path / "Ask"))
    (tmp_path / "Ask" / "Program.cs").write_text(
        "var client = new HttpClient(); for (var i = 0; i < 3; i++) {"
        'var answer = await client.PostAsync(args[0] + "/v1/score", new StringContent(args[1]));'
        'Console.WriteLine((int)answer.StatusCode + " " + (await answer.Content.ReadAsStringAsync())[..60]); }'
    )
    check(run("dotnet", "run", "--project", str(tmp_path / "Ask"), "--", server.url, BODY))
