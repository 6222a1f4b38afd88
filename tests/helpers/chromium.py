"""A headless Chromium, spoken to over its DevTools protocol: what a page logs, and what its script says of it."""

import json
import re
import shutil
import subprocess
import tempfile

import websocket

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def is_error(method: str, params: dict) -> bool:
    "Whether an event of the protocol says that something went wrong in the page"
    if method in ("Runtime.exceptionThrown", "Network.loadingFailed"):
        return True
    if method == "Runtime.consoleAPICalled":
        return params["type"] == "error"
    return method == "Log.entryAdded" and params["entry"]["level"] == "error"


class Chromium:
    "One browser with one tab: `with Chromium() as browser: browser.open(url, width)`."

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-allow-origins=*"]
        command = [BROWSER, *flags, "--remote-debugging-port=0", f"--user-data-dir={self.home.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        address = next(m[1] for line in self.process.stderr if (m := re.search(r"listening on (ws://\S+)", line)))
        self.socket, self.n, self.events, self.session = websocket.create_connection(address, timeout=60), 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.home.cleanup()

    def receive(self) -> dict:
        "The next message; events are kept"
        message = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def call(self, method: str, **params) -> dict:
        "The answer to a command of the protocol"
        self.n += 1
        request = {"id": self.n, "method": method, "params": params}
        self.socket.send(json.dumps(request | ({"sessionId": self.session} if self.session else {})))
        while (message := self.receive()).get("id") != self.n:
            pass
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def open(self, url: str, width: int, height: int = 900, dark: bool = False) -> list:
        "Load a page in a window of `width` pixels; the errors that it logs, and its requests that fail"
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        palette = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[palette])
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.receive()
        self.run("new Promise(done => setTimeout(done, 300))")  # scripts that start when the page has loaded
        return [e for e in self.events if is_error(e["method"], e["params"])]

    def run(self, script: str):
        "The value of a JavaScript expression in the page"
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")
